"""Samples: the pictures of a clip for all detectors, each downscaled once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Picture = np.ndarray
_SIDE = 256


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of a clip.

    time_s [s on a player's clock of the file]
    full: RGB in proxy size
    small: RGB with a long side of at most 256 pixels
    grey: small in greyscale
    """

    time_s: float
    full: Picture
    small: Picture
    grey: Picture

    @property
    def aspect(self) -> float:
        """Return height / width."""
        return float(self.full.shape[0] / self.full.shape[1])


def take(pictures: Iterable[Picture], times: Iterable[float]) -> list[Sample]:
    samples = []
    for picture, time_s in zip(pictures, times, strict=True):
        small = shrunk(picture, _SIDE)
        samples.append(Sample(time_s, picture, small, cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)))
    return samples


def shrunk(picture: Picture, side: int) -> Picture:
    """Downscale a picture to a long side of at most side pixels."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    return cv2.resize(
        picture, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )


def spread(shots: Sequence[range], budget: int, least: int) -> list[int]:
    """Return sample numbers for a slow detector, evenly spaced in each shot.

    Each shot gets least samples (or all it has); longer shots get more, up to budget in total. With many shots, each
    gets fewer than least.
    """
    least = max(1, min(least, budget // len(shots)))
    counts = [min(least, len(shot)) for shot in shots]
    while sum(counts) < min(budget, sum(map(len, shots))):
        gaps = [len(shot) / count if count < len(shot) else 0.0 for shot, count in zip(shots, counts, strict=True)]
        counts[gaps.index(max(gaps))] += 1
    chosen: list[int] = []
    for shot, count in zip(shots, counts, strict=True):
        chosen += [shot[int((k + 0.5) * len(shot) / count)] for k in range(count)]
    return chosen
