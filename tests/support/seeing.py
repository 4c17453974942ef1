"""Look at a video as a model would, and answer questions about it; with silent faults of servers, if asked for.

half_sampling       every second frame of a video is dropped, except the last four
dropped             only the first ten frames are used
resized             half of the pixels in each direction
resampled           as many frames as InternVL's server takes: 32 of any video
blind               the video is replaced by one that is always the same
no_clock            the frames are seen in an order that does not depend on theirs
random_text         words without a meaning, as of random weights
reasoning           <think> before the answer; reasoning_field: in a field of its own
ignores_max_tokens, ignores_seed, ignores_temperature
"""

import io
import random
import re
from dataclasses import dataclass, replace
from hashlib import sha256

import av
import numpy as np

SILENT = {
    "half_sampling", "dropped", "resized", "resampled", "blind", "no_clock", "random_text", "reasoning",
    "reasoning_field", "ignores_max_tokens", "ignores_seed", "ignores_temperature",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sight:
    """What a model gets of a video: small pictures, RGB, their rate [1/s], and the size of a frame [pixels]."""

    pictures: tuple[np.ndarray, ...]
    fps: float
    size: tuple[int, int]


def see(mp4: bytes, silent: frozenset[str]) -> Sight:
    """Decode a video and lose what the faults lose."""
    with av.open(io.BytesIO(mp4)) as container:
        stream = container.streams.video[0]
        pictures = [frame.reformat(56, 28, "rgb24").to_ndarray() for frame in container.decode(stream)]
        sight = Sight(tuple(pictures), float(stream.average_rate or 1), (stream.width, stream.height))
    frames = sight.pictures
    if "half_sampling" in silent and len(frames) > 4:
        sight = replace(sight, pictures=frames[:: 2 if len(frames) >= 8 else 1], fps=sight.fps / 2)
    if "dropped" in silent:
        sight = replace(sight, pictures=frames[:10])
    if "resampled" in silent:
        sight = replace(sight, pictures=tuple(frames[n * len(frames) // 32] for n in range(32)))
    if "resized" in silent:
        sight = replace(sight, size=(sight.size[0] // 2, sight.size[1] // 2))
    if "no_clock" in silent:
        sight = replace(sight, pictures=tuple(sorted(frames, key=_look_of)))
    if "blind" in silent:
        sight = replace(sight, pictures=(np.full((28, 56, 3), (35, 60, 205), np.uint8),) * len(frames))
    return sight


def reply(prompt: str, sight: Sight | None, silent: frozenset[str], draw: str) -> str:
    """Return the answer to a question. draw: what a random answer depends on"""
    if "random_text" in silent:
        pictures = b"".join(one.tobytes() for one in sight.pictures) if sight else b""
        return _words(sha256(prompt.encode() + pictures + draw.encode()).hexdigest(), 12)
    if "clear sky" in prompt:
        return "Blue."
    if sight is None or "random words" in prompt:
        return _words(draw, 60)
    if "Which colour fills this video" in prompt:
        return _colour(sight.pictures[0]).capitalize()
    if "Which way does the square move" in prompt:
        return _direction(sight)
    if "fills the picture first" in prompt:
        return f"The first colour is {_colour(sight.pictures[0])}."
    if "At which second" in prompt:
        return f"{_change(sight):.1f} seconds"
    return _words(draw, 60)


_COLOURS = {
    "red": (205, 35, 35), "blue": (35, 60, 205), "green": (30, 150, 60), "yellow": (235, 215, 40),
    "purple": (130, 40, 160), "orange": (240, 130, 20),
}  # fmt: skip


def _colour(picture: np.ndarray) -> str:
    mean = picture.reshape(-1, 3).astype(float).mean(axis=0)
    return min(_COLOURS, key=lambda name: float(np.abs(mean - np.array(_COLOURS[name])).sum()))


def _direction(sight: Sight) -> str:
    centres = [centre for picture in sight.pictures if (centre := _centre(picture))]
    if len(centres) < 2:
        return "right"
    x, y = (centres[-1][axis] - centres[0][axis] for axis in (0, 1))
    return ("right" if x > 0 else "left") if abs(x) > abs(y) else ("down" if y > 0 else "up")


def _centre(picture: np.ndarray) -> tuple[float, float] | None:
    """Return the centre of what differs from the picture's corner, None if nothing does."""
    apart = np.abs(picture.astype(int) - picture[0, 0].astype(int)).sum(axis=2) > 90
    if not apart.any():
        return None
    rows, columns = np.nonzero(apart)
    return float(columns.mean()), float(rows.mean())


def _look_of(picture: np.ndarray) -> tuple[str, tuple[float, ...]]:
    """Return the content of a picture, by which pictures have an order without times."""
    return _colour(picture), tuple(round(place) for place in _centre(picture) or (0.0, 0.0))


def _change(sight: Sight) -> float:
    jumps = [
        float(np.abs(later.astype(int) - earlier.astype(int)).mean())
        for earlier, later in zip(sight.pictures, sight.pictures[1:], strict=False)
    ]
    return (jumps.index(max(jumps)) + 1) / sight.fps if jumps else 0.0


def _words(draw: str, count: int) -> str:
    chance = random.Random(draw)
    syllables = re.findall("..", "bakodemifunalopersitovex")
    return " ".join("".join(chance.choice(syllables) for _ in range(3)) for _ in range(count))
