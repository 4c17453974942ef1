"""Write files with several video streams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.stream import Disposition
from av.video.frame import VideoFrame

from tests.support.clips import numbered

FPS = 10


@dataclass(frozen=True, slots=True)
class Video:
    """One stream at 10 frames per second. numbers: in its frames, each shown at its place among those of the film

    A stream with fewer numbers than its last one shows each at number / FPS.
    """

    size: tuple[int, int]
    numbers: Sequence[int]
    disposition: Disposition | None = None
    codec: str = "libx264"


def write_videos(path: Path, videos: Sequence[Video], metadata: Mapping[str, str] | None = None) -> Path:
    with av.open(path, "w") as container:
        container.metadata.update(metadata or {})
        streams = []
        for video in videos:
            options = {"g": "10", "bf": "0", "preset": "ultrafast"} if video.codec == "libx264" else {}
            stream = container.add_stream(video.codec, rate=FPS, options=options)
            stream.width, stream.height, stream.pix_fmt = *video.size, "yuv420p"
            if video.disposition is not None:
                stream.disposition = video.disposition
            streams.append(stream)
        moments = sorted(
            (number % 100, place, number) for place, video in enumerate(videos) for number in video.numbers
        )
        for moment, place, number in moments:
            frame = VideoFrame.from_ndarray(numbered(number, videos[place].size)).reformat(format="yuv420p")
            frame.pts, frame.time_base = moment, Fraction(1, FPS)
            container.mux(streams[place].encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path
