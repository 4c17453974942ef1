"""Write the clips of a static camera: one scene, with the noise of a sensor, in files of their own."""

from pathlib import Path

import numpy as np

from tests.support.clips import Picture, write_clip

SIZE = (320, 240)
NOISE = 6.0  # standard deviation, of 255


def scene(size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a yard: sky, house, ground."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    picture = np.stack([150 - y / 4, 170 - y / 5, 205 - y / 4], axis=-1)
    picture[y > 0.6 * size[1]] = (96, 92, 84)
    house = (x > 0.5 * size[0]) & (x < 0.85 * size[0]) & (y > 0.25 * size[1]) & (y < 0.7 * size[1])
    picture[house] = (170, 120, 90)
    windows = house & (x // 12 % 3 == 1) & (y // 12 % 3 == 1)
    picture[windows] = (60, 66, 80)
    return picture


def watched(
    seed: int,
    brightness: float = 0.0,
    thing: tuple[int, int] | None = None,
    pan: float = 0.0,
    picture: np.ndarray | None = None,
) -> Picture:
    """Return the pictures of a clip.

    seed: of the noise; brightness: added, of 255; pan: pixels per picture
    thing: width and height of a dark thing that crosses the scene [pixels]
    """
    still = scene() if picture is None else picture
    random = np.random.default_rng(seed)

    def draw(number: int, size: tuple[int, int]) -> np.ndarray:
        now = np.roll(still, -round(pan * number), axis=1) + brightness
        if thing:
            width, height = thing
            left = 8 * number % (size[0] - width)
            now[size[1] - 90 - height : size[1] - 90, left : left + width] = (30, 30, 36)
        noise = random.normal(0, NOISE, (size[1], size[0], 1))
        return np.clip(now + noise, 0, 255).astype(np.uint8)

    return draw


def put(folder: Path, name: str, picture: Picture, **options: object) -> Path:
    """Write a clip of 4 s at 6 pictures per second, or as the options of write_clip."""
    folder.mkdir(parents=True, exist_ok=True)
    given = {"seconds": 4.0, "fps": 6, "size": SIZE, "options": {"preset": "ultrafast", "crf": "26"}, **options}
    return write_clip(folder / name, picture=picture, **given)  # type: ignore[arg-type]
