"""Shots: where one shot of a film ends and the next one begins, by PySceneDetect's AdaptiveDetector.

The detector compares each frame with the one before, and that change with the changes of the two frames on either side,
so that a fast pan is no cut. So it decides two frames later, and by nothing else: decoding that goes on in mid-film, a
few frames earlier, finds the same cuts.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from clipdex.config import Split, VideoLimits
from clipdex.errors import ClipRejected, ConfigurationError
from clipdex.video.encoding import FrameConverter

WARM_UP = 8  # frames before a cut that decide it, and some to spare
_LATER = 2  # frames
_SHORT_SIDE = 144  # pixels


def require_shots(limits: VideoLimits) -> None:
    """Raise ConfigurationError if files are to be cut between shots, and the packages for it are missing."""
    if limits.split is Split.SHOTS and not all(map(_is_installed, ("scenedetect", "cv2"))):
        raise ConfigurationError(
            "CLIPDEX_VIDEO__SPLIT=shots needs PySceneDetect: pip install 'clipdex[shots]', or set it to fixed"
        )


def load() -> None:
    """Import the packages and use them once, with one thread: a confined process opens no file."""
    import cv2

    cv2.setNumThreads(1)
    frames = [VideoFrame.from_ndarray(np.full((96, 64), 128, np.uint8), format="yuv420p") for _ in range(8)]
    list(with_cuts(iter([(float(n), frame, float(n)) for n, frame in enumerate(frames)]), 1.0))


def with_cuts(
    frames: Iterator[tuple[float, VideoFrame, float]], pixel_aspect: float
) -> Iterator[tuple[float, VideoFrame, float, bool]]:
    """Yield each (start [s], frame, found [s]) with whether a shot begins with it."""
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(min_scene_len=1)
    converter: FrameConverter | None = None
    scaler = VideoReformatter()
    waiting: deque[tuple[int, tuple[float, VideoFrame, float]]] = deque()
    cuts = set[int]()
    for number, one in enumerate(frames):
        converter = converter or FrameConverter(one[1], pixel_aspect, _SHORT_SIDE)
        waiting.append((number, one))
        picture = _small(converter, scaler, one[1])
        if picture is not None:
            cuts |= {cut.frame_num for cut in detector.process_frame(FrameTimecode(number, 1.0), picture)}
        if len(waiting) > _LATER:
            first, one = waiting.popleft()
            yield *one, first in cuts
            cuts.discard(first)
    for first, one in waiting:
        yield *one, first in cuts


def _small(converter: FrameConverter, scaler: VideoReformatter, frame: VideoFrame) -> Any:
    """Return the frame for the detector, BGR uint8 (height, width, 3), or None if it cannot be converted."""
    try:
        return scaler.reformat(converter.picture(frame), format="bgr24", threads=1).to_ndarray()
    except ClipRejected:
        return None


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # another thread imports it
        return True
