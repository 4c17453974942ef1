"""Paths: describe a sequence of positions as a movement in words."""

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
    straight: without a turn
    start_s, end_s [s from the clip's start]
    """

    words: str
    speed: str
    straight: bool
    start_s: float
    end_s: float


def movement(points: Sequence[Point], least: float) -> Movement | None:
    """Return the movement along the points, or None if its reach is below least [picture widths]."""
    legs = _legs(points)
    length = sum(_distance(a, b) for a, b in pairwise(legs))
    reach = max(_distance(a, b) for a in legs for b in legs)
    if reach < least or len(points) < 2:
        return None
    start_s, end_s = points[0][0], points[-1][0]
    speed = length / max(end_s - start_s, 1e-6)
    straight = _distance(legs[0], legs[-1]) > _STRAIGHT * length
    words = _straight(legs[0], legs[-1]) if straight else _winding(legs)
    return Movement(words, _speed(speed), straight, start_s, end_s)


def heading(dx: float, dy: float) -> str:
    """Return one of eight directions, worded to follow "moves"; y points down."""
    eighth = round(math.atan2(-dy, dx) / (math.pi / 4)) % 8
    return (
        "to the right", "diagonally up to the right", "upwards", "diagonally up to the left",
        "to the left", "diagonally down to the left", "downwards", "diagonally down to the right",
    )[eighth]  # fmt: skip


def _winding(legs: Sequence[Point]) -> str:
    turned = _turned(legs)
    if abs(turned) > 1.3 * math.pi and len(legs) >= 5:
        return "in a circle, " + ("clockwise" if turned > 0 else "counter-clockwise")
    ways = [heading(b[1] - a[1], b[2] - a[2]) for a, b in pairwise(legs)]
    ways = [way for n, way in enumerate(ways) if n == 0 or way != ways[n - 1]]
    if len(set(ways)) == 2 and _opposite(*ways[:2]):
        return f"{ways[0]} and back {ways[1]}" if len(ways) == 2 else _to_and_fro(ways[0])
    across = [b[1] - a[1] for a, b in pairwise(legs)]
    if len(ways) > 3:
        if abs(sum(across)) > 0.25 and abs(sum(across)) > 0.9 * sum(abs(step) for step in across):
            return f"from {'left to right' if sum(across) > 0 else 'right to left'}, going up and down"
        return "about, changing direction"
    if abs(sum(across)) > 0.25 and len({step > 0 for step in across}) == 1 and all("diagonally" in way for way in ways):
        sides = "from left to right" if across[0] > 0 else "from right to left"
        return f"{sides}, " + " and then ".join(way.split()[1] for way in ways)
    return ", then ".join(way.removeprefix("diagonally ") for way in ways)


def _straight(start: Point, end: Point) -> str:
    way = heading(end[1] - start[1], end[2] - start[2])
    if abs(end[1] - start[1]) > 0.25 and way in ("to the right", "to the left"):
        return "from left to right" if way == "to the right" else "from right to left"
    return way


def _to_and_fro(way: str) -> str:
    return "up and down" if way in ("upwards", "downwards") else "back and forth"


def _opposite(way: str, other: str) -> bool:
    pairs = ({"to the left", "to the right"}, {"upwards", "downwards"},
             {"diagonally up to the right", "diagonally down to the left"},
             {"diagonally up to the left", "diagonally down to the right"})  # fmt: skip
    return {way, other} in pairs


def _turned(legs: Sequence[Point]) -> float:
    """Return the sum of the turns between the legs [rad], clockwise positive, since y points down."""
    ways = [math.atan2(b[2] - a[2], b[1] - a[1]) for a, b in pairwise(legs)]
    turns = [(b - a + math.pi) % (2 * math.pi) - math.pi for a, b in pairwise(ways)]
    return sum(turns)


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
