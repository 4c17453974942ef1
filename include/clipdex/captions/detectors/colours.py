"""Colours: colour names, a picture's main colours, and its brightness."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from clipdex.captions.detectors.samples import Picture

NAMES = ("black", "grey", "white", "red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown")
CHROMATIC = frozenset(NAMES[3:])
# Upper bound of each hue, in OpenCV's half degrees.
_HUES = (
    (7, "red"), (21, "orange"), (34, "yellow"), (84, "green"), (97, "turquoise"), (129, "blue"), (148, "purple"),
    (171, "pink"), (180, "red"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours and brightness of a shot.

    names: main colours, largest share first
    brightness: mean, 0 to 255
    background: uniform colour of the borders ("dark blue"), or ""
    plain: all pictures are one uniform colour
    lighter: brightness of the last picture minus the first
    """

    names: tuple[str, ...]
    brightness: float
    background: str
    plain: bool
    lighter: float


def name(rgb: Sequence[float] | np.ndarray) -> str:
    pixel = np.array(rgb, np.float64).round().clip(0, 255).astype(np.uint8).reshape(1, 1, 3)
    return NAMES[int(labels(pixel)[0, 0])]


def labels(picture: Picture) -> np.ndarray:
    """Return the index into NAMES per pixel."""
    hue, saturation, value = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV))
    out: np.ndarray = _HUE_LABELS[hue]
    # Hues whose name differs when they are dark or pale.
    _paint(out, "green", (hue >= 26) & (hue < 34) & (value < 190))
    _paint(out, "purple", (hue >= 148) & (hue < 158) & (value < 200))
    _paint(out, "brown", (hue >= 5) & (hue < 23) & ((value < 165) | (saturation < 120)))
    _paint(out, "pink", ((hue < 5) | (hue > 165)) & (saturation < 115) & (value > 195))
    chroma = saturation.astype(np.int32) * value // 255
    pale = chroma < 38
    _paint(out, "grey", pale)
    _paint(out, "white", pale & (value > 205))
    _paint(out, "black", (value < 48) | (pale & (value < 60)))
    return out


def palette(pictures: Sequence[Picture]) -> Palette:
    """Return the palette of a shot's small pictures."""
    counts = np.zeros(len(NAMES))
    for picture in pictures:
        counts += np.bincount(labels(picture).ravel(), minlength=len(NAMES))
    shares = counts / counts.sum()
    order = np.argsort(-shares, kind="stable")
    names = tuple(NAMES[n] for n in order[:3] if shares[n] >= (0.15 if NAMES[n] in CHROMATIC else 0.25))
    light = [float(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).mean()) for picture in pictures]
    borders = [_border(picture) for picture in pictures]
    ground = np.median(np.concatenate(borders), axis=0)
    even = _evenness(np.concatenate(borders), ground) > 0.9
    plain = all(
        _evenness(picture.reshape(-1, 3), np.median(border, axis=0)) > 0.9995
        for picture, border in zip(pictures, borders, strict=True)
    )
    return Palette(names, float(np.mean(light)), shade(ground) if even else "", plain, light[-1] - light[0])


def shade(rgb: np.ndarray) -> str:
    """Return a colour's name, with light or dark if it applies."""
    base, high, low = name(rgb), float(np.max(rgb)), float(np.min(rgb))
    if base in ("black", "white", "brown", "pink"):
        return base
    if base == "grey":
        return "dark grey" if high < 95 else "light grey" if high > 165 else "grey"
    return f"dark {base}" if high < 125 else f"light {base}" if low > 120 and high > 190 else base


def _border(picture: Picture) -> np.ndarray:
    rim = max(1, min(picture.shape[:2]) // 16)
    sides = (picture[:rim], picture[-rim:], picture[:, :rim], picture[:, -rim:])
    return np.concatenate([side.reshape(-1, 3) for side in sides])


def _evenness(pixels: np.ndarray, rgb: np.ndarray) -> float:
    """Return the share of pixels close to this colour."""
    return float((np.abs(pixels - rgb).max(axis=1) < 20).mean())


def _paint(out: np.ndarray, colour: str, where: np.ndarray) -> None:
    out[where] = NAMES.index(colour)


def _hue_labels() -> np.ndarray:
    table = np.zeros(256, np.uint8)
    start = 0
    for end, colour in _HUES:
        table[start:end] = NAMES.index(colour)
        start = end
    return table


_HUE_LABELS = _hue_labels()
