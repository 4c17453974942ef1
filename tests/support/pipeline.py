"""The pipeline on a folder, without Airflow: what a DAG run does, step by step, as a test wants it."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipdex.captions.engines import open_captioner
from clipdex.config import Settings
from clipdex.index import open_index
from clipdex.index.embeddings import open_embedder
from clipdex.runs.outcomes import ClipOutcome, run_outcomes
from clipdex.runs.planning import BatchRef, CompletionCriteria, Plan, plan_run, survey
from clipdex.runs.report import RunReport, report_run
from clipdex.stages.batch_state import CaptionTotals
from clipdex.stages.caption import caption_batch
from clipdex.stages.index import IndexTotals, index_batch
from clipdex.storage.artifacts import Store
from clipdex.storage.source import Clip, Source
from clipdex.video import prepare
from demo.samples import write_tiny_clips
from tests.support.engine import MODEL, Request

DAY = "2026-11-03"


class Pipeline:
    """One archive, one store, one index, one engine. home: where all of it lies; clips: the archive, if elsewhere."""

    def __init__(self, home: Path, urls: Sequence[str], clips: Path | None = None, **overrides: Any) -> None:
        engine = {"name": "sglang", "model": MODEL, "base_urls": list(urls), "in_flight": 4, "tries": 3,
                  "connect_timeout_s": 1.0, "request_timeout_s": 2.0, "deadline_s": 20.0}  # fmt: skip
        engine |= overrides.pop("engine", {})
        self.home, self.clips = home, clips or home / "clips"
        self.settings = Settings.load(home=home, source={"url": str(self.clips)}, engine=engine, **overrides)
        self.store = Store.open(self.settings)

    @classmethod
    def of(cls, settings: Settings) -> "Pipeline":
        """The one with these settings."""
        one = cls.__new__(cls)
        one.home, one.clips, one.settings = settings.home, Path(settings.source_url), settings
        one.store = Store.open(settings)
        return one

    def environment(self) -> dict[str, str]:
        """The same settings, for another process."""
        engine = self.settings.engine
        given = {name: getattr(engine, name) for name in engine.model_fields_set - {"base_urls", "api_key"}}
        return {
            "CLIPDEX_HOME": str(self.home),
            "CLIPDEX_SOURCE__URL": str(self.clips),
            "CLIPDEX_ENGINE__BASE_URLS": json.dumps(engine.base_urls),
            **{f"CLIPDEX_ENGINE__{name.upper()}": str(value) for name, value in given.items()},
        }

    def put(self, count: int, day: str = DAY, first: int = 0) -> list[Path]:
        """Write so many tiny clips, numbered from first on, each number of its own content."""
        return write_tiny_clips(self.clips, count, day, first)

    def plan(self, run: str = "r.1", days: Sequence[str] = (DAY,), **wishes: Any) -> Plan:
        what = CompletionCriteria.under(self.settings, **wishes)
        found = survey(self.store, Source(self.settings), days, what)
        return plan_run(self.settings, self.store, Source(self.settings), run, found, what)

    def caption(self, batch: BatchRef, try_number: int = 1) -> CaptionTotals:
        async def run() -> CaptionTotals:
            captioner = open_captioner(self.settings)
            try:
                return await caption_batch(
                    self.settings, self.store, Source(self.settings), captioner, batch, try_number
                )
            finally:
                await captioner.aclose()

        return asyncio.run(run())

    def index(self, batch: BatchRef, try_number: int = 1) -> IndexTotals:
        return index_batch(self.settings, self.store, open_embedder(self.settings.embedding), batch, try_number)

    def run(self, run: str = "r.1", **wishes: Any) -> RunReport:
        """Everything, as one undisturbed run does it."""
        for batch in self.plan(run, **wishes).batches:
            self.caption(batch)
            self.index(batch)
        return report_run(self.store, run)

    def outcomes(self, run: str = "r.1", day: str = DAY) -> dict[str, ClipOutcome]:
        """By file name."""
        return {one.uri.rpartition("/")[2]: one for one in run_outcomes(self.store, day, run).values()}

    def points(self) -> dict[str, dict[str, Any]]:
        """What the index holds: payloads by point id."""
        with open_index(self.settings) as index:
            return {hit.id: hit.payload for hit in index.scroll()}

    def proxy_digest(self, clip: Path) -> str:
        """How the engine sees this clip: sha256 of its proxy."""
        (window,) = prepare(clip, self.settings.video, self.settings.sampling).windows
        return hashlib.sha256(window.proxy).hexdigest()

    def clip_of(self, path: Path) -> Clip:
        (clip,) = (clip for clip in Source(self.settings).prefix("") if clip.uri.endswith(path.name))
        return clip


def asked_twice(requests: Sequence[Request]) -> list[str]:
    """Digests of videos that were asked for again after they had been answered."""
    answered: set[str] = set()
    again = []
    for request in requests:
        if request.digest in answered:
            again.append(request.digest)
        if request.status == 200 and not request.fault:
            answered.add(request.digest)
    return again
