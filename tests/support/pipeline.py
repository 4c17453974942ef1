"""clipdex.Pipeline on a folder of tiny clips and the stand-in engine, step by step as a DAG run does."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import clipdex
from clipdex.config import Settings
from clipdex.runs.outcomes import ClipOutcome, run_outcomes
from clipdex.runs.planning import Plan
from clipdex.runs.report import RunReport
from clipdex.storage.clip import Clip
from clipdex.video import prepare
from demo.samples import write_tiny_clips
from tests.support.engine import MODEL, Request

DAY = "2026-11-03"


class Pipeline(clipdex.Pipeline):
    """Use one archive, store, index and engine. home: parent folder of all; clips: the archive, default home/clips."""

    def __init__(self, home: Path, urls: Sequence[str], clips: Path | None = None, **overrides: Any) -> None:
        engine = {"name": "sglang", "model": MODEL, "base_urls": list(urls), "in_flight": 4, "tries": 3,
                  "connect_timeout_s": 1.0, "request_timeout_s": 2.0, "deadline_s": 20.0}  # fmt: skip
        engine |= overrides.pop("engine", {})
        batches = {"preparing": 1} | overrides.pop("batches", {})  # a decoder's process starts in half a second
        self.home, self.clips = home, clips or home / "clips"
        super().__init__(
            Settings.load(home=home, source={"url": str(self.clips)}, engine=engine, batches=batches, **overrides)
        )

    @classmethod
    def of(cls, settings: Settings) -> "Pipeline":
        """Create a pipeline from settings."""
        one = cls.__new__(cls)
        one.home, one.clips, one.settings = settings.home, Path(settings.source_url), settings
        return one

    def environment(self) -> dict[str, str]:
        """Return the settings as environment variables, for another process."""
        engine = self.settings.engine
        given = {name: getattr(engine, name) for name in engine.model_fields_set - {"base_urls", "api_key"}}
        return {
            "CLIPDEX_HOME": str(self.home),
            "CLIPDEX_SOURCE__URL": str(self.clips),
            "CLIPDEX_ENGINE__BASE_URLS": json.dumps(engine.base_urls),
            **{f"CLIPDEX_ENGINE__{name.upper()}": str(value) for name, value in given.items()},
        }

    def put(self, count: int, day: str = DAY, first: int = 0) -> list[Path]:
        """Write count tiny clips, numbered from first, each with unique content."""
        return write_tiny_clips(self.clips, count, day, first)

    def plan(self, run: str = "r.1", days: Sequence[str] = (DAY,), **wishes: Any) -> Plan:
        return super().plan(run, self.survey(days, self.criteria(**wishes)))

    def run(self, run: str = "r.1", **wishes: Any) -> RunReport:
        """Run all steps without faults and return the report."""
        days = wishes.pop("days", (DAY,))
        for batch in self.plan(run, days, **wishes).batches:
            self.caption(batch)
            self.index(batch)
        return self.report(run)

    def outcomes(self, run: str = "r.1", day: str = DAY) -> dict[str, ClipOutcome]:
        """Return the outcomes by file name."""
        return {one.uri.rpartition("/")[2]: one for one in run_outcomes(self.store, day, run).values()}

    def points(self) -> dict[str, dict[str, Any]]:
        """Return the payloads of the index by point id."""
        with self.open_index() as index:
            return {hit.id: hit.payload for hit in index.scroll()}

    def proxy_digest(self, clip: Path) -> str:
        """Return the sha256 of the proxy that the engine receives for this clip."""
        (window,) = prepare(clip, self.settings.video, self.settings.sampling).windows
        return hashlib.sha256(window.proxy).hexdigest()

    def clip_of(self, path: Path) -> Clip:
        (clip,) = (clip for clip in self.source.prefix("") if clip.uri.endswith(path.name))
        return clip


def asked_twice(requests: Sequence[Request]) -> list[str]:
    """Return digests of videos that were requested again after a successful response."""
    answered: set[str] = set()
    again = []
    for request in requests:
        if request.digest in answered:
            again.append(request.digest)
        if request.status == 200 and not request.fault:
            answered.add(request.digest)
    return again
