"""Family: models that share a processor, and what clipdex needs to know of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from clipdex.families.counting import Counting, Size, resized


class Times(StrEnum):
    """How a model gets the times of frames."""

    POSITIONS = "positions"  # in token positions, which no count of tokens shows
    TEXT = "text"  # written between the frames
    NONE = "none"  # only the order of the frames


@dataclass(frozen=True, slots=True)
class Family:
    """Models that share a processor.

    name: as in CLIPDEX_SAMPLING__FAMILY
    models: the sizes that people serve
    types: model_type in config.json
    pattern: of names of checkpoints
    counting: tokens of a video
    multiple_of: sides in multiples of it are not resized [pixels]
    times: how the model gets the times of frames
    without_thinking: options of a request that switch reasoning off; {} if the model does not reason unasked
    context: longest prompt and answer [tokens]
    advice: token sampling that the makers advise
    sources: where these facts were read
    sglang: to what SGLang resizes frames beforehand: multiple of the sides, fewest and most pixels; None: it does not
    certain: whether the count was compared with an engine or with the processor's code; else a difference only warns
    video: whether engines accept a video; else pictures alone
    """

    name: str
    models: tuple[str, ...]
    types: tuple[str, ...]
    pattern: re.Pattern[str]
    counting: Counting
    multiple_of: int
    times: Times
    context: int
    sources: tuple[str, ...]
    without_thinking: Mapping[str, Any] = field(default_factory=dict)
    advice: Mapping[str, Any] = field(default_factory=dict)
    sglang: tuple[int, int, int] | None = None
    certain: bool = True
    video: bool = True

    def visual(self, frames: int, size: Size, engine: str = "") -> int:
        """Return the visual tokens of a video. engine: sglang resizes each frame before the processor does."""
        return self.counting.visual(frames, self.shown(size, engine))

    def shown(self, size: Size, engine: str = "") -> Size:
        """Return the size of a frame that the engine passes to the processor."""
        return resized(size, *self.sglang) if engine == "sglang" and self.sglang else size

    def expected(self, frames: int, size: Size, fps: float, engine: str = "") -> int:
        """Return the prompt tokens that a video adds to a text."""
        return self.visual(frames, size, engine) + self.counting.text(frames, fps)

    def tolerance(self, frames: int) -> int:
        """Return the deviation of expected() that templates and tokenizers cause [tokens]."""
        return _TEMPLATE + self.counting.slack * -(-frames // self.counting.unit)


_TEMPLATE = 8
