"""Survey: what the source lists, and which of these clips a run must process. Nothing is written."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from clipdex.errors import Reason
from clipdex.runs.completion import NOT_READ, CompletionCriteria
from clipdex.runs.moves import Move, known_elsewhere
from clipdex.runs.outcomes import ClipOutcome, Outcome, current, whole_ledger
from clipdex.runs.quarantine.marks import marks
from clipdex.runs.vanished import VanishedFolder, require_source, vanished_folders
from clipdex.storage.artifacts import Store
from clipdex.storage.clip import Clip, RecordedFrom
from clipdex.storage.listing import Skipped
from clipdex.storage.source import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Survey:
    """Hold the clips that a run would process.

    discovered: number of clips listed, by day
    to_do: clips to process, by day
    done, quarantined: number of clips skipped because of their latest outcome
    after: time of the latest outcome of these clips
    criteria: by which clips were skipped
    vanished: folders that were there in an earlier run
    moves: clips whose latest outcome is under another day, by their day; those that are done are not in to_do
    skipped: the files that are no clips
    prefix: what was listed, instead of days
    """

    discovered: dict[str, int]
    to_do: dict[str, list[Clip]]
    done: int
    quarantined: int
    after: str
    criteria: CompletionCriteria
    vanished: tuple[VanishedFolder, ...] = ()
    moves: dict[str, list[Move]] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)
    prefix: str | None = None

    @property
    def moved(self) -> dict[str, int]:
        """Return the number of clips, by day, that only move: they were done under another day."""
        return {day: sum(move.done is not None for move in moves) for day, moves in self.moves.items()}

    @property
    def points_only(self) -> dict[str, int]:
        """Return the number of clips in to_do, by day, that have a caption: only their points are written."""
        return {day: sum(bool(clip.caption_key) for clip in clips) for day, clips in self.to_do.items()}

    def why_nothing(self, source: Source) -> str:
        """Return why no clip was found although files are there, with an example; "" otherwise."""
        if any(self.discovered.values()):
            return ""
        return source.why_nothing(tuple(self.discovered), self.prefix)


def survey(
    store: Store,
    source: Source,
    days: Iterable[str],
    criteria: CompletionCriteria,
    prefix: str | None = None,
    hold: Callable[[str], None] = lambda day: None,
    only: Collection[str] | None = None,
) -> Survey:
    """List the clips of the days (or of one prefix) and skip those that are done. Writes nothing.

    Raises SourceUnavailable if the source is away, though an earlier run found clips there.
    only: clip_ids of clips or parts; no other clip is processed, and these also if they are in quarantine
    hold: called with each day that was listed before its outcomes are read, to take its lease
    """
    listed: dict[str, list[Clip]] = {day: [] for day in days}
    skipped = Skipped()
    found = (clip for day in listed for clip in source.day(day, skipped))
    for clip in source.prefix(prefix, skipped) if prefix is not None else found:
        listed.setdefault(clip.day, []).append(clip)
    counts = dict.fromkeys(Outcome, 0)
    if not any(listed.values()):
        require_source(store, source)
    to_do: dict[str, list[Clip]] = {day: [] for day in listed}
    moves: dict[str, list[Move]] = {day: [] for day in listed}
    vanished: list[VanishedFolder] = []
    discovered = {day: len(clips) for day, clips in listed.items()}
    never = marks(store)  # not per day: a clip keeps its mark if its day changes
    if only is not None:
        criteria = replace(criteria, retry_quarantined=("all",))
    after, again = "", 0
    for day, clips in listed.items():
        hold(day)
        entries = whole_ledger(store, day)
        known = current(entries)
        vanished += vanished_folders(source, day, clips, known.values(), prefix or "")
        if only is not None:
            files = _files(only, known)
            clips = [clip for clip in clips if clip.clip_id in files]
        new = {clip.clip_id for clip in clips if clip.clip_id not in known and not source.names_day(clip)}
        elsewhere = known_elsewhere(store, day, new)
        after = max([after, *(outcome.at for outcome in (*entries.values(), *elsewhere.values()))])
        described = []
        for clip in clips:
            latest = known.get(clip.clip_id) or elsewhere.get(clip.clip_id)
            done = criteria.done(clip, latest, known, never)
            if clip.clip_id in elsewhere:
                moves[day].append(Move(clip, elsewhere[clip.clip_id], done))
            if done is None:
                to_do[day].append(_with_known(clip, latest))
                again += to_do[day][-1].refused != ""
            elif done is Outcome.QUARANTINED:
                counts[done] += 1
            elif clip.clip_id not in elsewhere:
                if clip.details == known[clip.clip_id].details:
                    counts[done] += 1
                else:
                    described.append(clip)
        fresh = len(to_do[day])
        read = source.with_metadata([*to_do[day], *described])
        to_do[day] = read[:fresh]
        changed = [clip for clip in read[fresh:] if _is_described_anew(clip, known[clip.clip_id])]
        if changed:
            log.info("%s: the metadata of %d clips has changed; their captions stay", day, len(changed))
        to_do[day] += [with_caption(clip, known[clip.clip_id]) for clip in changed]
        counts[Outcome.INDEXED] += len(described) - len(changed)
    if only is not None:
        log.info("of %d clips to try again, %d are to do", len(only), sum(map(len, to_do.values())))
    if again:
        log.info("%d clips that an earlier run could not read are listed: they are tried again", again)
    for folder in vanished:
        log.warning("%s", folder)
    return Survey(
        discovered, to_do, counts[Outcome.INDEXED], counts[Outcome.QUARANTINED], after, criteria,
        tuple(vanished), moves, skipped, prefix,
    )  # fmt: skip


def _files(only: Collection[str], known: Mapping[str, ClipOutcome]) -> set[str]:
    """Return the clip_ids of files: of a part, that of its file."""
    return {known[clip_id].part_of or clip_id if clip_id in known else clip_id for clip_id in only}


def _with_known(clip: Clip, known: ClipOutcome | None) -> Clip:
    """Copy what is known of an unchanged clip: its digest and its cut, so that it is not read again; why it failed."""
    if known is None or known.version != clip.version:
        return clip
    quarantined = known.outcome is Outcome.QUARANTINED and known.reason in NOT_READ
    failed = known.outcome is Outcome.FAILED and known.reason == Reason.UNREADABLE  # missing: its folder was away
    return replace(clip, content=known.content, cut=known.cut, refused=known.reason if quarantined or failed else "")


def _is_described_anew(clip: Clip, known: ClipOutcome) -> bool:
    """Return whether the points of an indexed clip have other metadata, or another time in its path."""
    times = [one.recorded_at if one.recorded_from == RecordedFrom.PATH else "" for one in (clip, known)]
    return clip.metadata != known.metadata or times[0] != times[1]


def with_caption(clip: Clip, known: ClipOutcome) -> Clip:
    """Copy where its caption is, or those of its parts, so that only the points are written."""
    return replace(clip, content=known.content, caption_key=known.caption_key, cut=known.cut)
