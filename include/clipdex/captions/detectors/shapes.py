"""Shapes: uniformly coloured regions bounded by edges, classified by outline and tracked through a shot."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from clipdex.captions.detectors import colours
from clipdex.captions.detectors.motion import Step
from clipdex.captions.detectors.paths import Movement, Point, movement
from clipdex.captions.detectors.samples import Picture, Sample, shrunk

_SIDE = 480
_EDGE = 14  # difference between adjacent pixels, of 255, that ends a region
_SMALLEST, _LARGEST = 0.0006, 0.4  # of the picture's area
_MOST = 40  # largest regions tracked per picture
_REPORTED = 5  # most shapes per shot
_WINDING = 5  # fewest positions of a path with turns: fewer may be two objects
_COARSE = 900  # outline area below which it is smoothed [pixels]
_BORDER = 0.012
_MOVED = 0.05  # smallest reported displacement [picture widths]


@dataclass(frozen=True, slots=True)
class Region:
    """A uniformly coloured region in one picture.

    kind: "circle", "square", ... or ""
    rgb: its colour
    area: fraction of the picture's area
    x, y: its centre [picture widths]
    box: left, top, right, bottom [fractions of width and height]
    cut: whether it touches the picture's border
    """

    kind: str
    rgb: tuple[float, float, float]
    area: float
    x: float
    y: float
    box: tuple[float, float, float, float]
    cut: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """A region tracked through a shot.

    kind: the most frequent kind, or ""
    sure: share of the pictures with that kind
    colour: its name
    area: median fraction of the picture's area
    growth: last area / first area
    path: relative to the background
    moved: its movement, if the places it left show another colour
    regions: by sample number
    """

    kind: str
    sure: float
    colour: str
    area: float
    growth: float
    path: tuple[Point, ...]
    moved: Movement | None
    regions: dict[int, Region]


def find(picture: Picture) -> list[Region]:
    """Return the regions of one picture, largest first."""
    picture = cv2.medianBlur(shrunk(picture, _SIDE), 3)
    height, width = picture.shape[:2]
    if min(height, width) < 32:
        return []
    even = (_steepness(picture) < _EDGE).astype(np.uint8)
    count, marks, stats, _ = cv2.connectedComponentsWithStats(even, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA]
    worthy = [
        n for n in range(1, count)
        if areas[n] >= max(_SMALLEST * areas.sum(), 24) and areas[n] <= _LARGEST * areas.sum()
    ]  # fmt: skip
    worthy.sort(key=lambda n: (-areas[n], n))
    regions = (_region(picture, marks, n, stats[n]) for n in worthy[:_MOST])
    return [region for region in regions if region is not None]


def notable(shapes: Sequence[Shape], samples: Sequence[Sample]) -> list[Shape]:
    """Return the shapes worth reporting: moving ones, and still ones of a clear form and colour."""
    crowd = float(np.median([sum(n in shape.regions for shape in shapes) for n in range(len(samples))]))
    reported = [
        shape for shape in shapes if _moves_clearly(shape, len(samples), crowd) or _stands_clearly(shape, len(samples))
    ]
    return sorted(reported, key=lambda shape: (shape.moved is None, -shape.area))[:_REPORTED]


def follow(samples: Sequence[Sample], steps: Sequence[Step], regions: Sequence[list[Region]]) -> list[Shape]:
    """Track regions through the samples of one shot by colour, size and position."""
    tracks: list[dict[int, Region]] = []
    for number, found in enumerate(regions):
        alive = [track for track in tracks if number - max(track) <= 2]
        free = set(range(len(found)))
        for track, n in _pairs(alive, found, number):
            if n in free and number not in track:
                track[number] = found[n]
                free.discard(n)
        tracks += [{number: found[n]} for n in sorted(free)]
    drift = _drift(steps, samples[0].aspect)
    return [_shape(track, samples, drift) for track in tracks if len(track) >= 2]


def _moves_clearly(shape: Shape, samples: int, crowd: float) -> bool:
    """Return whether a shape moves reliably. In crowded pictures only clear outlines can be tracked."""
    if shape.moved is None or len(shape.regions) < min(3, samples):
        return False
    if shape.kind and shape.sure >= 0.6:
        return True
    return crowd <= 8 and shape.area >= 0.0008


def _stands_clearly(shape: Shape, samples: int) -> bool:
    colourful = shape.colour in colours.CHROMATIC and shape.kind in ("circle", "square", "triangle")
    there = len(shape.regions) >= max(2, 0.8 * samples)
    return shape.moved is None and colourful and there and shape.sure >= 0.8 and shape.area >= 0.004


def _steepness(picture: Picture) -> np.ndarray:
    """Return the largest difference to adjacent pixels over all channels; high on edges."""
    signed = picture.astype(np.int16)
    steep = np.zeros(picture.shape[:2], np.int16)
    across = np.abs(signed[:, 2:] - signed[:, :-2]).max(axis=2)
    down = np.abs(signed[2:] - signed[:-2]).max(axis=2)
    steep[:, 1:-1] = across
    np.maximum(steep[1:-1], down, out=steep[1:-1])
    return steep


def _region(picture: Picture, marks: np.ndarray, number: int, stats: np.ndarray) -> Region | None:
    height, width = marks.shape
    left, top, wide, high = (int(v) for v in stats[:4])
    if wide > 0.95 * width and high > 0.95 * height:
        return None
    # Edges are wide: pixels just outside belong to the region too.
    pad = 3
    x0, y0, x1, y1 = max(0, left - pad), max(0, top - pad), min(width, left + wide + pad), min(height, top + high + pad)
    mask = (marks[y0:y1, x0:x1] == number).astype(np.uint8)
    colour = cv2.mean(picture[y0:y1, x0:x1], mask)[:3]
    grown = cv2.dilate(cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT), _DISC)
    outlines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=cv2.contourArea)
    moments = cv2.moments(outline)
    if moments["m00"] < 24:
        return None
    x, y = moments["m10"] / moments["m00"] + x0 - pad, moments["m01"] / moments["m00"] + y0 - pad
    box = (x0 / width, y0 / height, x1 / width, y1 / height)
    cut = box[0] < _BORDER or box[1] < _BORDER or box[2] > 1 - _BORDER or box[3] > 1 - _BORDER
    rgb = (float(colour[0]), float(colour[1]), float(colour[2]))
    return Region("" if cut else _kind(outline), rgb, moments["m00"] / (width * height), x / width, y / width, box, cut)


def _kind(outline: np.ndarray) -> str:
    round_from = 0.86
    if cv2.contourArea(outline) < _COARSE:
        outline, round_from = _smoothed(outline), 0.8
    area = cv2.contourArea(outline)
    hull = cv2.convexHull(outline)
    if area < 60 or area < 0.93 * cv2.contourArea(hull):
        return ""
    _, (wide, high), _ = cv2.minAreaRect(hull)
    _, radius = cv2.minEnclosingCircle(hull)
    three, _ = cv2.minEnclosingTriangle(hull)
    longer, shorter = max(wide, high), max(1.0, min(wide, high))
    if longer / shorter > 8:
        return ""
    if area > round_from * math.pi * radius**2:
        return "circle"
    if area > 0.9 * wide * high:
        return "square" if longer / shorter < 1.15 else "rectangle"
    if area > 0.85 * three:
        return "triangle"
    if 0.74 < area / (wide * high) < 0.83 and longer / shorter > 1.2:
        return "oval"
    return ""


def _smoothed(outline: np.ndarray) -> np.ndarray:
    """Return a small outline four times as large, without its pixel steps."""
    _, _, wide, high = cv2.boundingRect(outline)
    mask = np.zeros((high + 8, wide + 8), np.uint8)
    cv2.drawContours(mask, [outline - outline.min(axis=(0, 1)) + 4], -1, 255, cv2.FILLED)
    large = cv2.GaussianBlur(cv2.resize(mask, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR), (9, 9), 0)
    outlines, _ = cv2.findContours((large > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(max(outlines, key=cv2.contourArea))


def _pairs(
    tracks: Sequence[dict[int, Region]], found: Sequence[Region], number: int
) -> Iterable[tuple[dict[int, Region], int]]:
    """Return candidate pairs of tracks and region numbers, best first."""
    if not tracks or not found:
        return []
    rgb = np.array([region.rgb for region in found])
    places = np.array([(region.x, region.y) for region in found])
    areas = np.array([region.area for region in found])
    cuts = np.array([region.cut for region in found])
    offers: list[tuple[float, int, int]] = []
    for t, track in enumerate(tracks):
        last = track[max(track)]
        unlike = np.abs(rgb - last.rgb).max(axis=1)
        change = np.abs(np.log(areas / last.area))
        far = np.linalg.norm(places - _expected(track, number), axis=1)
        if len(track) > 2:  # long enough to accept a reversal
            far = np.minimum(far, np.linalg.norm(places - (last.x, last.y), axis=1))
        most = np.where(cuts | last.cut, 1.8, 0.6)
        for n in np.flatnonzero((unlike < 28) & (change < most) & (far < 0.4)):
            offers.append((float(unlike[n] / 40 + change[n] / 2 + far[n] * 2), t, int(n)))
    return [(tracks[t], n) for _, t, n in sorted(offers)]


def _expected(track: dict[int, Region], number: int) -> tuple[float, float]:
    """Extrapolate a track's position to a sample number."""
    seen = sorted(track)
    last = track[seen[-1]]
    if len(seen) == 1:
        return last.x, last.y
    before = track[seen[-2]]
    share = (number - seen[-1]) / (seen[-1] - seen[-2])
    return last.x + share * (last.x - before.x), last.y + share * (last.y - before.y)


