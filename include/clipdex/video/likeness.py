"""Likeness: how alike the sampled frames of two clips are.

Two measures are compared frame by frame: a perceptual hash, which follows the composition of a picture, and the mean
colour of each cell of a grid, which shows what changes in one place. A hash alone does not see a person far away.
docs/operations.md has figures of both.
"""

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipdex.errors import ConfigurationError
from clipdex.video.sampling import Prepared, read_proxy

Array = np.ndarray[Any, np.dtype[Any]]

CELL = 16
"""Side of a cell [pixels of a proxy]."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a clip looks like, in about 100 kB.

    times: of the frames, from the first one [s], (frames,)
    hashes: bool (frames, 64)
    cells: mean colour, uint8 (frames, rows, columns, 3)
    """

    times: Array
    hashes: Array
    cells: Array


@dataclass(frozen=True, slots=True)
class Distance:
    """How different two clips look.

    mean, most: bits that differ between the hashes of two frames at the same time, of 64; over all frames
    change: of the colour of a cell between two frames at the same time, root mean square of red, green and blue; the
        largest of all cells and frames, 0 to 255
    """

    mean: float
    most: int
    change: float


def require_hashes() -> None:
    """Import the library of the hashes. Raises ConfigurationError if it is not installed."""
    if importlib.util.find_spec("imagehash") is None:
        raise ConfigurationError(
            "CLIPDEX_VIDEO__NEAR_DUPLICATES is set, and the package imagehash is not installed; run: pip install "
            "'clipdex[near-duplicates]', or unset it"
        )


def look_of(clip: Prepared) -> Look:
    """Return what a clip looks like; decodes its proxies."""
    import imagehash
    from PIL import Image

    hashes, cells = [], []
    for window in clip.windows:
        for picture in read_proxy(window.proxy):
            image = Image.fromarray(picture)
            hashes.append(imagehash.phash(image).hash.reshape(-1))
            cells.append(np.asarray(image.reduce(CELL)))
    times = np.array(clip.times[: len(hashes)])
    return Look(times - clip.info.start_s, np.array(hashes), np.array(cells))


def distance(one: Look, other: Look) -> Distance | None:
    """Return how different two clips look, or None if their length or the size of their pictures differ.

    Each frame of the clip with more frames is compared with the frame of the other that is nearest in time.
    """
    if len(one.times) < len(other.times):
        one, other = other, one
    if one.cells.shape[1:] != other.cells.shape[1:]:
        return None
    apart = np.abs(one.times[:, None] - other.times[None, :])
    nearest = apart.argmin(axis=1)
    interval_s = one.times[-1] / max(1, len(one.times) - 1)
    if apart.min(axis=1).max() > interval_s:
        return None
    bits = (one.hashes != other.hashes[nearest]).sum(axis=1)
    colours = one.cells.astype(np.float32) - other.cells[nearest]
    change = np.sqrt(np.square(colours).mean(axis=-1)).max()
    return Distance(round(float(bits.mean()), 3), int(bits.max()), round(float(change), 3))
