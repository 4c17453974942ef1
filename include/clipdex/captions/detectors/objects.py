"""Objects: an SSD detects COCO classes per picture; agreement between pictures decides which are reported."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from clipdex.captions.detectors import weights
from clipdex.captions.detectors.paths import Movement, Point, movement
from clipdex.captions.detectors.samples import Picture, Sample

Box = tuple[float, float, float, float]  # left, top, right, bottom [fractions of width and height]

# Class names by COCO number, from 1; "" for unused numbers.
COCO = (
    "", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "", "backpack", "umbrella", "", "", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "",
    "dining table", "", "", "toilet", "", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave",
    "oven", "toaster", "sink", "refrigerator", "", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
    "toothbrush",
)  # fmt: skip
ANIMALS = frozenset(COCO[16:26])
VEHICLES = frozenset(("car", "bus", "train", "truck", "boat", "airplane"))
RIDDEN = frozenset(("bicycle", "motorcycle", "horse", "skateboard", "surfboard", "snowboard", "skis"))
WORN = frozenset(("tie", "backpack", "handbag", "umbrella", "suitcase", "tennis racket", "baseball bat"))
# Reliable classes. The detector labels unknown objects vase, kite or cup.
_RELIABLE = ANIMALS | VEHICLES | {"person", "bicycle", "motorcycle"}
_FAMILIES = {"animal": ANIMALS, "vehicle": VEHICLES, "two-wheeler": frozenset(("bicycle", "motorcycle"))}
_SEEN, _WEAK = 0.5, 0.38


@dataclass(frozen=True, slots=True)
class Sighting:
    """One detection in one picture."""

    label: str
    score: float
    box: Box


@dataclass(frozen=True, slots=True)
class DetectedObject:
    """Objects of one name in one shot.

    count: most at once, confirmed by two pictures
    more: a single picture shows more
    sure: False for an uncertain detection, which the caption hedges
    times: of the pictures that show one [s]
    moved: movement of a single object, if it is clear
    boxes: by sample number, highest score first
    """

    name: str
    count: int
    more: bool
    sure: bool
    times: tuple[float, ...]
    moved: Movement | None
    boxes: Mapping[int, Sequence[Box]]


class Finder:
    """The detector. Not thread-safe."""

    def __init__(self) -> None:
        self._net = cv2.dnn.readNetFromTensorflow(str(weights.OBJECTS.path()), str(weights.OBJECTS_GRAPH.path()))

    def find(self, picture: Picture) -> list[Sighting]:
        """Return the detections in one picture, highest score first, without overlapping duplicates."""
        self._net.setInput(cv2.dnn.blobFromImage(picture, size=(300, 300)))
        rows = self._net.forward().reshape(-1, 7)
        found: list[Sighting] = []
        for _, label, score, *edges in sorted(rows.tolist(), key=lambda row: -row[2]):
            left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in edges)
            box = (left, top, right, bottom)
            name = COCO[int(label)] if int(label) < len(COCO) else ""
            if score < _WEAK or not name or right <= left or bottom <= top:
                continue
            if not any(_rivals(name, box, other) for other in found):
                found.append(Sighting(name, score, box))
        return found


def judge(
    samples: Sequence[Sample], found: Mapping[int, Sequence[Sighting]], least: float | None
) -> list[DetectedObject]:
    """Return the objects of a shot, people first.

    found: detections by sample number in the shot
    least: smallest displacement that counts as movement [picture widths], None while the camera pans
    """
    names = _names(found)
    seen: dict[str, dict[int, list[Sighting]]] = defaultdict(lambda: defaultdict(list))
    for number in sorted(found):
        for sighting in found[number]:
            seen[names[sighting.label]][number].append(sighting)
    people = {number: [s.box for s in sightings] for number, sightings in seen.get("person", {}).items()}
    things = []
    for name, by_number in seen.items():
        sure = _is_sure(name, by_number, people)
        if sure is not None:
            things.append(_thing(name, sure, by_number, samples, least))
    return sorted(things, key=lambda thing: (thing.name != "person", not thing.sure, -thing.count, thing.name))


def rides(person: DetectedObject, other: DetectedObject) -> bool:
    """Return whether a person sits or stands on the other object in a picture that shows both."""
    shared = person.boxes.keys() & other.boxes.keys()
    return any(_mounted(body, mount) for n in shared for body in person.boxes[n] for mount in other.boxes[n])


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union."""
    both = _area(_common(one, other))
    return both / max(_area(one) + _area(other) - both, 1e-9)


def inside(one: Box, other: Box) -> float:
    """Return the share of one's area inside the other."""
    return _area(_common(one, other)) / max(_area(one), 1e-9)


def _names(found: Mapping[int, Sequence[Sighting]]) -> dict[str, str]:
    """Return the reported name per label in this shot.

    If labels of one family compete for one place, use the label with a clear majority, else the family name.
    """
    weight: dict[str, float] = defaultdict(float)
    for sightings in found.values():
        for sighting in sightings:
            weight[sighting.label] += sighting.score
    names = {label: label for label in weight}
    for family, members in _FAMILIES.items():
        here = sorted((label for label in weight if label in members), key=lambda label: (-weight[label], label))
        if len(here) < 2:
            continue
        total = sum(weight[label] for label in here)
        rivals = [label for label in here[1:] if family == "animal" or _confused(found, here[0], label)]
        if not rivals:
            continue
        clear = weight[here[0]] > (0.95 if family == "animal" else 0.7) * total
        names.update(dict.fromkeys((here[0], *rivals), here[0] if clear else family))
    return names


