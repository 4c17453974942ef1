"""Caption: the stored record of one description."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a caption that describes start_s to end_s [s on a player's clock of the file]."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Caption:
    """One description of one content, stored as captions/KEY[:2]/KEY.json.

    run, clip_id: the run and clip that produced it; exact copies share it
    start_s: of the first picture on a player's clock, which starts with the sound if that begins earlier [s]
    duration_s [s]; width, height: as displayed, with rotation and pixel aspect applied [pixels]
    poster: store key of a JPEG, or ""
    film: which of several films of the file is described, or ""
    notes: frame descriptions that text was merged from
    metadata: of the clip that produced it, as in Clip
    recorded_at: the time in the container, ISO 8601 in UTC; "" if it has none
    similar_to: key of the caption of a near-duplicate that this text is from, or ""
    distance: of the two clips [mean bits of 64 per frame]
    paragraphs: number of paragraphs that should begin with their times; 0 if the engine was not asked for times
    timed: of these, those with times that are usable; segments has them, text does not
    node: host and port of the server that wrote it, "" for a model in the process
    """

    key: str
    content: str
    text: str
    segments: tuple[Segment, ...]
    fingerprint: str
    engine: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    attempts: int
    finish_reason: str
    created_at: str
    run: str
    duration_s: float
    width: int
    height: int
    poster: str = ""
    clip_id: str = ""
    gpu_s: float = 0.0
    notes: tuple[Segment, ...] = ()
    start_s: float = 0.0
    film: str = ""
    metadata: dict[str, str | float] = field(default_factory=dict)
    recorded_at: str = ""
    similar_to: str = ""
    distance: float = 0.0
    paragraphs: int = 0
    timed: int = 0
    node: str = ""

    @property
    def end_s(self) -> float:
        """Return the end of the last picture on a player's clock [s]."""
        return self.start_s + self.duration_s

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        present = [name for name in ("segments", "notes") if name in record]
        parts: dict[str, Any] = {name: tuple(Segment(**part) for part in record[name]) for name in present}
        return cls(**{**record, **parts})
