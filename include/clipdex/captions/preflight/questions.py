"""Questions: what a model is asked about a drawn video, the right answer, and how its answer is read."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from clipdex.captions.preflight import drawing

FRAMES = 8
CHANGE = 6
"""The frame from which on a video has another colour, in one order; in the other it is FRAMES - CHANGE."""

SANE = "Is a clear sky at noon blue or green? Answer with one word."


def is_sane(answer: str) -> bool:
    """Return whether an answer to SANE is one that no random weights give."""
    return bool(re.search(r"\bblue\b", answer.lower())) and "green" not in answer.lower()


class Kind(StrEnum):
    COLOUR = "colour"
    DIRECTION = "direction"
    ORDER = "order"
    SECOND = "second"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a video.

    fps: its rate [1/s]; right: the answer, or the second [s] as text; pair: the same for a video and its reverse
    options: the possible answers; () for a number
    """

    kind: Kind
    fps: float
    text: str
    right: str
    options: tuple[str, ...]
    video: bytes
    pair: str = ""

    def read(self, answer: str) -> str:
        """Return the option, or the number, that an answer names; "" if it names none, or several."""
        if self.kind is Kind.SECOND:
            return _number(answer)
        words = " ".join(re.findall(r"\w+", answer.lower()))
        if len(words.split()) > _LONGEST:
            return ""
        if self.kind is Kind.DIRECTION:
            for phrase, option in _PHRASES.items():
                words = words.replace(phrase, option)
        named = {option for option in self.options if re.search(rf"\b{option}(ward|wards)?\b", words)}
        return named.pop() if len(named) == 1 else ""

    def is_right(self, answer: str) -> bool:
        read = self.read(answer)
        if self.kind is Kind.SECOND:
            return bool(read) and abs(float(read) - float(self.right)) <= max(1.0, 1.5 / self.fps)
        return read == self.right


def colours(fps: float, frames: int) -> tuple[Question, ...]:
    """Return two questions with two answers, which need no time."""
    options = ("red", "blue", "green", "yellow")
    text = f"Which colour fills this video: {', '.join(options[:-1])} or {options[-1]}? Answer with one word."
    return tuple(
        Question(Kind.COLOUR, fps, text, colour, options, drawing.filled(colour, frames, fps)) for colour in options[:2]
    )


def times(rates: Mapping[float, int]) -> Iterator[Question]:
    """Yield questions about direction, order and seconds, forward and reversed, at each rate.

    rates: frames of a video by rate [1/s], even
    """
    names = tuple(drawing.COLOURS)
    for number, (fps, frames) in enumerate(rates.items()):
        first, second = names[number % 6], names[(number + 1) % 6]
        change = frames * CHANGE // FRAMES
        for direction, colour in (("right", first), ("down", second)):
            for backwards in (False, True):
                yield Question(
                    Kind.DIRECTION, fps, _DIRECTION, _REVERSED[direction] if backwards else direction, _DIRECTIONS,
                    drawing.moving(colour, direction, frames, fps, backwards), f"{fps:g} {direction}",
                )  # fmt: skip
        for backwards in (False, True):
            video = drawing.changing(first, second, change, frames, fps, backwards)
            shown = (second, first) if backwards else (first, second)
            changed = frames - change if backwards else change
            yield Question(
                Kind.ORDER, fps, _ORDER.format(*sorted(shown)), shown[0], (first, second), video, f"{fps:g} order"
            )
            yield Question(Kind.SECOND, fps, _SECOND, f"{changed / fps:.2f}", (), video, f"{fps:g} second")


_DIRECTIONS = ("right", "left", "up", "down")
_REVERSED = {"right": "left", "left": "right", "up": "down", "down": "up"}
_DIRECTION = "Which way does the square move: right, left, up or down? Answer with one word."
_ORDER = "Which colour fills the picture first: {} or {}? Answer with one word."
_SECOND = "At which second does the colour of the picture change? Answer with a number of seconds."
_PHRASES = {
    "from left to right": "right", "from right to left": "left", "left to right": "right", "right to left": "left",
    "from top to bottom": "down", "from bottom to top": "up", "top to bottom": "down", "bottom to top": "up",
}  # fmt: skip
_LONGEST = 40  # words


def _number(answer: str) -> str:
    if clock := re.search(r"\b(\d{1,2}):(\d{2})\b", answer):
        return str(60 * int(clock[1]) + int(clock[2]))
    found = re.findall(r"\d+(?:\.\d+)?", answer)
    return found[0] if found and len(answer.split()) <= _LONGEST and len(found[0]) < 9 else ""
