"""Analysis: run all detectors on a clip's samples and group the results by shot."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from clipdex.captions.detectors import colours, motion, shots, text
from clipdex.captions.detectors.colours import Palette
from clipdex.captions.detectors.motion import Camera, Step
from clipdex.captions.detectors.objects import DetectedObject, Finder, Sighting, judge
from clipdex.captions.detectors.samples import Sample, spread
from clipdex.captions.detectors.text import Line, Reader, Words

# Samples for the slow detectors: most per clip, fewest per shot.
_OBJECTS, _OBJECTS_A_SHOT = 16, 3
_TEXTS, _TEXTS_A_SHOT = 12, 2
# Smallest displacement reported as movement [picture widths]; none is reported for other camera motions.
_LEAST = {Camera.STILL: 0.1, Camera.MOVING: 0.2, Camera.UNKNOWN: 0.2}


@dataclass(frozen=True, slots=True)
class Shot:
    """The findings between two cuts.

    start_s, end_s [s on a player's clock of the file]
    has_motion: whether its pictures differ, None if there is only one
    """

    start_s: float
    end_s: float
    camera: Camera
    palette: Palette
    has_motion: bool | None
    things: tuple[DetectedObject, ...]
    words: tuple[Words, ...]


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one thread; they are not thread-safe."""

    finder: Finder
    reader: Reader


def models() -> Models:
    """Return the current thread's models, loaded on first use."""
    if not hasattr(_thread, "models"):
        # Clips already run in parallel threads.
        cv2.setNumThreads(1)
        _thread.models = Models(Finder(), Reader())
    loaded: Models = _thread.models
    return loaded


def analyze(models: Models, samples: Sequence[Sample], end_s: float) -> list[Shot]:
    """Return the shots of a clip, in order. end_s: of its last picture [s]"""
    steps = motion.between(samples)
    cuts = shots.find(samples, steps)
    sightings = {n: models.finder.find(samples[n].full) for n in spread(cuts, _OBJECTS, _OBJECTS_A_SHOT)}
    lines = {n: models.reader.read(samples[n].full) for n in spread(cuts, _TEXTS, _TEXTS_A_SHOT)}
    ends = [samples[cut.start].time_s for cut in cuts[1:]] + [end_s]
    return [_shot(samples, steps, cut, end_s, sightings, lines) for cut, end_s in zip(cuts, ends, strict=True)]


def _shot(
    samples: Sequence[Sample],
    steps: Sequence[Step],
    cut: range,
    end_s: float,
    sightings: dict[int, list[Sighting]],
    lines: dict[int, list[Line]],
) -> Shot:
    mine = samples[cut.start : cut.stop]
    camera = motion.camera(steps[cut.start : cut.stop - 1])
    read = {n - cut.start: lines[n] for n in cut if n in lines}
    seen = {n - cut.start: sightings[n] for n in cut if n in sightings}
    return Shot(
        start_s=mine[0].time_s,
        end_s=end_s,
        camera=camera,
        palette=colours.palette([sample.small for sample in mine]),
        has_motion=_has_motion(mine),
        things=tuple(judge(mine, seen, _LEAST.get(camera))),
        words=tuple(text.gather([mine[n] for n in read], list(read.values()))),
    )


def _has_motion(samples: Sequence[Sample]) -> bool | None:
    """Return whether a visible part of the picture changes between samples; None for one sample."""
    if len(samples) < 2:
        return None
    pairs = [*pairwise(samples), (samples[0], samples[-1])]
    changes = [a.grey.astype(np.int16) - b.grey for a, b in pairs]
    # A global brightness change is not motion.
    return any(float((np.abs(change - np.median(change)) > 24).mean()) > 0.0005 for change in changes)


_thread = threading.local()
