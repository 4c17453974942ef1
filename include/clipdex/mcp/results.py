"""Results of the tools, as a program reads them. Their schema and the descriptions of their fields go to the client.

A result has at most MOST_CHARACTERS characters of captions or values. Longer texts are cut, with a mark.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from pydantic import BaseModel, Field

from clipdex.index.clips import IndexedClip
from clipdex.index.facets import Facet
from clipdex.index.search import ClipHit
from clipdex.runs.outcomes import ClipOutcome, Outcome

MOST_CHARACTERS, MOST_PER_VALUE = 40_000, 200
_MOST_PER_HIT = 4_000

Metadata = dict[str, str | float]


class FoundClip(BaseModel):
    """A clip that matches, with the passage of its caption that matches best."""

    clip_id: str = Field(description="Give it to get_clip for the whole caption")
    uri: str = Field(description="Address of the video file")
    day: str = Field(description="Day of the clip, YYYY-MM-DD")
    text: str = Field(description="Passage of the caption that matches best")
    start_s: float = Field(description="Where the passage begins in the file, in seconds")
    end_s: float = Field(description="Where the passage ends in the file, in seconds")
    duration_s: float = Field(description="Length of the clip, in seconds")
    relevance: float | None = Field(
        description="Probability from 0 to 1 that the clip answers the query; null if the embedding model has none"
    )
    weak: bool = Field(description="The clip is probably no match; only with weak=true")
    score: float = Field(description="For comparing clips of this result only")
    recorded_at: str = Field(description="When it was recorded, ISO 8601 in UTC, or empty if that is not known")
    metadata: Metadata = Field(description="Further fields of the clip, such as its camera")
    part_of: str = Field(description="If the file was cut into parts: clip_id of the file; otherwise empty")


class FoundClips(BaseModel):
    """The clips that match a query, best first."""

    clips: list[FoundClip]
    note: str = Field(description="What to try next, if nothing matches well; otherwise empty")

    @classmethod
    def of(cls, hits: Sequence[ClipHit], weak: bool) -> "FoundClips":
        most, rest = min(_MOST_PER_HIT, MOST_CHARACTERS // max(len(hits), 1)), "get_clip has the whole caption"
        clips = [
            FoundClip(
                clip_id=hit.clip_id, uri=hit.uri, day=hit.day, text=cut(hit.text, most, rest), start_s=hit.start_s,
                end_s=hit.end_s, duration_s=hit.duration_s, relevance=_rounded(hit.relevance), weak=hit.weak,
                score=round(hit.score, 4), recorded_at=hit.recorded_at, metadata=_short(hit.metadata),
                part_of=hit.part_of,
            )
            for hit in hits
        ]  # fmt: skip
        nothing = "no clip is found: try fewer filters" if weak else (
            "no clip matches well: try other words or fewer filters; weak=true gives the nearest clips"
        )  # fmt: skip
        return cls(clips=clips, note="" if clips else nothing)


class Passage(BaseModel):
    """A part of a caption, with its times in the file."""

    start_s: float
    end_s: float
    text: str


class OutcomeResult(BaseModel):
    """How the processing of a clip ended."""

    outcome: str = Field(
        description="indexed: it can be found; quarantined: it cannot be captioned; captioned, rejected or failed: a "
        "later run continues"
    )
    reason: str = Field(description="Why it is in quarantine, such as not_a_video; or empty")
    detail: str = Field(description="More about the reason; or empty")
    at: str = Field(description="When, ISO 8601 in UTC; empty if only the index has the clip")


class ClipResult(BaseModel):
    """A clip with its caption and its outcome."""

    clip_id: str
    uri: str = Field(description="Address of the video file")
    day: str = Field(description="Day of the clip, YYYY-MM-DD")
    caption: list[Passage] = Field(description="The whole caption in its order; empty if the clip is not in the index")
    outcome: OutcomeResult
    start_s: float = Field(description="Where the clip begins in the file, in seconds; above 0 mostly for parts")
    duration_s: float = Field(description="Length of the clip, in seconds; 0 if the clip is not in the index")
    recorded_at: str = Field(description="When it was recorded, ISO 8601 in UTC, or empty if that is not known")
    metadata: Metadata = Field(description="Further fields of the clip, such as its camera")
    engine: str = Field(description="What wrote the caption")
    model: str = Field(description="Its model")
    captioned_at: str = Field(description="When the caption was written, ISO 8601 in UTC, or empty")
    part_of: str = Field(description="If the file was cut into parts: clip_id of the file; otherwise empty")
    part_no: int = Field(description="Number of the part, from 0")

    @classmethod
    def of(cls, clip: IndexedClip, outcome: ClipOutcome | None) -> "ClipResult":
        end_s = clip.clip_start_s + clip.duration_s
        whole = [Passage(start_s=clip.clip_start_s, end_s=end_s, text=clip.text)]
        timed = [Passage(start_s=one.start_s, end_s=one.end_s, text=one.text) for one in clip.segments]
        return cls(
            clip_id=clip.clip_id, uri=clip.uri, day=clip.day, caption=_within(timed or whole),
            outcome=_INDEXED if outcome is None else _outcome(outcome),
            start_s=clip.clip_start_s, duration_s=clip.duration_s, recorded_at=clip.recorded_at,
            metadata=_short(clip.metadata), engine=clip.engine, model=clip.model, captioned_at=clip.captioned_at,
            part_of=clip.part_of, part_no=clip.part_no,
        )  # fmt: skip

    @classmethod
    def not_indexed(cls, outcome: ClipOutcome) -> "ClipResult":
        return cls(
            clip_id=outcome.clip_id, uri=outcome.uri, day=outcome.day, caption=[], outcome=_outcome(outcome),
            start_s=outcome.start_s, duration_s=0.0, recorded_at=outcome.recorded_at, metadata=_short(outcome.metadata),
            engine="", model="", captioned_at="", part_of=outcome.part_of, part_no=outcome.part_no,
        )  # fmt: skip


class Day(BaseModel):
    day: str = Field(description="YYYY-MM-DD")
    clips: int = Field(description="Number of clips that can be found")


class Days(BaseModel):
    """Days with clips, the last one first."""

    days: list[Day]
    clips: int = Field(description="Number of clips of all days in the range, also of those that are not listed")
    next_last_day: str = Field(description="Give it as last_day for the days before; empty if there are none")

    @classmethod
    def of(cls, found: Facet) -> "Days":
        days = [Day(day=one.value, clips=one.clips) for one in found.values]
        before = (date.fromisoformat(days[-1].day) - timedelta(days=1)).isoformat() if days and found.more else ""
        return cls(days=days, clips=found.clips, next_last_day=before)


class ValueCount(BaseModel):
    value: str = Field(description="As `where` of search_clips takes it")
    clips: int


class FieldValues(BaseModel):
    """A field and its values."""

    field: str = Field(description="Name of the field, for `where`")
    values: list[ValueCount] = Field(description="The most frequent first; ranges and folders in their order")
    without: int = Field(description="Number of clips that have no value")
    more: bool = Field(description="There are further values")


class Facets(BaseModel):
    """Fields of the clips with their values."""

    clips: int = Field(description="Number of clips that match the filters")
    fields: list[FieldValues]

    @classmethod
    def of(cls, found: Sequence[Facet]) -> "Facets":
        """Return the facets; of values that do not fit into the result, the first ones of each field."""
        left, fields = MOST_CHARACTERS, []
        for facet in found:
            values = []
            for one in facet.values:
                left -= len(one.value)
                if left < 0:
                    break
                values.append(ValueCount(value=one.value, clips=one.clips))
            more = facet.more or len(values) < len(facet.values)
            fields.append(FieldValues(field=facet.field, values=values, without=facet.without, more=more))
        return cls(clips=found[0].clips if found else 0, fields=fields)


def cut(text: str, most: int, rest: str = "") -> str:
    """Return a text of at most about `most` characters, with a mark if it was longer. rest: where the rest is."""
    if len(text) <= most:
        return text
    return f"{text[:most].rstrip()} … [cut: {most} of {len(text)} characters{f'; {rest}' if rest else ''}]"


def _within(passages: list[Passage]) -> list[Passage]:
    """Return the passages that fit into a result; the last of these is cut, and the others are one mark."""
    left, kept = MOST_CHARACTERS, list[Passage]()
    for number, passage in enumerate(passages):
        if left <= 0:
            mark = f"… [cut: {len(passages) - number} further passages]"
            return [*kept, Passage(start_s=passage.start_s, end_s=passages[-1].end_s, text=mark)]
        kept.append(passage.model_copy(update={"text": cut(passage.text, left)}))
        left -= len(passage.text)
    return kept


def _rounded(relevance: float | None) -> float | None:
    return None if relevance is None else round(relevance, 3)


def _short(metadata: Metadata) -> Metadata:
    return {name: cut(value, MOST_PER_VALUE) if isinstance(value, str) else value for name, value in metadata.items()}


def _outcome(known: ClipOutcome) -> OutcomeResult:
    detail = cut(known.detail, MOST_PER_VALUE)
    return OutcomeResult(outcome=known.outcome, reason=known.reason, detail=detail, at=known.at)


_INDEXED = OutcomeResult(outcome=Outcome.INDEXED, reason="", detail="", at="")
