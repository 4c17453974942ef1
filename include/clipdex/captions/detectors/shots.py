"""Shots: PySceneDetect proposes cuts; those with enough tracked motion across them are dropped."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector

from clipdex.captions.detectors.motion import Step
from clipdex.captions.detectors.samples import Sample

# Samples are half a second apart, so content changes within a shot too: propose more cuts and confirm by motion.
_CONTENT = 20.0
# With too few corners to track, use PySceneDetect's default threshold.
_CONTENT_ALONE = 27.0
_KEPT = 0.05
# A larger share of cuts among the steps is flicker or noise.
_FLICKER = 0.7


def find(samples: Sequence[Sample], steps: Sequence[Step]) -> list[range]:
    """Return the sample numbers of each shot, in order."""
    likely, sure = _jumps(samples, _CONTENT), _jumps(samples, _CONTENT_ALONE)
    cuts = []
    for number, step in enumerate(steps, start=1):
        if step.kept is None:
            cuts += [number] if number in sure else []
        elif step.kept < _KEPT and number in likely:
            cuts.append(number)
    if len(cuts) > _FLICKER * len(steps) and len(samples) > 3:
        cuts = []
    edges = [0, *cuts, len(samples)]
    return [range(start, end) for start, end in pairwise(edges)]


def _jumps(samples: Sequence[Sample], threshold: float) -> set[int]:
    detector = ContentDetector(threshold=threshold, min_scene_len=1)
    jumps: set[int] = set()
    for number, sample in enumerate(samples):
        picture = np.ascontiguousarray(sample.small[:, :, ::-1])
        jumps |= {cut.frame_num for cut in detector.process_frame(FrameTimecode(number, 1.0), picture)}
    return jumps
