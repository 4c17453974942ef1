"""Throughput: clips and tokens per second of a batch or a run, and waiting times."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from clipdex.runs.outcomes import ClipOutcome, Origin


@dataclass(frozen=True, slots=True)
class Throughput:
    """Hold the throughput of an engine over a set of clips.

    clips: number of clips captioned by the engine
    wall_s: from the first request to the last response [s]
    p50_s, p95_s: engine time per clip [s]
    gpu_s: sum of GPU time [GPU-seconds], 0 if the engine does not report its load
    engine_s: sum of engine time [s]
    preparing_s: sum of time to fetch, digest and decode [s]
    waiting_s: sum of time from decoded to sent [s]
    """

    clips: int = 0
    wall_s: float = 0.0
    output_tokens: int = 0
    p50_s: float = 0.0
    p95_s: float = 0.0
    gpu_s: float = 0.0
    engine_s: float = 0.0
    preparing_s: float = 0.0
    waiting_s: float = 0.0

    @property
    def clips_per_s(self) -> float:
        return self.clips / self.wall_s if self.wall_s else 0.0

    @property
    def tokens_per_s(self) -> float:
        return self.output_tokens / self.wall_s if self.wall_s else 0.0

    def __str__(self) -> str:
        of_gpus = f", {self.gpu_s / self.clips:.3f} GPU-seconds per clip" if self.gpu_s else ""
        return (
            f"{self.clips_per_s:.2f} clips/s, {self.tokens_per_s:.0f} output tokens/s{of_gpus}, "
            f"p50 {self.p50_s:.1f} s, p95 {self.p95_s:.1f} s"
        )


def throughput(outcomes: Iterable[ClipOutcome]) -> Throughput:
    """Return the throughput over the clips that the engine captioned in this run."""
    captioned = [one for one in outcomes if one.origin == Origin.NEW and one.answered_at]
    if not captioned:
        return Throughput()
    ends = [datetime.fromisoformat(one.answered_at).timestamp() for one in captioned]
    starts = [end - one.seconds for end, one in zip(ends, captioned, strict=True)]
    seconds = sorted(one.seconds for one in captioned)
    return Throughput(
        clips=len(captioned),
        wall_s=round(max(ends) - min(starts), 3),
        output_tokens=sum(one.completion_tokens for one in captioned),
        p50_s=seconds[len(seconds) // 2],
        p95_s=seconds[int(len(seconds) * 0.95)],
        gpu_s=round(sum(one.gpu_s for one in captioned), 3),
        engine_s=round(sum(seconds), 3),
        preparing_s=round(sum(one.preparing_s for one in captioned), 3),
        waiting_s=round(sum(one.waiting_s for one in captioned), 3),
    )
