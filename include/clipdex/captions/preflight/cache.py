"""Cache: reports of nodes, in this process and in the store, so that a task of a batch does not repeat a preflight.

The key has the node, what it reports of itself, and the settings that a preflight depends on. A report is kept for a
day, because some servers do not report their flags. A report with faults is repeated after a few minutes, so that a
node that was corrected is used again.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

from clipdex.captions.preflight.findings import NodeReport
from clipdex.config import Preflight, Settings
from clipdex.errors import is_of_storage

log = logging.getLogger(__name__)

FOLDER = "preflight"


class Records(Protocol):
    """Where reports are kept; the artifact store."""

    def read_json(self, key: str) -> Any: ...

    def write_json(self, key: str, record: Any) -> None: ...


class Kept:
    """Reports by key. records: None to keep them in this process alone; mode: which findings are faults"""

    def __init__(self, records: Records | None = None, mode: Preflight = Preflight.WARN) -> None:
        self._records, self._mode = records, mode

    def read(self, key: str) -> NodeReport | None:
        """Return a report that is still valid, or None."""
        report = _IN_PROCESS.get(key)
        if report is None and self._records is not None:
            try:
                report = NodeReport.from_json(self._records.read_json(_path(key)))
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                return None
        if report is None or not 0 <= time.time() - report.at < (_BAD_S if report.faults(self._mode) else _GOOD_S):
            return None
        _IN_PROCESS[key] = report
        return report

    def write(self, key: str, report: NodeReport) -> None:
        """Keep a report. A store that cannot be written costs only a repeated preflight."""
        _IN_PROCESS[key] = report
        if self._records is None:
            return
        try:
            self._records.write_json(_path(key), report.to_json())
        except Exception as error:
            if not (isinstance(error, OSError) or is_of_storage(error)):
                raise
            log.warning("the preflight of %s is not stored: %s", report.node, error)


def key_of(node: str, facts: Mapping[str, Any], settings: Settings) -> str:
    """Return the key of a node under these settings. facts: what the node reports of itself"""
    engine = settings.engine
    inputs = [
        _VERSION, node, facts, settings.sampling.model_dump(), engine.name, engine.model, engine.strategy, engine.clock,
        engine.options,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _path(key: str) -> str:
    return f"{FOLDER}/{key}.json"


_VERSION = 1  # of the questions and of what is concluded from the answers
_GOOD_S, _BAD_S = 24 * 3600.0, 300.0
_IN_PROCESS: dict[str, NodeReport] = {}
