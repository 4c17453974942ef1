"""Motion: corners of a picture are found again in the next one; most of them tell what the camera did."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from clipdex.captions.detectors.samples import Sample

_CORNERS = 300
_CELLS = (4, 3)
_FLOW = {"winSize": (15, 15), "maxLevel": 4}


class Camera(StrEnum):
    """What the camera does during a shot. UNKNOWN: the picture has too little in it to tell."""

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
    """From one sample to the next. Positions are fractions of the picture's width and height.

    kept: share of the corners that are found again and agree on one movement, None where there are too few to say.
    starts, ends: corners found again, (n, 2). shift, zoom: how the background moved, None where it cannot be told.
    """

    kept: float | None
    starts: np.ndarray
    ends: np.ndarray
    shift: tuple[float, float] | None
    zoom: float

    def inside(self, box: tuple[float, float, float, float]) -> tuple[float, float] | None:
        """How what is in the box (left, top, right, bottom) moved against the background; None where it has no corner."""
        left, top, right, bottom = box
        x, y = self.starts[:, 0], self.starts[:, 1]
        there = (x > left) & (x < right) & (y > top) & (y < bottom)
        if there.sum() < 4:
            return None
        dx, dy = np.median(self.ends[there] - self.starts[there], axis=0)
        background = self.shift or (0.0, 0.0)
        return float(dx - background[0]), float(dy - background[1])


def between(samples: Sequence[Sample]) -> list[Step]:
    """One step for each two neighbours."""
    return [_step(a.grey, b.grey) for a, b in zip(samples, samples[1:], strict=False)]


def camera(steps: Sequence[Step]) -> Camera:
    """What the camera did over the steps of one shot."""
    known = [step for step in steps if step.shift is not None]
    if not known or len(known) < 0.6 * len(steps):
        return Camera.UNKNOWN
    shifts = np.array([step.shift for step in known])
    zoom = float(np.prod([step.zoom for step in known]))
    total, path = shifts.sum(axis=0), np.abs(shifts).sum(axis=0)
    if path.max() < 0.015 * len(known) and 0.93 < zoom < 1.07 and np.abs(total).max() < 0.05:
        return Camera.STILL
    if zoom > 1.2 or zoom < 1 / 1.2:
        return Camera.IN if zoom > 1 else Camera.OUT
    along = int(np.abs(total)[1] > np.abs(total)[0])
    if abs(total[along]) < 0.12 or abs(total[along]) < 0.8 * path[along]:
        return Camera.MOVING
    # The background runs against the camera.
    return ((Camera.LEFT, Camera.RIGHT), (Camera.UP, Camera.DOWN))[along][int(total[along] < 0)]


def _step(before: np.ndarray, after: np.ndarray) -> Step:
    size = np.array(before.shape[::-1], np.float32)
    nothing = np.zeros((0, 2), np.float32)
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, 0.01, 5)
    if corners is None or len(corners) < 20 or min(before.shape) < 32:
        return Step(None, nothing, nothing, None, 1.0)
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, **_FLOW)
    back, refound, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **_FLOW)
    sure = (found[:, 0] > 0) & (refound[:, 0] > 0) & (np.linalg.norm((corners - back)[:, 0], axis=1) < 1.0)
    starts, ends = corners[sure][:, 0], there[sure][:, 0]
    if len(starts) < 4:
        return Step(0.0, starts / size, ends / size, None, 1.0)
    matrix, agree = cv2.estimateAffinePartial2D(starts, ends, method=cv2.RANSAC, ransacReprojThreshold=2.0)
    if matrix is None:
        return Step(0.0, starts / size, ends / size, None, 1.0)
    background = starts[agree[:, 0] > 0] / size
    kept = len(background) / len(corners)
    if len(background) < 15 or kept < 0.2 or _covered(background) < 7:
        return Step(kept, starts / size, ends / size, None, 1.0)
    # Taken at the middle: a zoom moves the corner that the matrix speaks of, not the middle.
    middle = matrix @ np.array([*size / 2, 1.0]) - size / 2
    shift = middle / size
    return Step(kept, starts / size, ends / size, (float(shift[0]), float(shift[1])), float(np.hypot(*matrix[:, 0])))


def _covered(points: np.ndarray) -> int:
    """In how many of twelve cells of the picture there is a point: a lone thing in the middle is no background."""
    return len({(int(x * _CELLS[0]), int(y * _CELLS[1])) for x, y in points})