def _drift(steps: Sequence[Step], aspect: float) -> list[tuple[float, float]]:
    """Return the background's displacement since the first sample [picture widths]."""
    drift = [(0.0, 0.0)]
    for step in steps:
        dx, dy = step.shift or (0.0, 0.0)
        drift.append((drift[-1][0] + dx, drift[-1][1] + dy * aspect))
    return drift


def _shape(track: dict[int, Region], samples: Sequence[Sample], drift: Sequence[tuple[float, float]]) -> Shape:
    seen = sorted(track)
    whole = [track[n] for n in seen if not track[n].cut] or [track[n] for n in seen]
    kinds = Counter(region.kind for region in whole)
    kind = max(kinds, key=lambda k: (kinds[k], k))
    path = tuple((samples[n].time_s, track[n].x - drift[n][0], track[n].y - drift[n][1]) for n in seen)
    moved = movement(path, _MOVED)
    if moved and not moved.straight and len(path) < _WINDING:
        moved = None
    return Shape(
        kind=kind,
        sure=kinds[kind] / len(whole) if kind else 0.0,
        colour=colours.name(np.median([region.rgb for region in whole], axis=0)),
        area=float(np.median([region.area for region in whole])),
        growth=whole[-1].area / whole[0].area,
        path=path,
        moved=moved if moved and _left_its_places(track, samples) else None,
        regions=track,
    )


def _left_its_places(track: dict[int, Region], samples: Sequence[Sample]) -> bool:
    """Return whether the places a region left show another colour; otherwise the track joins two still objects."""
    checked = left = 0
    for n, region in track.items():
        size = math.sqrt(region.area * samples[n].aspect)
        away = [m for m, other in track.items() if math.hypot(other.x - region.x, other.y - region.y) > size]
        for m in away:
            checked += 1
            left += _unlike(samples[m], region)
    return checked > 0 and left >= 0.85 * checked


def _unlike(sample: Sample, region: Region) -> bool:
    height, width = sample.grey.shape
    x, y = min(width - 1, int(region.x * width)), min(height - 1, int(region.y * width))
    return bool(np.abs(sample.small[y, x].astype(np.float64) - region.rgb).max() > 28)


_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
