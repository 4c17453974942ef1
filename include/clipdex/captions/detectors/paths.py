"""Paths: describe a sequence of positions as a straight movement in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float, float]  # time [s], x, y [picture widths from the top left corner]

_EPSILON = 0.03
_STRAIGHT = 0.93


@dataclass(frozen=True, slots=True)
class Movement:
    """A movement, worded to follow "moves".

    words: "from left to right"
    speed: "quickly", "slowly" or ""
    start_s, end_s [s on a player's clock of the file]
    """

    words: str
    speed: str
    start_s: float
    end_s: float


def movement(points: Sequence[Point], least: float) -> Movement | None:
    """Return the movement along the points, or None if it turns or is shorter than least [picture widths]."""
    legs = _legs(points)
    moved = _distance(legs[0], legs[-1])
    if moved < least or moved < _STRAIGHT * sum(_distance(a, b) for a, b in pairwise(legs)):
        return None
    start_s, end_s = points[0][0], points[-1][0]
    return Movement(_direction(legs[0], legs[-1]), _speed(moved / max(end_s - start_s, 1e-6)), start_s, end_s)


def _direction(start: Point, end: Point) -> str:
    """Return the direction, worded to follow "moves"; y points down."""
    dx, dy = end[1] - start[1], end[2] - start[2]
    eighth = round(math.atan2(-dy, dx) / (math.pi / 4)) % 8
    if abs(dx) > 0.25 and eighth in (0, 4):
        return "from left to right" if dx > 0 else "from right to left"
    return (
        "to the right", "diagonally up to the right", "upwards", "diagonally up to the left",
        "to the left", "diagonally down to the left", "downwards", "diagonally down to the right",
    )[eighth]  # fmt: skip


def _speed(widths_per_s: float) -> str:
    if widths_per_s < 0.07:
        return "slowly"
    return "quickly" if widths_per_s > 0.4 else ""


def _legs(points: Sequence[Point]) -> list[Point]:
    """Simplify a path: drop points close to the straight line (Ramer-Douglas-Peucker)."""
    first, last = points[0], points[-1]
    if len(points) < 3:
        return [first, last]
    off = [_off(point, first, last) for point in points]
    far = max(range(len(points)), key=off.__getitem__)
    if off[far] < _EPSILON:
        return [first, last]
    return _legs(points[: far + 1])[:-1] + _legs(points[far:])


def _off(point: Point, start: Point, end: Point) -> float:
    length = _distance(start, end)
    along = 0.0
    if length > 0:
        along = ((point[1] - start[1]) * (end[1] - start[1]) + (point[2] - start[2]) * (end[2] - start[2])) / length**2
    along = min(1.0, max(0.0, along))
    x, y = start[1] + along * (end[1] - start[1]), start[2] + along * (end[2] - start[2])
    return math.hypot(point[1] - x, point[2] - y)


def _distance(a: Point, b: Point) -> float:
    return math.hypot(b[1] - a[1], b[2] - a[2])
