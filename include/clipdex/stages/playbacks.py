"""Playbacks of clips that were captioned without one: read the ledger, fetch the originals, decode them once more.

No engine is needed and no caption, outcome or point is written. What is there is kept, so that a stopped run continues.
A file that cannot be decoded any more is reported, and changes nothing else.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clipdex.config import Playback, Settings
from clipdex.errors import ClipRejected, ConfigurationError, Reason, SourceUnavailable, Unavailable
from clipdex.runs.outcomes import ClipOutcome, ledger
from clipdex.storage.artifacts import Store, playback_path
from clipdex.storage.clip import Clip
from clipdex.storage.source import Source
from clipdex.storage.tempdir import scratch
from clipdex.video import Prepared
from clipdex.video.sandbox.pool import DecoderPool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A file without a playback. reason: a Reason, or "unavailable" if another run may read it."""

    uri: str
    reason: str
    detail: str


@dataclass(slots=True)
class PlaybackTotals:
    """Count the contents of a day that have a caption: exact copies are one.

    there: with a playback before; made: now; bytes: of these
    elsewhere: not below this source
    troubles: files that gave none
    """

    day: str
    there: int = 0
    made: int = 0
    bytes: int = 0
    elsewhere: int = 0
    troubles: list[Trouble] = field(default_factory=list)

    @property
    def unfinished(self) -> int:
        """Return how many files another run may read."""
        return sum(one.reason == _UNAVAILABLE for one in self.troubles)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def make_playbacks(settings: Settings, store: Store, source: Source, day: str, again: bool = False) -> PlaybackTotals:
    """Make the missing playbacks of a day. again: also those that are there, as after a change of the setting.

    Raises ConfigurationError if the setting is off, SourceUnavailable if the source is away.
    """
    if settings.store.playback is Playback.OFF:
        raise ConfigurationError(
            "CLIPDEX_STORE__PLAYBACK is off, so that no playback is made: set it to proxy or 480p, or unset it"
        )
    return asyncio.run(_Day(settings, store, source, day).make(again))


_UNAVAILABLE = "unavailable"


@dataclass(slots=True)
class _File:
    """A file that is to be decoded. clip: its record; wanted: the contents, of it or its parts; cut: how it was cut.

    first, start_s: the first part that is wanted, and its start [s on a player's clock of the file]
    """

    clip: Clip
    cut: str = ""
    wanted: set[str] = field(default_factory=set)
    first: int = 0
    start_s: float | None = None


class _Day:
    """Make the playbacks of one day."""

    def __init__(self, settings: Settings, store: Store, source: Source, day: str) -> None:
        self._settings, self._store, self._source = settings, store, source
        self._totals = PlaybackTotals(day)

    async def make(self, again: bool) -> PlaybackTotals:
        files = iter(await asyncio.to_thread(self._files, again))
        with scratch() as folder:
            preparing, playback = self._settings.batches.preparing, self._settings.store.playback
            async with DecoderPool(self._settings.video, self._settings.sampling, preparing, playback) as decoders:
                try:
                    async with asyncio.TaskGroup() as group:
                        for _ in range(preparing):
                            group.create_task(self._each(files, decoders, folder))
                except BaseExceptionGroup as raised:
                    raise raised.exceptions[0] from None
        return self._totals

    def _files(self, again: bool) -> Sequence[_File]:
        """Return the files of the day with a captioned content that has no playback."""
        known = ledger(self._store, self._totals.day)
        captioned = {one.content: one for one in known.values() if one.caption_key and one.content and not one.parts}
        there = set() if again else self._store.existing(map(playback_path, captioned))
        self._totals.there = len(there)
        files: dict[str, _File] = {}
        groups: dict[str, list[ClipOutcome]] = defaultdict(list)
        for content, one in captioned.items():
            if playback_path(content) not in there:
                groups[one.part_of or one.clip_id].append(one)
        for clip_id, missing in groups.items():
            if (clip := self._clip(known.get(clip_id, missing[0]))) is None:
                self._totals.elsewhere += len(missing)
                continue
            file = files[clip_id] = _File(clip, known[clip_id].cut if clip_id in known else "")
            file.wanted = {one.content for one in missing}
            if first := min((one for one in missing if one.part_of), key=lambda one: one.part_no, default=None):
                file.first, file.start_s = first.part_no, first.start_s
        return list(files.values())

    def _clip(self, outcome: ClipOutcome) -> Clip | None:
        path = self._source.path_of(outcome.uri)
        if path is None:
            return None
        return Clip(
            outcome.clip_id, outcome.uri, path, outcome.version, bytes=0, day=outcome.day, content=outcome.content
        )

    async def _each(self, files: Iterator[_File], decoders: DecoderPool, folder: Path) -> None:
        for file in files:
            try:
                await self._of_file(file, decoders, folder)
            except ClipRejected as rejection:
                self._report(file, str(rejection.reason), rejection.detail)
            except SourceUnavailable:
                raise
            except Unavailable as error:
                self._report(file, _UNAVAILABLE, str(error))

    async def _of_file(self, file: _File, decoders: DecoderPool, folder: Path) -> None:
        """Make the playbacks of one file. Raises ClipRejected, Unavailable."""
        if file.cut and file.cut != self._settings.video.cut:
            raise ClipRejected(
                Reason.TOO_LONG,
                f"cut as {file.cut!r} when it was captioned, and as {self._settings.video.cut!r} by these settings: "
                "use those of then (CLIPDEX_VIDEO__SPLIT, __PART_S, __MIN_PART_S)",
            )
        fetched = await asyncio.to_thread(self._source.fetch, file.clip, folder, self._settings.video.file_bytes)
        try:
            if fetched.content != file.clip.content:
                raise ClipRejected(Reason.MISSING, "replaced by another version since it was captioned")
            async with aclosing(decoders.parts(fetched.path, file.first, file.start_s)) as parts:
                async for one in parts:
                    if isinstance(one, Prepared):
                        await self._keep(file, one)
                    elif file.clip.part(one.part.number, one.start_s, one.end_s).content in file.wanted:
                        raise one.rejection
                    if not file.wanted:
                        return
        except OSError as error:
            raise Unavailable(f"{file.clip.uri}: cannot be prepared on this machine ({error})") from error
        finally:
            await asyncio.to_thread(fetched.discard)
        raise ClipRejected(Reason.UNDECODABLE, f"{len(file.wanted)} parts expected that this file does not give now")

    async def _keep(self, file: _File, one: Prepared) -> None:
        clip = file.clip if one.part is None else file.clip.part(one.part.number, one.info.start_s, one.info.end_s)
        if clip.content not in file.wanted or not one.playback:
            return
        await asyncio.to_thread(self._store.write, playback_path(clip.content), one.playback)
        file.wanted.discard(clip.content)
        self._totals.made += 1
        self._totals.bytes += len(one.playback)

    def _report(self, file: _File, reason: str, detail: str) -> None:
        log.info("%s: no playback: %s (%s)", file.clip.uri, reason, detail)
        self._totals.troubles.append(Trouble(file.clip.uri, reason, detail))
