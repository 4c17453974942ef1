"""Clock: whether a model is given the time. Nothing that a server reports shows it; only its answers do."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from clipdex.captions.preflight.findings import Check, Finding, Level
from clipdex.captions.preflight.questions import FRAMES, Kind, Question
from clipdex.config import EngineName, Sampling
from clipdex.families import Family, Times

Answered = tuple[Question, str]
SHARE = 0.8
"""Least share of right answers about direction, and about order, of a model that is given the time."""


def rates(sampling: Sampling) -> dict[float, int]:
    """Return the rates to check [1/s], with the frames of a video: the highest, the lowest, and one between them."""
    highest, lowest = sampling.fps, min(sampling.fps, sampling.min_fps)
    between = round((highest * lowest) ** 0.5, 1)
    chosen = [highest, between, lowest] if lowest * 1.2 < between < highest / 1.2 else [highest, lowest]
    frames = max(2, min(FRAMES, sampling.max_frames // 2 * 2))
    return dict.fromkeys(dict.fromkeys(chosen), frames)


def judge(answers: Sequence[Answered], family: Family | None, engine: EngineName) -> Finding:
    """Score the answers about direction and order, and compare those for a video and its reverse."""
    shares = {kind: _share([one for one in answers if one[0].kind is kind]) for kind in Kind}
    scores = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items() if share is not None)
    by_rate = {
        rate: _share([one for one in answers if one[0].fps == rate and one[0].kind in _JUDGED])
        for rate in dict.fromkeys(question.fps for question, _ in answers)
    }
    low = [f"{rate:g} per second {share:.0%}" for rate, share in by_rate.items() if share is not None and share < SHARE]
    judged = [share for kind in _JUDGED if (share := shares[kind]) is not None]
    equal, pairs = _equal_pairs(answers)
    if pairs and equal == pairs:
        fault = "the answers for a video and for the same video reversed are equal"
    elif any(share < SHARE for share in judged):
        fault = "the model does not tell direction or order"
    elif low:
        fault = f"the model does not tell direction or order at {', '.join(low)}"
    else:
        return Finding(Check.CLOCK, Level.OK, f"right answers: {scores}")
    return Finding(Check.CLOCK, Level.WARNING, f"{fault} (right answers: {scores}): {_cause(family, engine)}")


def _cause(family: Family | None, engine: EngineName) -> str:
    if family is None:
        return "the server may not pass the frame times to the model, or the model is too small to tell"
    if family.times is Times.POSITIONS:
        return f"{_POSITIONS[engine]} (docs/gpu.md, The clock)"
    if family.times is Times.TEXT:
        return (
            f"{family.name} reads times as text: a server that passes no metadata makes its processor assume 24 frames "
            "per second; use a newer server, or the model is too small to tell"
        )
    return f"{family.name} gets no times, only the order of frames: the server may shuffle or resample them"


_JUDGED = (Kind.DIRECTION, Kind.ORDER)
_POSITIONS: Mapping[EngineName, str] = {
    EngineName.SGLANG: "the server passes no frame times to the model; start the node with docker/sglang/serve",
    EngineName.VLLM: "the server passes no frame times to the model; use vLLM 0.31.0 or newer",
    EngineName.TENSORRT_LLM: "the server passes no frame times to the model, as far as known",
}


def _share(answers: Sequence[Answered]) -> float | None:
    """Return the share of right answers, None without answers."""
    return sum(question.is_right(answer) for question, answer in answers) / len(answers) if answers else None


def _equal_pairs(answers: Sequence[Answered]) -> tuple[int, int]:
    """Return how many pairs of a video and its reverse have equal answers about direction or order, and all pairs."""
    pairs: dict[tuple[str, Kind], list[str]] = defaultdict(list)
    for question, answer in answers:
        if question.kind in _JUDGED:
            pairs[question.pair, question.kind].append(answer.strip().lower())
    both = [two for two in pairs.values() if len(two) == 2]
    return sum(one == other for one, other in both), len(both)
