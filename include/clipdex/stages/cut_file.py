"""CutFile: a long file whose parts are captioned as clips of their own."""

from collections.abc import Mapping

from clipdex.storage.artifacts import Span
from clipdex.storage.clip import Clip
from clipdex.video import Part


class CutFile:
    """Keep count of the parts of a file in one try.

    clip: the file, with its content
    settled: times of the parts with an outcome of an earlier try, by number
    """

    def __init__(self, clip: Clip, settled: Mapping[int, Span]) -> None:
        self.clip = clip
        self._spans = dict(settled)
        self._ended = set(settled)
        self._parts: int | None = None

    @property
    def resume(self) -> tuple[int, float | None]:
        """Return the first part without an outcome, and its start if it is known [s]."""
        first = next(number for number in range(len(self._ended) + 1) if number not in self._ended)
        return first, self._spans[first - 1][1] if first else None

    @property
    def spans(self) -> list[Span]:
        """Return the times of all parts, in order."""
        return [self._spans[number] for number in range(self._parts or 0)]

    def add(self, part: Part, start_s: float, end_s: float) -> Clip:
        """Return a part that the decoder found as a clip."""
        self._spans[part.number] = start_s, end_s
        if part.last:
            self._parts = part.number + 1
        return self.clip.part(part.number, start_s, end_s)

    def end(self, part: Clip) -> bool:
        """Note that a part has an outcome; return whether all parts have one now."""
        self._ended.add(part.part_no)
        return self._parts is not None and len(self._ended) >= self._parts
