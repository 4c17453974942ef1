"""Reports: the totals of a run, from its plan and its outcomes, and the check that fails a bad run."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from clipdex import metrics
from clipdex.config import Quarantine
from clipdex.errors import RunIncomplete
from clipdex.runs import leases
from clipdex.runs.outcomes import ClipOutcome, Origin, Outcome, compact, without_former_parts
from clipdex.runs.planning import Plan, load_plan, manifest
from clipdex.runs.summary import summarize_run
from clipdex.runs.throughput import Throughput, throughput
from clipdex.runs.vanished import VanishedFolder
from clipdex.sanitize import escape_line
from clipdex.storage.artifacts import Store
from clipdex.storage.listing import describe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DayReport:
    """Hold the totals of one day of a run. Of a file that is cut, each part counts as a clip, and the file does not.

    cut: number of files that were cut; parts: of these
    captioned: planned clips that have a caption, the sum of asked, copies, similar and stored
    asked: captioned by the engine in this run
    copies: exact copies of those
    similar: near-duplicates of those, which share their captions
    stored: captioned before this run
    unfinished: planned clips without a final outcome
    pace: throughput over the clips in `asked`
    paragraphs, timed: number of paragraphs of the captions in `asked` that should begin with their times, and of those
        whose times are usable; timed_share: share of these, 0 to 1; None if no times were requested
    saved_gpu_s, saved_s: what the captions in `similar` took once, as an estimate of what requests would have taken
        [GPU-seconds, seconds at the engine]
    """

    day: str
    discovered: int
    planned: int
    captioned: int
    asked: int
    copies: int
    stored: int
    indexed: int
    quarantined: int
    unfinished: int
    chunks: int
    prompt_tokens: int
    completion_tokens: int
    pace: Throughput
    cut: int = 0
    parts: int = 0
    similar: int = 0
    saved_gpu_s: float = 0.0
    saved_s: float = 0.0
    paragraphs: int = 0
    timed: int = 0
    timed_share: float | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """Hold the totals of a run.

    done_before, known_quarantined: number of clips that discovery skipped
    quarantine: the clips that this run quarantined
    conclusive: how many of those make nothing else suspect: litter, and what an earlier run could not read either
    vanished: folders that were there in an earlier run
    unfinished: URIs of planned clips without a final outcome
    moved: number of clips that were done under another day; timezone: that of the days
    skipped, excluded, nothing: as in Plan
    """

    run: str
    days: tuple[DayReport, ...]
    done_before: int
    known_quarantined: int
    quarantine: tuple[dict[str, str], ...]
    unfinished: tuple[str, ...]
    conclusive: int = 0
    vanished: tuple[VanishedFolder, ...] = ()
    moved: int = 0
    timezone: str = "UTC"
    skipped: dict[str, int] = field(default_factory=dict)
    excluded: int = 0
    nothing: str = ""

    def total(self, field: str) -> int:
        return sum(getattr(day, field) for day in self.days)

    @property
    def saved(self) -> str:
        """Return how many clips shared a caption, and about how much engine time that saved; "" for none."""
        if not (similar := self.total("similar")):
            return ""
        gpu_s, engine_s = self.total("saved_gpu_s"), self.total("saved_s")
        about = f"{gpu_s:.1f} GPU-seconds" if gpu_s else f"{engine_s:.1f} seconds at the engine"
        return f"{similar} near-duplicates shared a caption, which saved about {about}"

    @property
    def times(self) -> str:
        """Return how many paragraphs of the new captions have usable times; "" if no times were requested."""
        if (share := self.timed_share) is None:
            return ""
        counts = f"{self.total('timed')} of {self.total('paragraphs')} paragraphs of the new captions"
        return f"{counts} ({100 * share:.0f} %) have usable times"

    @property
    def timed_share(self) -> float | None:
        """Return the share of those paragraphs, 0 to 1; None if no times were requested."""
        return _share(self.total("timed"), self.total("paragraphs"))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        days = tuple(DayReport(**{**day, "pace": Throughput(**day["pace"])}) for day in record["days"])
        vanished = tuple(VanishedFolder(**folder) for folder in record.get("vanished", ()))
        return cls(
            **{
                **record,
                "days": days,
                "vanished": vanished,
                **{name: tuple(record[name]) for name in ("quarantine", "unfinished")},
            }
        )


def report_run(store: Store, run: str) -> RunReport:
    """Compact the outcomes of a run into the ledger, write the report and the summaries, and release the leases."""
    plan = load_plan(store, run)
    outcomes = {day: without_former_parts(compact(store, day, run)) for day in plan.days}
    planned = {day: _planned(store, plan, day) for day in plan.days}
    missing = {
        day: [uri for clip_id, uri in planned[day].items() if not _is_final(outcomes[day].get(clip_id))]
        for day in plan.days
    }
    report = RunReport(
        run=run,
        days=tuple(
            _day_report(day, plan.discovered.get(day, 0), len(planned[day]), len(missing[day]), outcomes[day])
            for day in plan.days
        ),
        done_before=plan.done,
        known_quarantined=plan.quarantined,
        quarantine=tuple(
            _quarantine_line(one)
            for day in plan.days
            for one in outcomes[day].values()
            if one.outcome is Outcome.QUARANTINED
        ),
        unfinished=tuple(uri for day in plan.days for uri in missing[day]),
        conclusive=sum(
            one.outcome is Outcome.QUARANTINED and one.conclusive for day in plan.days for one in outcomes[day].values()
        ),
        vanished=plan.vanished,
        moved=plan.moved,
        timezone=plan.timezone,
        skipped=plan.skipped,
        excluded=plan.excluded,
        nothing=plan.nothing,
    )
    store.write_json(report_path(run), report.to_json())
    summarize_run(store, run, plan.discovered, outcomes)
    for day in plan.days:
        leases.release(store, day, run)
    _log_report(report)
    for total in ("planned", "indexed", "quarantined", "unfinished"):
        metrics.gauge(f"run.{total}", report.total(total))
    metrics.gauge("quarantine", report.known_quarantined + report.total("quarantined"))
    return report


def check_report(report: RunReport, rule: Quarantine) -> None:
    """Raise RunIncomplete if clips are unfinished or too many went to quarantine."""
    planned = report.total("planned")
    judged, quarantined = planned - report.conclusive, report.total("quarantined") - report.conclusive
    if report.unfinished:
        some = ", ".join(report.unfinished[:3])
        raise RunIncomplete(
            f"{len(report.unfinished)} of {planned} planned clips have no final outcome ({some}…): see the failed "
            "caption and index tasks; clear them, or backfill the day with 'Missing and Errored Runs'"
        )
    if quarantined > rule.floor and quarantined > rule.max_share_of_run * judged:
        reasons = Counter(line["reason"] for line in report.quarantine)
        raise RunIncomplete(
            f"{quarantined} of {judged} planned clips went to quarantine ({dict(reasons)}), more than "
            f"{rule.max_share_of_run:.0%}: check the source; the report lists the clips and reasons"
        )


def load_report(store: Store, run: str) -> RunReport:
    return RunReport.from_json(store.read_json(report_path(run)))


def report_path(run: str) -> str:
    return f"reports/{run}.json"


def _planned(store: Store, plan: Plan, day: str) -> dict[str, str]:
    return {clip.clip_id: clip.uri for batch in plan.batches if batch.day == day for clip in manifest(store, batch)}


def _is_final(outcome: ClipOutcome | None) -> bool:
    return outcome is not None and outcome.outcome.final


def _day_report(
    day: str, discovered: int, planned: int, unfinished: int, outcomes: Mapping[str, ClipOutcome]
) -> DayReport:
    """Return the totals. planned: files in the manifests"""
    results = [one for one in outcomes.values() if not one.parts]
    files = len(outcomes) - len(results)
    parts = sum(bool(one.part_of) for one in results)
    new = {one.caption_key: one for one in results if one.origin == Origin.NEW}
    shared = [new[one.similar_to] for one in results if one.origin == Origin.SIMILAR and one.similar_to in new]
    origins = Counter(one.origin for one in results)
    kinds = Counter(one.outcome for one in results)
    paragraphs, timed = sum(one.paragraphs for one in results), sum(one.timed for one in results)
    return DayReport(
        day=day,
        discovered=discovered,
        planned=planned - files + parts,
        captioned=sum(origins[origin] for origin in Origin),
        asked=origins[Origin.NEW],
        copies=origins[Origin.COPY],
        stored=origins[Origin.STORED],
        indexed=kinds[Outcome.INDEXED],
        quarantined=kinds[Outcome.QUARANTINED],
        unfinished=unfinished,
        chunks=sum(one.chunks for one in results),
        prompt_tokens=sum(one.prompt_tokens for one in results),
        completion_tokens=sum(one.completion_tokens for one in results),
        pace=throughput(results),
        cut=files,
        parts=parts,
        similar=origins[Origin.SIMILAR],
        saved_gpu_s=round(sum(one.gpu_s for one in shared), 3),
        saved_s=round(sum(one.seconds for one in shared), 3),
        paragraphs=paragraphs,
        timed=timed,
        timed_share=_share(timed, paragraphs),
    )


def _share(timed: int, paragraphs: int) -> float | None:
    return round(timed / paragraphs, 4) if paragraphs else None


def _quarantine_line(one: ClipOutcome) -> dict[str, str]:
    where = f"{one.start_s:.1f}-{one.end_s:.1f} s: " if one.part_of else ""
    return {"uri": one.uri, "day": one.day, "reason": one.reason, "detail": where + one.detail}


def _log_report(report: RunReport) -> None:
    if report.timezone != "UTC" or report.moved:
        log.info("days of %s; %d clips were done under another day", report.timezone, report.moved)
    for day in report.days:
        log.info(
            "%s: %d found, %d planned, %d captioned (%d new, %d copies, %s%d stored before), "
            "%d indexed in %d chunks, %d quarantined, %d unfinished, %d output tokens",
            day.day, day.discovered, day.planned, day.captioned, day.asked, day.copies,
            f"{day.similar} near-duplicates, " if day.similar else "", day.stored, day.indexed,
            day.chunks, day.quarantined, day.unfinished, day.completion_tokens,
        )  # fmt: skip
        if day.parts:
            log.info("%s: of these clips, %d are the parts of %d long files", day.day, day.parts, day.cut)
        if day.pace.clips:
            log.info("%s: %s, %.1f s at the engine", day.day, day.pace, day.pace.engine_s)
    for summary in filter(None, (report.saved, report.times)):
        log.info("%s", summary)
    if report.conclusive:
        log.log(
            logging.WARNING if 2 * report.conclusive > report.total("planned") else logging.INFO,
            "%d of %d planned files are no videos, or could not be read before either: they do not make a run red. If "
            "good clips are among them, check that the source gives their content",
            report.conclusive, report.total("planned"),
        )  # fmt: skip
    for folder in report.vanished:
        log.warning("%s", folder)
    if left_out := describe(report.skipped, report.excluded):
        log.info("left out: %s", left_out)
    if report.nothing:
        log.warning("%s", escape_line(report.nothing))
    for line in report.quarantine:
        log.warning("quarantined %s: %s (%s)", line["uri"], line["reason"], line["detail"])
