"""Inspection: preflights of the nodes of an engine, and which nodes may be used after them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from clipdex.captions.http.dialects import Dialect
from clipdex.captions.model import ModelRequest
from clipdex.captions.preflight import Ask, Kept, NodeReport, Reply, Subject, inspect
from clipdex.captions.preflight.cache import key_of
from clipdex.captions.preflight.findings import Check, Finding, Level
from clipdex.config import Preflight, Settings
from clipdex.errors import ConfigurationError, EngineUnavailable
from clipdex.families import FAMILIES, Family, by_name, by_type
from clipdex.nodes.client import Document
from clipdex.nodes.pool import Node

log = logging.getLogger(__name__)

MARK = "clipdex-preflight"
"""The user of its requests, by which the log of a server tells them apart."""

Send = Callable[[Node, ModelRequest], Awaitable[Document]]
"""Sends a request to one node and returns the document of its answer."""


class Inspection:
    """Inspects nodes once per configuration; see clipdex.captions.preflight.

    facts: of a node, by URL: what it reports of itself, which its check read
    """

    def __init__(self, settings: Settings, dialect: Dialect, send: Send, kept: Kept) -> None:
        self._settings, self._dialect, self._send, self._kept = settings, dialect, send, kept
        self.mode = settings.engine.preflight
        self.facts: dict[str, Mapping[str, Any]] = {}
        self._logged: set[tuple[str, str]] = set()

    async def sound(self, nodes: Sequence[Node]) -> list[Node]:
        """Return the nodes that may be used. Raises ConfigurationError if none may be, EngineUnavailable if all left.

        A node that does not answer is left out, as one that is unavailable.
        """
        if self.mode is Preflight.OFF or not nodes:
            return list(nodes)
        reports = await asyncio.gather(*map(self.report, nodes), return_exceptions=True)
        sound, faults, unavailable = [], [], []
        for node, report in zip(nodes, reports, strict=True):
            match report:
                case NodeReport():
                    self._log_warnings(report)
                    if found := report.faults(self.mode):
                        faults.append(f"{node.url}: {'; '.join(f'{one.check}: {one.text}' for one in found)}")
                    else:
                        sound.append(node)
                case EngineUnavailable():
                    unavailable.append(report)
                    log.warning("%s; continuing without this node", report)
                case _:
                    raise report
        if faults and not sound:
            raise ConfigurationError(f"preflight failed: {' | '.join(faults)}; {_ADVICE}")
        for fault in faults:
            log.error("preflight failed, continuing without this node: %s; %s", fault, _ADVICE)
        if not sound:
            raise unavailable[0]
        return sound

    async def report(self, node: Node, fresh: bool = False) -> NodeReport:
        """Return the report of a node, a kept one unless fresh. Raises EngineUnavailable, ConfigurationError."""
        key = key_of(node.url, self.facts.get(node.url, {}), self._settings)
        if not fresh and (kept := await asyncio.to_thread(self._kept.read, key)):
            return kept
        subject = Subject(node.url, self._family(node), self._settings, self._dialect.seeds)
        report = await inspect(subject, self._ask(node))
        await asyncio.to_thread(self._kept.write, key, report)
        return report

    def failed(self, node: Node, error: Exception) -> NodeReport:
        """Return the report of a node whose check failed."""
        what = "does not answer: " if isinstance(error, EngineUnavailable) else ""
        finding = Finding(Check.NODE, Level.ERROR, f"{what}{error}")
        return NodeReport(node.url, self._settings.engine.model, "", (finding,))

    def _family(self, node: Node) -> Family | None:
        """Return the family that is set, or that of the served model."""
        if name := self._settings.sampling.family:
            return FAMILIES[name]
        facts = self.facts.get(node.url, {})
        names = (str(facts.get("root") or ""), str(facts.get("model_path") or ""), self._settings.engine.model)
        return by_name(*names) or by_type(str(facts.get("model_type") or ""))

    def _ask(self, node: Node) -> Ask:
        async def ask(request: ModelRequest) -> Reply:
            document = await self._send(node, request)
            choice, usage = document["choices"][0], document.get("usage")
            message = choice["message"]
            reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
            counts = usage if isinstance(usage, dict) else {}
            prompt, completion = (
                count if isinstance(count := counts.get(name), int) else 0
                for name in ("prompt_tokens", "completion_tokens")
            )
            return Reply.of(message.get("content") or "", str(reasoning), choice["finish_reason"], prompt, completion)

        return ask

    def _log_warnings(self, report: NodeReport) -> None:
        for finding in report.warnings(self.mode):
            if (report.node, finding.text) not in self._logged:
                log.warning("%s: preflight: %s: %s", report.node, finding.check, finding.text)
            self._logged.add((report.node, finding.text))


_ADVICE = "run clipdex check-engine for all findings; CLIPDEX_ENGINE__PREFLIGHT=off skips them (docs/gpu.md, Preflight)"
