"""Completion: whether a clip is done, by its latest outcome and the settings."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from clipdex.captions.captioner import Flaw
from clipdex.captions.engines import open_captioner
from clipdex.config import Settings
from clipdex.errors import Reason
from clipdex.index import Collection
from clipdex.index.embeddings import open_embedder
from clipdex.runs.outcomes import ClipOutcome, Outcome, ledger, ledger_days
from clipdex.runs.quarantine.marks import Mark, is_never
from clipdex.storage.artifacts import Store
from clipdex.storage.clip import Clip, part_id

NOT_READ = frozenset(reason for reason in Reason if reason.seen_by_source)
"""Reasons that are the source's, not the file's: what is listed may be readable."""

_NO_MARKS: Mapping[str, Mark] = {}


@dataclass(frozen=True, slots=True)
class CompletionCriteria:
    """Decide whether a clip is done.

    equal: other fingerprints whose captions count as those of these settings, see Fingerprint.equal()
    earlier: fingerprints of the same settings in earlier releases, by flaw; their captions count as well
    recaption: replace all captions
    recaption_for: replace captions with one of these flaws
    retry_quarantined: retry clips quarantined for these reasons ("all" for every reason)
    limits: VideoLimits by field
    cut: how long files are cut, see VideoLimits.cut; "" if they are refused
    near_duplicates: largest distance of a clip that shares a caption; None: none may
    """

    fingerprint: str
    collection: str
    recaption: bool = False
    recaption_for: tuple[str, ...] = ()
    retry_quarantined: tuple[str, ...] = ()
    earlier: Mapping[str, Flaw] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    cut: str = ""
    near_duplicates: float | None = None
    equal: frozenset[str] = frozenset()

    @classmethod
    def under(
        cls,
        settings: Settings,
        recaption: bool = False,
        recaption_for: tuple[str, ...] = (),
        retry_quarantined: tuple[str, ...] = (),
    ) -> Self:
        """Return the criteria of these settings: the engine's fingerprint and the embedding model's collection."""
        fingerprint = open_captioner(settings).fingerprint
        equal = fingerprint.equal()
        return cls(
            fingerprint=fingerprint.digest(),
            collection=Collection.name_for(settings, open_embedder(settings.embedding, settings.engine.language)),
            recaption=recaption,
            recaption_for=recaption_for,
            retry_quarantined=retry_quarantined,
            limits={
                **{name: value for name, value in settings.video if isinstance(value, int | float)},
                "file_bytes": settings.video.file_bytes,
            },
            cut=settings.video.cut,
            near_duplicates=settings.video.near_duplicates,
            equal=frozenset(one.digest() for one in equal),
            earlier={one.digest(): flaw for same in equal for flaw, one in same.earlier().items()},
        )

    def done(
        self,
        clip: Clip,
        known: ClipOutcome | None,
        outcomes: Mapping[str, ClipOutcome] | None = None,
        marked: Mapping[str, Mark] = _NO_MARKS,
    ) -> Outcome | None:
        """Return the final outcome of this clip version, or None if the clip must be processed.

        outcomes: by clip_id, with those of the parts if the file was cut; such a file is done if each part is
        marked: clips that stay in quarantine whatever the settings are, see quarantine/marks.py
        """
        if known is None or not known.parts:
            return self._done(clip, known, marked)
        if self.cut not in ("", known.cut):
            return None
        parts = ((outcomes or {}).get(part_id(clip.clip_id, number)) for number in range(known.parts))
        return self._done(clip, known, marked) if all(self._done(clip, part, marked) for part in parts) else None

    def _done(self, clip: Clip, known: ClipOutcome | None, marked: Mapping[str, Mark]) -> Outcome | None:
        if known is not None and known.outcome is Outcome.QUARANTINED and is_never(marked, known.clip_id, clip.version):
            return Outcome.QUARANTINED
        if known is None or known.version != clip.version or self.recaption:
            return None
        if not self.is_current(known.fingerprint) and known.fingerprint not in self.earlier:
            return None
        if not self.may_share(known):
            return None
        if known.outcome is Outcome.INDEXED:
            done = known.collection == self.collection and self.earlier.get(known.fingerprint) not in self.recaption_for
            return Outcome.INDEXED if done else None
        if known.outcome is Outcome.QUARANTINED and not {"all", known.reason} & set(self.retry_quarantined):
            return None if self._refuted(clip, known) else Outcome.QUARANTINED
        return None

    def is_current(self, fingerprint: str) -> bool:
        """Return whether captions with this fingerprint count as made with these settings."""
        return fingerprint == self.fingerprint or fingerprint in self.equal

    def may_share(self, known: ClipOutcome) -> bool:
        """Return whether the caption is the clip's own, or is shared with one that is near enough."""
        return not known.similar_to or (self.near_duplicates is not None and known.distance <= self.near_duplicates)

    def _refuted(self, clip: Clip, known: ClipOutcome) -> bool:
        """Return whether the listing, or a limit of these settings, refutes the reason of a quarantine."""
        if known.reason in NOT_READ:
            return True  # it is listed, so it may be readable
        if known.reason == Reason.EMPTY_FILE:
            return clip.bytes > 0
        limits = self.limits
        if self.cut and not known.part_of:  # of a file that is cut, these hold per part
            limits = {**limits, "max_duration_s": limits["max_file_s"], "max_bytes": limits["file_bytes"]}
        return known.limit in limits and known.found <= limits[known.limit]


@dataclass(frozen=True, slots=True)
class DayCaptions:
    """Count the captions of a day by fingerprint.

    current: made with these settings
    flawed: made with the same settings in an earlier release, by flaw; recaption_for replaces them
    other: made with another engine, model, prompt or sampling, or shared with a clip that these settings hold for too
        different; the next run of the day replaces them
    """

    day: str
    current: int
    flawed: dict[Flaw, int]
    other: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def count_captions(store: Store, criteria: CompletionCriteria) -> Iterator[DayCaptions]:
    """Yield the caption counts of each day in the ledger, in order."""
    for day in ledger_days(store):
        captioned = (Outcome.CAPTIONED, Outcome.INDEXED)
        clips = [one for one in ledger(store, day).values() if one.outcome in captioned and not one.parts]
        made = [known.fingerprint if criteria.may_share(known) else "" for known in clips]
        flawed = Counter(criteria.earlier[one] for one in made if one in criteria.earlier)
        current = sum(map(criteria.is_current, made))
        yield DayCaptions(day, current, dict(flawed), len(made) - current - flawed.total())
