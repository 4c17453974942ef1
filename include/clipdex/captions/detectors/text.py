"""On-screen text: lines read by rapidocr with high confidence, once per shot."""

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidocr import RapidOCR
from rapidocr.utils.output import RapidOCROutput

from clipdex.captions.detectors import weights
from clipdex.captions.detectors.paths import Movement, movement
from clipdex.captions.detectors.samples import Picture, Sample, shrunk

_SIDE = 640  # long side for OCR [pixels]: more takes longer and finds little more
_SURE = 0.9
_ALIKE = 0.7
_MOVED = 0.08  # picture widths
_EDGE = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text in one picture. box: left, top, right, bottom [fractions of width and height]."""

    text: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Words:
    """A line of text of a shot, in its best reading.

    times: of the pictures in which it was read [s]; moved: its movement, if any.
    """

    text: str
    times: tuple[float, ...]
    moved: Movement | None


class Reader:
    """rapidocr with the models of its wheel. Not thread-safe."""

    def __init__(self) -> None:
        self._ocr = RapidOCR(
            params={
                "Global.use_cls": False,
                "Global.log_level": "critical",
                "Global.text_score": _SURE,
                "Det.limit_side_len": _SIDE,
                "Det.limit_type": "max",
                # Set every path: rapidocr downloads models without one.
                "Det.model_path": str(weights.TEXT_PLACES.path()),
                "Rec.model_path": str(weights.TEXT_LINES.path()),
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def read(self, picture: Picture) -> list[Line]:
        """Return the lines of one picture from top to bottom."""
        small = shrunk(picture, _SIDE)
        height, width = small.shape[:2]
        if min(height, width) < 24 or not _may_hold_text(small):
            return []
        found = self._ocr(np.ascontiguousarray(small[:, :, ::-1]))
        lines: list[Line] = []
        if not isinstance(found, RapidOCROutput) or found.txts is None or found.scores is None or found.boxes is None:
            return lines
        for text, score, corners in zip(found.txts, found.scores, found.boxes, strict=True):
            (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
            box = (float(left / width), float(top / height), float(right / width), float(bottom / height))
            lines.append(Line(" ".join(text.split()), float(score), box))
        return lines


def gather(samples: Sequence[Sample], read: Sequence[list[Line]]) -> list[Words]:
    """Merge the lines of a shot's samples; return each line once."""
    groups: list[list[tuple[Sample, Line]]] = []
    for sample, lines in zip(samples, read, strict=True):
        for line in lines:
            near = (group for group in groups if group[-1][0] is not sample and _same(group, line))
            group = next(near, None)
            if group is None:
                groups.append([(sample, line)])
            else:
                group.append((sample, line))
    whole = [_plain(line.text) for group in groups for _, line in group if not _cut(line)]
    kept = [group for group in groups if _credible([line for _, line in group]) and not _is_piece(group, whole)]
    return [_words(group) for group in kept]


def _may_hold_text(picture: Picture) -> bool:
    """Return whether rows have enough edges for two letters; OCR costs a hundred times more than this check."""
    grey = picture[:, :, :3].max(axis=2).astype(np.int16)
    edges = np.abs(grey[:, 2:] - grey[:, :-2]) > 30
    starts = (edges[:, 1:] & ~edges[:, :-1]).sum(axis=1)
    return int((starts >= 4).sum()) >= 4


def _same(group: Sequence[tuple[Sample, Line]], line: Line) -> bool:
    best = max(group, key=lambda pair: pair[1].score)[1]
    one, other = _plain(best.text), _plain(line.text)
    return one in other or other in one or difflib.SequenceMatcher(None, one, other).ratio() >= _ALIKE


def _credible(lines: Sequence[Line]) -> bool:
    """Return whether a line is real text. Buildings and grass can be misread as one or two letters, not as words."""
    best = max(lines, key=lambda line: line.score)
    plain = _plain(best.text)
    twice = len(lines) >= 2
    if any(_exotic(letter) for letter in plain):
        return len(plain) >= 3 and twice and best.score >= 0.97
    if len(plain) == 2:
        return twice and best.score >= 0.97
    return len(plain) >= 3 and (twice or best.score >= 0.95)


def _is_piece(group: Sequence[tuple[Sample, Line]], whole: Sequence[str]) -> bool:
    """Return whether the picture's border cuts the line in all pictures and its complete form was read elsewhere."""
    cut = [_plain(line.text) for _, line in group if _cut(line)]
    begins = {text[:2] for text in whole} | {text[-2:] for text in whole}
    return len(cut) == len(group) and any(text[:2] in begins or text[-2:] in begins for text in cut)


def _cut(line: Line) -> bool:
    return line.box[0] < _EDGE or line.box[2] > 1 - _EDGE


def _words(group: Sequence[tuple[Sample, Line]]) -> Words:
    longest = max(len(_plain(line.text)) for _, line in group)
    whole = [line for _, line in group if len(_plain(line.text)) >= 0.9 * longest]
    best = max(whole, key=lambda line: (round(line.score, 2), len(line.text), line.text))
    path = [
        (sample.time_s, (line.box[0] + line.box[2]) / 2, (line.box[1] + line.box[3]) / 2 * sample.aspect)
        for sample, line in group
        if len(_plain(line.text)) >= 0.9 * longest
    ]
    # Mark text that the picture's border cuts.
    text = "…" * (best.box[0] < _EDGE) + best.text + "…" * (best.box[2] > 1 - _EDGE)
    return Words(text, tuple(sample.time_s for sample, _ in group), movement(path, _MOVED) if len(path) > 1 else None)


def _plain(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _exotic(letter: str) -> bool:
    return letter.isalpha() and "LATIN" not in unicodedata.name(letter, "")
