"""Decoding that skips pictures returns the same pictures as decoding all of them."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from clipdex.config import VideoLimits
from clipdex.video import ClipFile
from clipdex.video.decoding import opened
from tests.support.clips import film, write_clip

TIMES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5)


def _decoded_in_full(path: Path, times: Sequence[float]) -> list[np.ndarray]:
    with av.open(path) as container:
        every = [(frame.time, frame.to_ndarray(format="yuv420p")) for frame in container.decode(video=0)]
    return [[pixels for start, pixels in every if start - every[0][0] <= time_s + 1e-6][-1] for time_s in times]


def _selected(path: Path, times: Sequence[float]) -> list[np.ndarray]:
    with ClipFile.open(path) as file, opened(file, VideoLimits()) as footage:
        return [frame.to_ndarray(format="yuv420p") for frame in footage.pictures(times)]


def _psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize(
    "options",
    [
        {"crf": "40", "g": "250"},
        {"crf": "40", "g": "12", "x264-params": "open-gop=1"},
        {"crf": "40", "bf": "0", "g": "25"},
    ],
    ids=["one long group", "open groups", "no pictures to skip"],
)
def test_pictures_of_a_low_bitrate_clip_are_identical(tmp_path: Path, options: dict[str, str]) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, picture=film, options=options)
    for selected, plain in zip(_selected(path, TIMES), _decoded_in_full(path, TIMES), strict=True):
        assert np.array_equal(selected, plain)


@pytest.mark.parametrize("sparse", [TIMES, (0.0, 1.24, 3.9)])
def test_pictures_of_a_high_bitrate_clip_look_alike(tmp_path: Path, sparse: Sequence[float]) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, picture=film, options={"crf": "26"})
    for selected, plain in zip(_selected(path, sparse), _decoded_in_full(path, sparse), strict=True):
        assert _psnr(selected, plain) > 40
