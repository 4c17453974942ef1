"""Measure a server with clipdex, from stored clips: read, digest, decode, request, check, store captions.

Batches run as in a deployment: `slots` in parallel, each in a new process with its own requests in flight. Airflow's
overhead per task (about 0.2 s) and the index are excluded. Quality gates are disabled, because random weights write no
language. All other code is that of production.

    python -m benchmarks.engines.pipeline JOB.json        (one batch; used by run())
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.engines.load import FIXED_LENGTH, Sample, rates
from benchmarks.engines.servers import REPOSITORY, SERVED

DAY = "2026-11-03"


def run(urls: list[str], clips: list[Path], folder: Path, point: dict[str, Any]) -> dict[str, Any]:
    """Caption these clips; return rates from the outcomes, totals of the batches, and CPU seconds per clip."""
    from clipdex import Pipeline, Settings
    from clipdex.captions.engines import open_captioner
    from clipdex.runs.completion import CompletionCriteria
    from clipdex.runs.outcomes import run_outcomes

    archive = folder / "archive" / DAY.replace("-", "/")
    archive.mkdir(parents=True)
    for clip in clips:
        os.link(clip, archive / clip.name)
    given = _settings(urls, folder, point)
    settings = Settings.load(**given)
    pipeline = Pipeline(settings)
    began = time.time()
    # The GPU host has no embedding model; nothing is indexed.
    criteria = CompletionCriteria(open_captioner(settings).fingerprint.digest(), "none")
    plan = pipeline.plan("bench.1", pipeline.survey([DAY], criteria))
    jobs = []
    for number, batch in enumerate(plan.batches):
        job = folder / f"job-{number:04d}.json"
        job.write_text(json.dumps({"settings": given, "batch": batch.to_json(), "tokens": point.get("tokens", 512)}))
        jobs.append(job)
    with ThreadPoolExecutor(point["slots"]) as slots:
        batches = list(slots.map(_batch, jobs))
    seconds = time.time() - began
    outcomes = list(run_outcomes(pipeline.store, DAY, "bench.1").values())
    samples = [_sample(one, began) for one in outcomes if one.answered_at]
    measured = rates(samples, point["slots"] * point["in_flight"]).to_json() if samples else {}
    counts: dict[str, int] = {}
    for one in outcomes:
        counts[str(one.outcome)] = counts.get(str(one.outcome), 0) + 1
    return {
        "clips": len(clips), "seconds": round(seconds, 2), "clips_per_s": round(len(samples) / seconds, 3),
        "outcomes": counts, "rates": measured, "batches": batches,
        "cpu_s_a_clip": round(sum(one.get("cpu_s", 0.0) for one in batches) / max(1, len(clips)), 3),
    }  # fmt: skip


def caption(job: Path) -> dict[str, Any]:
    """Caption one batch in this process."""
    from clipdex import Pipeline, Settings
    from clipdex.captions.captioner import Gates
    from clipdex.runs.planning import BatchRef
    from clipdex.stages.caption import caption_batch

    task = json.loads(job.read_text())
    settings, batch = Settings.load(**task["settings"]), BatchRef.from_json(task["batch"])
    pipeline = Pipeline(settings)

    async def work() -> dict[str, Any]:
        async with pipeline.engine() as engine:
            engine.gates = Gates(min_words=0, max_repeat=2.0, min_ratio=0.0, language="")
            totals = await caption_batch(settings, pipeline.store, pipeline.source, _Unjudged(engine), batch)
        return totals.to_json()

    began = time.monotonic()
    totals = asyncio.run(work())
    times = os.times()
    cpu_s = times.user + times.system + times.children_user + times.children_system
    return {**totals, "process_s": round(time.monotonic() - began, 2), "cpu_s": round(cpu_s, 2)}


class _Unjudged:
    """Replace the finish reason by "stop": all responses end at max_tokens."""

    def __init__(self, captioner: Any) -> None:
        self._captioner = captioner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._captioner, name)

    async def caption(self, clip: Any, attempt: int = 1) -> Any:
        return replace(await self._captioner.caption(clip, attempt), finish_reason="stop")


def _settings(urls: list[str], folder: Path, point: dict[str, Any]) -> dict[str, Any]:
    tokens = point.get("tokens", 512)
    engine = {
        "name": "sglang", "model": SERVED, "base_urls": urls, "in_flight": point["in_flight"], "max_tokens": tokens,
        "min_tokens": 0, "language": "en", "request_timeout_s": 300.0, "options": FIXED_LENGTH,
        "server_sampling": point.get("server_sampling", {}), **point.get("engine", {}),
    }  # fmt: skip
    return {
        "home": str(folder), "source": {"url": str(folder / "archive")}, "engine": engine,
        "sampling": {"fps": 2.0, "short_side": 280, **point.get("sampling", {})},
        "batches": {"size": point["batch"], "preparing": point.get("preparing", 2)},
    }  # fmt: skip


def _batch(job: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.engines.pipeline", str(job)], capture_output=True, text=True, cwd=REPOSITORY
    )
    if done.returncode:
        return {"failed": done.stderr[-1500:]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _sample(outcome: Any, began: float) -> Sample:
    """Convert an outcome, which has the time and duration of the response."""
    end = datetime.fromisoformat(outcome.answered_at).timestamp() - began
    return Sample(end - outcome.seconds, end, outcome.prompt_tokens, outcome.completion_tokens)


if __name__ == "__main__":
    print(json.dumps(caption(Path(sys.argv[1]))))
