"""Parts: the clips that a long file is cut into."""

from __future__ import annotations

from dataclasses import dataclass

from clipdex.errors import ClipRejected


@dataclass(frozen=True, slots=True)
class Part:
    """The place of a part in its file. number: from 0; last: no part follows."""

    number: int
    last: bool


@dataclass(frozen=True, slots=True)
class RejectedPart:
    """A part that cannot be decoded; the others of its file can.

    start_s, end_s [s on a player's clock of the file]
    """

    part: Part
    start_s: float
    end_s: float
    rejection: ClipRejected
