"""History: what happened to one clip, in each run that retention still has, and in the ledger of its day.

Of a run that the report has compacted, only the last outcome is left; of the ledger, only the latest of all runs.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from clipdex.runs.outcomes import ALL, ClipOutcome, ledger_days, ledger_path, read_again
from clipdex.storage.artifacts import Store
from clipdex.storage.clip import Clip

_PART = re.compile(r"/(?P<phase>[a-z]+)-(?P<try>\d+)-\d+\.jsonl$")
_SIZE = re.compile(r"(\d+)-\d+\.\d{6}")


@dataclass(frozen=True, slots=True)
class PastOutcome:
    """Hold one outcome of a clip.

    run: "" if only the ledger has it
    phase, try_number: caption or index, and the try of the task; "" and 0 if the run is compacted
    """

    outcome: ClipOutcome
    run: str = ""
    phase: str = ""
    try_number: int = 0


def clip_history(store: Store, day: str, clip_id: str) -> list[PastOutcome]:
    """Return the outcomes of a clip on a day, the first one first."""
    of_runs, of_ledger = read_again(lambda: (_of_runs(store, day, clip_id), _of_ledger(store, day, clip_id)))
    seen = {(one.outcome.at, one.outcome.outcome) for one in of_runs}
    alone = [PastOutcome(one) for one in of_ledger if (one.at, one.outcome) not in seen]
    return sorted([*of_runs, *alone], key=lambda one: (one.outcome.at, one.outcome.outcome.final))


def find_day(store: Store, clip_id: str, seconds: float = 3.0) -> tuple[str, str]:
    """Return the last day that has an outcome of a clip, "" if none was found, and the day back to which it looked.

    seconds: after which it stops looking [s]
    """
    ends, looked = time.monotonic() + seconds, ""
    for day in reversed(ledger_days(store)):
        looked = day
        if any(not one.outcome.moved_to for one in clip_history(store, day, clip_id)):
            return day, day
        if time.monotonic() > ends:
            break
    return "", looked


def file_size(store: Store, history: list[PastOutcome]) -> int:
    """Return the size of a clip's file [bytes], from a manifest or from its version; 0 if neither has it."""
    for past in reversed(history):
        outcome = past.outcome
        if past.run and (known := _in_manifest(store, past.run, outcome)):
            return known.bytes
        if size := _SIZE.fullmatch(outcome.version):
            return int(size[1])
    return 0


def _of_runs(store: Store, day: str, clip_id: str) -> list[PastOutcome]:
    found: dict[tuple[str, str, str], PastOutcome] = {}
    for key, outcome in _outcomes(store, store.list(f"outcomes/day={day}"), clip_id):
        run = key.split("/")[2].removeprefix("run=")
        part = None if key.endswith(f"/{ALL}") else _PART.search(key)
        past = PastOutcome(outcome, run, part["phase"], int(part["try"])) if part else PastOutcome(outcome, run)
        same = run, outcome.at, str(outcome.outcome)
        if part or same not in found:
            found[same] = past
    return list(found.values())


def _of_ledger(store: Store, day: str, clip_id: str) -> list[ClipOutcome]:
    return [outcome for _, outcome in _outcomes(store, store.list(ledger_path(day)), clip_id)]


def _outcomes(store: Store, keys: list[str], clip_id: str) -> Iterator[tuple[str, ClipOutcome]]:
    for key, record in store.find_lines(clip_id, *keys):
        if record.get("clip_id") == clip_id:
            yield key, ClipOutcome.from_json(record)


def _in_manifest(store: Store, run: str, outcome: ClipOutcome) -> Clip | None:
    file_id = outcome.part_of or outcome.clip_id
    try:
        lines = list(store.find_lines(file_id, f"manifests/run={run}/{outcome.batch}.jsonl"))
    except FileNotFoundError:  # pruned
        return None
    clips = (Clip.from_json(record) for _, record in lines if record.get("clip_id") == file_id)
    return next(clips, None)
