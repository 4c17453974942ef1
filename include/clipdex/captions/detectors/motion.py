"""Motion: track corners from picture to picture; the motion of most of them is the camera's."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import cv2
import numpy as np

from clipdex.captions.detectors.samples import Sample

_CORNERS = 300
_CELLS = (4, 3)
_WINDOW, _LEVELS = (15, 15), 4


class Camera(StrEnum):
    """The camera motion of a shot. UNKNOWN: too few corners."""

    UNKNOWN = "unknown"
    STILL = "still"
    LEFT = "left"
    RIGHT = "right"
    UP = "up"
    DOWN = "down"
    IN = "in"
    OUT = "out"
    MOVING = "moving"


@dataclass(frozen=True, slots=True)
class Step:
    """The motion between two samples.

    kept: share of the corners that are tracked and fit one motion, None if there are too few
    shift: of the background [fractions of width and height], None if unknown
    zoom: scale of the background
    """

    kept: float | None
    shift: tuple[float, float] | None
    zoom: float


def between(samples: Sequence[Sample]) -> list[Step]:
    """Return one step per pair of consecutive samples."""
    return [_step(a.grey, b.grey) for a, b in pairwise(samples)]


def camera(steps: Sequence[Step]) -> Camera:
    """Return the camera motion over the steps of one shot."""
    known = [step for step in steps if step.shift is not None]
    if not known or len(known) < 0.6 * len(steps):
        return Camera.UNKNOWN
    shifts = np.array([step.shift for step in known])
    zoom = float(np.prod([step.zoom for step in known]))
    total, path = shifts.sum(axis=0), np.abs(shifts).sum(axis=0)
    if path.max() < 0.006 * len(known) and 0.97 < zoom < 1.03 and np.abs(total).max() < 0.02:
        return Camera.STILL
    if zoom > 1.2 or zoom < 1 / 1.2:
        return Camera.IN if zoom > 1 else Camera.OUT
    along = int(np.abs(total)[1] > np.abs(total)[0])
    if abs(total[along]) < 0.12 or abs(total[along]) < 0.8 * path[along]:
        return Camera.MOVING
    # The background moves opposite to the camera.
    return ((Camera.LEFT, Camera.RIGHT), (Camera.UP, Camera.DOWN))[along][int(total[along] < 0)]


def _step(before: np.ndarray, after: np.ndarray) -> Step:
    size = np.array(before.shape[::-1], np.float32)
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, 0.01, 5)
    if corners is None or len(corners) < 20 or min(before.shape) < 32:
        return Step(None, None, 1.0)
    there, found = _found(before, after, corners)
    back, refound = _found(after, before, there)
    sure = found & refound & (np.linalg.norm((corners - back)[:, 0], axis=1) < 1.0)
    starts, ends = corners[sure][:, 0], there[sure][:, 0]
    if len(starts) < 4:
        return Step(0.0, None, 1.0)
    matrix, agree = cv2.estimateAffinePartial2D(starts, ends, method=cv2.RANSAC, ransacReprojThreshold=2.0)
    if matrix is None:
        return Step(0.0, None, 1.0)
    background = starts[agree[:, 0] > 0] / size
    kept = len(background) / len(corners)
    if len(background) < 15 or kept < 0.2 or _covered(background) < 7:
        return Step(kept, None, 1.0)
    # Measured at the centre: a zoom moves the matrix's origin, the corner, but not the centre.
    middle = matrix @ np.array([*size / 2, 1.0]) - size / 2
    shift = middle / size
    return Step(kept, (float(shift[0]), float(shift[1])), float(np.hypot(*matrix[:, 0])))


def _found(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points in the other picture, and which of them were found."""
    # The type stubs require initial points.
    there, status, _ = cv2.calcOpticalFlowPyrLK(before, after, points, points.copy(), winSize=_WINDOW, maxLevel=_LEVELS)
    return np.asarray(there), np.asarray(status)[:, 0] > 0


def _covered(points: np.ndarray) -> int:
    """Count the cells, of twelve, that contain a point. A single object in the middle is not the background."""
    return len({(int(x * _CELLS[0]), int(y * _CELLS[1])) for x, y in points})
