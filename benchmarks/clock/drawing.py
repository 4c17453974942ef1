"""Draw clips in which one coloured shape moves in one of four directions over a plain background."""

import itertools
import random
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

SIDE = 336  # pixels; SGLang enlarges frames with fewer than 100,352 pixels
FRAMES = 8
COLOURS = {
    "red": (0.86, 0.1, 0.1), "green": (0.1, 0.63, 0.2), "blue": (0.12, 0.24, 0.86),
    "yellow": (0.96, 0.86, 0.1), "purple": (0.5, 0.12, 0.63), "orange": (1.0, 0.53, 0.0),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {
    "from left to right": (1, 0), "from right to left": (-1, 0), "upwards": (0, -1), "downwards": (0, 1),
}  # fmt: skip
BACKGROUNDS = {"white": 0.97, "grey": 0.7, "black": 0.06}
REVERSED = {
    "from left to right": "from right to left", "from right to left": "from left to right",
    "upwards": "downwards", "downwards": "upwards",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of a clip."""

    colour: str
    shape: str
    direction: str
    background: str

    @property
    def caption(self) -> str:
        return f"A {self.colour} {self.shape} moves {self.direction} on a {self.background} background."


SCENES = tuple(itertools.starmap(Scene, itertools.product(COLOURS, SHAPES, DIRECTIONS, BACKGROUNDS)))


def draw(scenes: list[Scene], device: str, generator: torch.Generator, side: int = SIDE) -> torch.Tensor:
    """Return frames in 0..1, shape (scenes, FRAMES, 3, side, side); size, path and noise are random."""

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.empty(len(scenes), *shape, device=device).uniform_(low, high, generator=generator)

    axis = torch.arange(side, device=device) / side
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    radius, across = uniform(0.09, 0.16, 1, 1, 1), uniform(0.25, 0.75, 1)
    first, last = uniform(0.12, 0.3, 1), uniform(0.7, 0.88, 1)
    along = first + (last - first) * torch.linspace(0, 1, FRAMES, device=device)
    step = torch.tensor([DIRECTIONS[scene.direction] for scene in scenes], device=device)
    along = torch.where(step.sum(dim=1, keepdim=True) < 0, 1 - along, along)
    horizontal = (step[:, :1] != 0).expand_as(along)
    x = columns - torch.where(horizontal, along, across.expand_as(along))[..., None, None]
    y = rows - torch.where(horizontal, across.expand_as(along), along)[..., None, None]
    circle = x * x + y * y < radius * radius
    square = torch.maximum(x.abs(), y.abs()) < 0.9 * radius
    triangle = (y.abs() < radius) & (x.abs() < (y + radius) * 0.5)
    shape = torch.tensor([SHAPES.index(scene.shape) for scene in scenes], device=device)[:, None, None, None]
    inside = torch.where(shape == 0, circle, torch.where(shape == 1, square, triangle))[:, :, None]
    colour = torch.tensor([COLOURS[scene.colour] for scene in scenes], device=device)[:, None, :, None, None]
    background = torch.tensor([BACKGROUNDS[scene.background] for scene in scenes], device=device).view(-1, 1, 1, 1, 1)
    frames = torch.where(inside, colour, background.expand_as(colour)) * uniform(0.93, 1.0, 1, 1, 1, 1)
    return (frames + 0.012 * torch.randn(frames.shape, device=device, generator=generator)).clamp(0, 1)


def write_clips(folder: Path, count: int, rates: tuple[float, ...], side: int = SIDE) -> list[dict[str, Any]]:
    """Write clips that last FRAMES / rate seconds, forward and reversed; return their paths, rates and scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = random.Random(5).sample(SCENES, count)
    generator = torch.Generator().manual_seed(99)
    written = []
    for number, scene in enumerate(scenes):
        back = Scene(scene.colour, scene.shape, REVERSED[scene.direction], scene.background)
        for rate in rates:  # redrawn per rate: an engine's cache key has pictures without times
            frames = (draw([scene], "cpu", generator, side)[0] * 255).round().to(torch.uint8)
            frames = frames.permute(0, 2, 3, 1).numpy()
            for kind, shown, pictures in (("forward", scene, frames), ("reversed", back, frames[::-1])):
                path = folder / f"{number:02d}-{kind}-{rate:g}.mp4"
                _write(path, pictures, rate)
                written.append({"path": str(path), "kind": kind, "fps": rate, "scene": shown})
    return written


def _write(path: Path, frames: np.ndarray, rate: float) -> None:
    """Write a film of 10 frames per second that shows each picture for 1 / rate seconds."""
    film_rate = 10
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=film_rate, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for frame in frames:
            for _ in range(int(Fraction(film_rate) / Fraction(rate).limit_denominator(100))):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