def _confused(found: Mapping[int, Sequence[Sighting]], one: str, other: str) -> bool:
    """Return whether one place has both labels, in the same or in different pictures."""
    boxes = {
        label: [s.box for sightings in found.values() for s in sightings if s.label == label] for label in (one, other)
    }
    return any(overlap(a, b) > 0.5 for a in boxes[one] for b in boxes[other])


def _is_sure(name: str, seen: Mapping[int, Sequence[Sighting]], people: Mapping[int, Sequence[Box]]) -> bool | None:
    """Return True for a certain object, False for an uncertain one to hedge, None for one to drop."""
    tops = [max(s.score for s in sightings) for sightings in seen.values()]
    clear = sum(top >= _SEEN for top in tops)
    mean = float(np.mean(tops))
    if name in ("animal", "vehicle", "two-wheeler"):
        return False if clear >= 2 else None
    if name in ANIMALS:
        return (clear >= 3 and mean >= 0.8) if clear >= 2 else None
    if name in _RELIABLE:
        if clear >= 1 and len(tops) >= 2 and mean >= 0.48:
            return True
        if max(tops) >= 0.58:
            return False
        # A single detection is accepted, hedged, if a person rides it.
        ridden = name in RIDDEN and any(
            s.score >= _SEEN and _mounted(body, s.box) for n in seen for s in seen[n] for body in people.get(n, ())
        )
        return False if ridden else None
    largest = max(_area(s.box) for sightings in seen.values() for s in sightings)
    if name in WORN:
        held = sum(any(inside(s.box, person) > 0.7 for s in seen[n] for person in people.get(n, ())) for n in seen)
        return True if clear >= 2 and held >= 2 and mean >= 0.55 and largest < 0.12 else None
    return False if clear >= 3 and mean >= 0.65 and largest < 0.12 else None


def _mounted(body: Box, mount: Box) -> bool:
    middle = (body[0] + body[2]) / 2 - (mount[0] + mount[2]) / 2
    above = mount[1] - body[1] > 0.25 * (body[3] - body[1])
    return above and abs(middle) < 0.4 * (mount[2] - mount[0]) and inside(mount, body) > 0.25


def _thing(
    name: str, sure: bool, seen: Mapping[int, Sequence[Sighting]], samples: Sequence[Sample], least: float | None
) -> DetectedObject:
    counts = sorted(sum(s.score >= 0.42 for s in sightings) for sightings in seen.values())
    count = max(1, counts[-2] if len(counts) > 1 else 1)
    boxes = {number: [s.box for s in sightings] for number, sightings in seen.items()}
    more = counts[-1] > count
    times = tuple(samples[number].time_s for number in seen)
    moved = _moved(boxes, samples, least) if count == 1 and not more and least else None
    return DetectedObject(name, count, more, sure, times, moved, boxes)


def _moved(boxes: Mapping[int, Sequence[Box]], samples: Sequence[Sample], least: float) -> Movement | None:
    """Return a single object's movement. Boxes jitter: the places it left must change more than their surroundings."""
    numbers = sorted(boxes)
    track = [boxes[number][0] for number in numbers]
    if len(track) < 2 or not _has_changed(samples[numbers[0]], samples[numbers[-1]], track[0], track[-1]):
        return None
    x = [(box[0] + box[2]) / 2 for box in track]
    y = [(box[1] + box[3]) / 2 * samples[0].aspect for box in track]
    # The picture's border clips boxes by varying amounts, so their centres are unreliable along that side.
    if any(box[1] < 0.03 or box[3] > 0.97 for box in track) or np.ptp(y) < 0.6 * np.ptp(x):
        y = [y[0]] * len(y)
    if all(box[0] < 0.03 or box[2] > 0.97 for box in track):
        return None
    points: list[Point] = [(samples[n].time_s, x[k], y[k]) for k, n in enumerate(numbers)]
    return movement(points, least)


def _has_changed(first: Sample, last: Sample, start: Box, end: Box) -> bool:
    change = np.abs(first.grey.astype(np.int16) - last.grey)
    height, width = change.shape
    around = np.ones(change.shape, bool)
    patches = []
    for left, top, right, bottom in (start, end):
        place = (slice(int(top * height), int(bottom * height) + 1), slice(int(left * width), int(right * width) + 1))
        around[place] = False
        patches.append(float(change[place].mean()))
    quiet = float(np.median(change[around])) if around.any() else 0.0
    return min(patches) > max(8.0, 2.0 * quiet)


def _rivals(name: str, box: Box, other: Sighting) -> bool:
    """Return whether both are the same object: similar boxes, or nested boxes of one name."""
    nested = max(inside(box, other.box), inside(other.box, box)) > 0.8
    return overlap(box, other.box) > 0.55 or (name == other.label and nested)


def _common(one: Box, other: Box) -> Box:
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
