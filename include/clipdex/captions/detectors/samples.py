"""Samples: the pictures of a clip that every detector looks at, each made small once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Picture = np.ndarray
_SIDE = 256


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of a clip.

    time_s [s from the clip's start]; full: RGB as it came; small: RGB with a long side of at most 256 pixels;
    grey: the same without colour.
    """

    time_s: float
    full: Picture
    small: Picture
    grey: Picture

    @property
    def aspect(self) -> float:
        """Height over width."""
        return float(self.full.shape[0] / self.full.shape[1])


def take(pictures: Iterable[Picture], times: Iterable[float]) -> list[Sample]:
    samples = []
    for picture, time_s in zip(pictures, times, strict=True):
        small = shrunk(picture, _SIDE)
        samples.append(Sample(time_s, picture, small, cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)))
    return samples


def shrunk(picture: Picture, side: int) -> Picture:
    """With a long side of at most so many pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    return cv2.resize(
        picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )


def spread(shots: Sequence[range], budget: int, least: int) -> list[int]:
    """Which samples to look at when looking is dear: evenly in each shot, least in each (or all it has), and more of
    the longer ones up to the budget; where there are many shots, fewer in each."""
    least = max(1, min(least, budget // len(shots)))
    counts = [min(least, len(shot)) for shot in shots]
    while sum(counts) < min(budget, sum(map(len, shots))):
        gaps = [len(shot) / count if count < len(shot) else 0.0 for shot, count in zip(shots, counts, strict=True)]
        counts[gaps.index(max(gaps))] += 1
    chosen: list[int] = []
    for shot, count in zip(shots, counts, strict=True):
        chosen += [shot[int((k + 0.5) * len(shot) / count)] for k in range(count)]
    return chosen
