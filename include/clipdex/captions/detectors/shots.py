"""Shots: PySceneDetect says where the picture jumps; where enough of the picture goes on, it is no cut."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector

from clipdex.captions.detectors.motion import Step
from clipdex.captions.detectors.samples import Sample

# Samples lie half a second apart, so that content changes within a shot too: propose more, and let motion decide.
_CONTENT = 20.0
# Where the picture has too few corners to tell, only a jump that PySceneDetect calls a cut by default is one.
_CONTENT_ALONE = 27.0
_KEPT = 0.05
# Above this share of cuts among the steps it is flicker or noise: no shot of it would hold two pictures.
_FLICKER = 0.7


def find(samples: Sequence[Sample], steps: Sequence[Step]) -> list[range]:
    """The samples of each shot, in order."""
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
