"""Captions that move to other times, with the marks that begin the segments of some ("12.0-20.0 s: …").

Captions of the embedded detectors have such marks, those of release 0.1, and those written without the setting `times`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from clipdex.storage.caption import Caption, Segment

_SECONDS = r"\d+(?:\.\d+)?"
_MARK = re.compile(rf"[ \t\[(*]*(?P<start>{_SECONDS})\s?s?\s?[-–—]\s?(?P<end>{_SECONDS})\s?s\b")

# The embedded detectors also write times within a sentence. A model's own are those of its window, and stay.
_WITHIN = re.compile(rf"\b(?:at (?P<at>{_SECONDS})|from (?P<start>{_SECONDS}) to (?P<end>{_SECONDS})) s\b")

_ROUNDING_S = 0.51  # marks of a model may have whole seconds


def moved(caption: Caption, by_s: float, end_s: float) -> Caption:
    """Return the caption with its text, segments and notes moved in time. by_s: [s]; end_s: no time is later [s]."""

    def move(time_s: float) -> float:
        return max(0.0, min(time_s + by_s, end_s))

    if all(
        move(time_s) == time_s for one in (*caption.segments, *caption.notes) for time_s in (one.start_s, one.end_s)
    ):
        return caption
    within = caption.engine == "detectors"
    segments = _moved(caption.segments, move, within)
    return replace(
        caption,
        text=_replaced(caption.text, caption.segments, segments),
        segments=segments,
        notes=_moved(caption.notes, move, within),
    )


def _moved(segments: Sequence[Segment], move: Callable[[float], float], within: bool) -> tuple[Segment, ...]:
    return tuple(Segment(move(one.start_s), move(one.end_s), _text(one, move, within)) for one in segments)


def _text(segment: Segment, move: Callable[[float], float], within: bool) -> str:
    text = segment.text
    mark = _MARK.match(text)
    if mark and abs(float(mark["start"]) - segment.start_s) > _ROUNDING_S:
        mark = None  # a sentence that begins with a range
    head = _with_times(mark, move) if mark else ""
    rest = text[mark.end() :] if mark else text
    return head + (_WITHIN.sub(lambda found: _with_times(found, move), rest) if within else rest)


def _with_times(found: re.Match[str], move: Callable[[float], float]) -> str:
    """Return what was found with its times moved, each with as many decimals as before."""
    parts, last = [], 0
    for group in range(1, (found.lastindex or 0) + 1):
        written = found[group]
        if written is None:
            continue
        start, end = (place - found.start() for place in found.span(group))
        parts += [found[0][last:start], f"{move(float(written)):.{len(written.partition('.')[2])}f}"]
        last = end
    return "".join(parts) + found[0][last:]


def _replaced(text: str, before: Sequence[Segment], after: Sequence[Segment]) -> str:
    """Return the text with the text of each segment replaced, in their order."""
    parts, end = [], 0
    for old, new in zip(before, after, strict=True):
        start = text.find(old.text, end)
        if start < 0:
            return text
        parts += [text[end:start], new.text]
        end = start + len(old.text)
    return "".join(parts) + text[end:]
