"""Counting: the tokens that a video costs, as the processor of each family of models counts them.

visual(): tokens of the pictures. text(): tokens of the text that the processor writes between them, such as times.
Facts are from the processors of transformers 5.23; table.py names the file of each family.
"""

import math
from dataclasses import dataclass
from typing import Protocol

Size = tuple[int, int]
"""Width and height [pixels]."""


class Counting(Protocol):
    """unit: frames that share their tokens; slack: deviation of text() per unit that tokenizers cause [tokens]."""

    @property
    def unit(self) -> int: ...

    @property
    def slack(self) -> int: ...

    def visual(self, frames: int, size: Size) -> int:
        """Return the visual tokens of a video."""

    def text(self, frames: int, fps: float) -> int:
        """Return the tokens of the text that the processor adds."""

    def per_frame(self, size: Size) -> float:
        """Return the visual tokens per frame of this size, which the processor need not resize to its limits."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Count one token per square of a pair of frames (Qwen-VL).

    side: of a square [pixels]
    fewest, most: limits to which frames are resized [pixels], of one frame, or of all frames if whole
    stamps: the time of each pair is written as text, such as <1.2 seconds>
    """

    side: int
    fewest: int
    most: int
    whole: bool = False
    stamps: bool = False

    @property
    def unit(self) -> int:
        return 2

    @property
    def slack(self) -> int:
        return int(self.stamps)

    def visual(self, frames: int, size: Size) -> int:
        width, height = resized(size, self.side, self.fewest, self.most, frames if self.whole else 1)
        return math.ceil(frames / 2) * (width // self.side) * (height // self.side)

    def text(self, frames: int, fps: float) -> int:
        if not self.stamps:
            return 2
        # "<", the whole seconds digit by digit, ".", a digit, " seconds", ">"; then a start and an end of the pictures.
        times = [(k + 0.5) / fps for k in range(0, frames, 2)]
        return sum(2 + 5 + len(str(int(time_s))) for time_s in times)

    def per_frame(self, size: Size) -> float:
        width, height = size
        return max(1, round(width / self.side)) * max(1, round(height / self.side)) / 2


@dataclass(frozen=True, slots=True)
class Fixed:
    """Count a fixed number of tokens per frame, of any size (InternVL, Gemma 3, SmolVLM2).

    tokens: per frame; words: tokens of the text per frame; intro: tokens of the text before the frames
    """

    tokens: int
    words: int
    intro: int = 0
    slack: int = 2

    @property
    def unit(self) -> int:
        return 1

    def visual(self, frames: int, size: Size) -> int:
        return frames * self.tokens

    def text(self, frames: int, fps: float) -> int:
        return self.intro + frames * self.words

    def per_frame(self, size: Size) -> float:
        return float(self.tokens)


@dataclass(frozen=True, slots=True)
class Pooled:
    """Count pooled patches of a frame that is resized to the most tokens that fit (Gemma 4).

    patch: side of a patch [pixels]; pool: patches per side of a token; most: tokens per frame
    """

    patch: int
    pool: int
    most: int
    slack: int = 2

    @property
    def unit(self) -> int:
        return 1

    def visual(self, frames: int, size: Size) -> int:
        return frames * self._tokens(size)

    def text(self, frames: int, fps: float) -> int:
        return 8 * frames  # mm:ss, digit by digit, a space, a start and an end of the picture

    def per_frame(self, size: Size) -> float:
        return float(self._tokens(size))

    def _tokens(self, size: Size) -> int:
        width, height = size
        side = self.patch * self.pool
        scale = math.sqrt(self.most * side * side / (width * height))
        columns, rows = math.floor(width * scale / side), math.floor(height * scale / side)
        if columns and rows:
            return columns * rows
        longest = width // height if rows == 0 else height // width
        return max(1, min(longest, self.most))


@dataclass(frozen=True, slots=True)
class Near:
    """Count patches of frames resized to nearly a number of patches, merged over several frames (Nemotron VL).

    target: patches per frame; merge: patches per side of a token; unit: frames per token
    """

    target: int
    merge: int
    unit: int
    slack: int = 8

    def visual(self, frames: int, size: Size) -> int:
        return math.ceil(frames / self.unit) * self._tokens(size)

    def text(self, frames: int, fps: float) -> int:
        # "Frame 1 sampled at 0.00 seconds and frame 2 sampled at 0.50 seconds: ", a start and an end of the pictures
        return 13 * frames + 3 * math.ceil(frames / self.unit)

    def per_frame(self, size: Size) -> float:
        return self._tokens(size) / self.unit

    def _tokens(self, size: Size) -> int:
        aspect = size[0] / size[1]
        rows = max(round(math.sqrt(self.target / aspect)), 1)
        columns = max(round(math.sqrt(self.target * aspect)), 1)
        up = [n + -n % self.merge for n in (rows, columns)]
        if up[0] * up[1] > self.target:
            up = [max(self.merge, n - n % self.merge) for n in (rows, columns)]
        return up[0] * up[1] // self.merge**2


def resized(size: Size, side: int, fewest: int, most: int, frames: int = 1) -> Size:
    """Return the size in multiples of side whose pixels, in all frames, are within the limits (Qwen-VL)."""
    width, height = size
    if min(width, height) < side:
        scale = side / min(width, height)
        width, height = int(width * scale), int(height * scale)
    pixels = max(1, round(frames / 2) * 2 if frames > 1 else 1) * _nearest(width, side) * _nearest(height, side)
    if pixels > most:
        scale = math.sqrt(most / (frames * width * height))
        return max(side, math.floor(width * scale / side) * side), max(side, math.floor(height * scale / side) * side)
    if pixels < fewest:
        scale = math.sqrt(fewest / (frames * width * height))
        return math.ceil(width * scale / side) * side, math.ceil(height * scale / side) * side
    return _nearest(width, side), _nearest(height, side)


def _nearest(length: int, side: int) -> int:
    return round(length / side) * side
