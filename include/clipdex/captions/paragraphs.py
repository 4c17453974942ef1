"""Paragraphs: the parts of a model's text with the times that it writes before them, checked against the clip.

A paragraph without times, or with times that cannot be, covers the whole clip. So does the whole text, if half of its
times cannot be, if they go backwards, or if they are all the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from clipdex.captions.marks import Mark, find_marks
from clipdex.storage.caption import Segment


@dataclass(frozen=True, slots=True)
class Timed:
    """Hold a text without its marks.

    segments: its paragraphs with their times; () if none is shorter than the clip
    paragraphs: their number; usable: of these, those whose times were read
    """

    text: str
    segments: tuple[Segment, ...]
    paragraphs: int
    usable: int


def read_times(
    text: str, start_s: float, end_s: float, zeros: Sequence[float] | None = None, keep_marks: bool = False
) -> Timed:
    """Read the times before the paragraphs of a text.

    start_s, end_s: of the pictures that the model saw [s on a player's clock of the file]
    zeros: from where its times may count, on the same clock; the first with the fewest nonsensical times is taken.
        By default they count from start_s, as those of the video that the model gets
    keep_marks: leave the marks in the text
    """
    length = end_s - start_s
    marks = list(find_marks(text))
    clocks = [_Clock(start_s - zero, length) for zero in zeros or (start_s,)]
    clock = min(clocks, key=lambda one: one.wrong(marks))
    marks = [mark for mark in marks if mark.certain or clock.fits(mark)]
    parts = _parts(text, marks)
    if not marks:
        return Timed(text, (), len(parts), 0)
    texts = [text[part.begin : part.end].strip() if keep_marks else part.text for part in parts]
    spans = _plausible([part.mark for part in parts], clock)
    segments = tuple(
        Segment(start_s + (span or (0.0, length))[0], start_s + (span or (0.0, length))[1], text)
        for span, text in zip(spans, texts, strict=True)
    )
    if all(one.end_s - one.start_s > _WHOLE * length for one in segments):
        segments, spans = (), []
    return Timed(text if keep_marks else "\n\n".join(texts), segments, len(parts), len(spans) - spans.count(None))


_WHOLE = 0.9  # a longer share of a clip is all of it
_ROUNDING_S = 1.0  # models write whole seconds, and round a clip of 9.6 s to ten

_Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Clock:
    """The clock that a model's times count on. first_s: its time at the first picture; length: of the pictures [s]"""

    first_s: float
    length: float

    def span(self, mark: Mark) -> _Span | None:
        """Return the times of a mark from the first picture on, or None if they cannot be. [s]

        A mark of one time lasts to the end.
        """
        start = mark.start_s - self.first_s
        end = self.length if mark.end_s is None else mark.end_s - self.first_s
        # NaN compares false.
        if not (-_ROUNDING_S <= start < self.length and start <= end <= self.length + _ROUNDING_S):
            return None
        if mark.start_s == mark.end_s == 0:
            return None
        start = max(0.0, start)
        if end - start < _MOMENT_S:
            end = start + _ROUNDING_S  # a moment, in whole seconds
        return start, min(end, self.length)

    def fits(self, mark: Mark) -> bool:
        """Return whether a mark can be one. One time may be the end of a part: "<3.0s> A man runs. <7.0s>"."""
        is_end = mark.end_s is None and mark.start_s - self.first_s <= self.length + _ROUNDING_S
        return is_end or self.span(mark) is not None

    def wrong(self, marks: Sequence[Mark]) -> int:
        return sum(self.span(mark) is None for mark in marks)


_MOMENT_S = 0.001


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the text. begin, end: its span with the mark [characters]; text: without it"""

    mark: Mark | None
    begin: int
    end: int
    text: str


def _plausible(marks: Sequence[Mark | None], clock: _Clock) -> list[_Span | None]:
    """Return the span of each part, or None where it is not known, or not to be relied on."""
    spans = [clock.span(mark) if mark else None for mark in marks]
    known = [span for span in spans if span]
    marked = sum(mark is not None for mark in marks)
    starts = [start for start, end in known if end - start <= _WHOLE * clock.length]
    is_mostly_wrong = 2 * len(known) <= marked and marked > 0
    goes_back = any(after < before for before, after in pairwise(starts))
    is_constant = len(known) > 1 and len(set(known)) == 1
    return [None] * len(spans) if is_mostly_wrong or goes_back or is_constant else spans


def _parts(text: str, marks: Sequence[Mark]) -> list[_Part]:
    """Return the parts of a text: its paragraphs, cut at the marks. What has no words is left out."""
    parts: list[_Part] = []
    heading: Mark | None = None  # a mark on a line of its own, of the paragraph that follows
    queue = iter(marks)
    upcoming = next(queue, None)
    for begin, end in _paragraphs(text):
        cuts: list[Mark] = []
        while upcoming and upcoming.begin < end:
            cuts.append(upcoming)
            upcoming = next(queue, None)
        bounds = [cut.begin for cut in cuts] + [end]
        opening = text[begin : bounds[0]].strip()
        if _has_words(opening):
            parts.append(_Part(heading, heading.begin if heading else begin, bounds[0], opening))
        if cuts or _has_words(opening):
            heading = None
        for cut, until in zip(cuts, bounds[1:], strict=True):
            words = text[cut.end : until].strip()
            if _has_words(words):
                parts.append(_Part(cut, cut.begin, until, words))
            elif parts and _closes(parts[-1], cut, begin):
                last = parts[-1]
                parts[-1] = replace(last, mark=last.mark and replace(last.mark, end_s=cut.start_s), end=until)
            else:
                heading = cut
    return _until_the_next(parts)


def _closes(part: _Part, mark: Mark, begin: int) -> bool:
    """Return whether a mark without words is the end of a part: "<3.0s> A man runs. <7.0s>". begin: of its paragraph"""
    is_open = part.mark is not None and part.mark.end_s is None and part.begin >= begin
    return is_open and mark.end_s is None and part.mark is not None and mark.start_s >= part.mark.start_s


def _until_the_next(parts: list[_Part]) -> list[_Part]:
    """Let each part with one time last until the next part with a time."""
    done, following = [], None
    for part in reversed(parts):
        if (mark := part.mark) is not None:
            if mark.end_s is None and following is not None and following >= mark.start_s:
                part = replace(part, mark=replace(mark, end_s=following))
            following = mark.start_s
        done.append(part)
    return done[::-1]


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Yield the span of each paragraph: lines without an empty one between them [characters]."""
    begin = end = 0
    since: int | None = None
    for line in text.split("\n"):
        end = begin + len(line)
        if line.strip():
            since = begin if since is None else since
        elif since is not None:
            yield since, begin
            since = None
        begin = end + 1
    if since is not None:
        yield since, end


def _has_words(text: str) -> bool:
    return any(char.isalpha() for char in text)
