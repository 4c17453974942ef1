"""Compare engines, strategies, prompts or samplings on the same clips, side by side.

    clipdex compare *.mp4 --with video:strategy=video --with frames:strategy=frames-concat --out report.html

A variant is a name and a set of changed settings. Variants run one after another, so that none slows another down. A
variant that cannot run, or a clip that cannot be captioned, is reported with its error and does not stop the others.
comparison.py holds the results; page.py renders them.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from clipdex.captions.captioner import CaptionDraft, Captioner
from clipdex.captions.engines import open_captioner
from clipdex.captions.quality import GATES, caption_with_gates, cleaned, verdicts
from clipdex.compare.comparison import Column, Comparison, Subject, Written
from clipdex.config import Settings
from clipdex.errors import ClipdexError, ClipRejected
from clipdex.variants import Variant, require_distinct
from clipdex.video import Prepared
from clipdex.video.sandbox.pool import DecoderPool

__all__ = ["Variant", "compare"]

log = logging.getLogger(__name__)


def compare(
    paths: Sequence[Path], variants: Sequence[Variant], on_column: Callable[[Column], None] = lambda _: None
) -> Comparison:
    """Caption every clip with every variant. Raises ConfigurationError.

    variants: changes to the settings of the environment
    on_column: called with the column of each finished variant
    """
    require_distinct(variants, "--with")
    return asyncio.run(_compare(_named(paths), variants, on_column))


async def _compare(
    paths: Mapping[str, Path], variants: Sequence[Variant], on_column: Callable[[Column], None]
) -> Comparison:
    clips = {name: Subject(name) for name in paths}
    prepared: dict[str, _Clips] = {}
    columns = []
    for variant in variants:
        try:
            settings = Settings.load(**{group: dict(fields) for group, fields in variant.changes.items()})
            preparation = json.dumps([settings.video.model_dump(), settings.sampling.model_dump()])
            if preparation not in prepared:
                prepared[preparation] = await _prepared(paths, settings)
            for name, clip in prepared[preparation].items():
                if not clips[name].poster:
                    clips[name] = _subject(name, clip)
            column = await _column(variant.name, settings, prepared[preparation])
        except ClipdexError as error:
            column = Column(variant.name, error=str(error))
        except Exception as error:  # any error of an engine's library: run the other variants
            log.exception("%s", variant.name)
            column = Column(variant.name, error=f"{type(error).__name__}: {error}")
        columns.append(column)
        on_column(column)
    return Comparison(datetime.now(UTC).isoformat(timespec="seconds"), tuple(clips.values()), tuple(columns))


_Clips = dict[str, Prepared | ClipdexError]


async def _prepared(paths: Mapping[str, Path], settings: Settings) -> _Clips:
    async with DecoderPool(settings.video, settings.sampling, settings.batches.preparing) as decoders:

        async def prepare(path: Path) -> Prepared | ClipdexError:
            try:
                return await decoders.prepare(path)
            except ClipRejected as refusal:
                return refusal

        return dict(zip(paths, await asyncio.gather(*map(prepare, paths.values())), strict=True))


def _subject(name: str, clip: Prepared | ClipdexError) -> Subject:
    if isinstance(clip, ClipdexError):
        return Subject(name, error=str(clip))
    return Subject(name, clip.info.duration_s, clip.info.width, clip.info.height, clip.poster)


async def _column(name: str, settings: Settings, clips: _Clips) -> Column:
    captioner = open_captioner(settings)
    slots = asyncio.Semaphore(captioner.in_flight)

    async def write(clip: str, prepared: Prepared) -> Written:
        async with slots:
            return await _caption(captioner, clip, prepared)

    try:
        await captioner.check()
        started = time.monotonic()
        requests = [write(clip, one) for clip, one in clips.items() if isinstance(one, Prepared)]
        captions = await asyncio.gather(*requests)
        seconds = time.monotonic() - started
    finally:
        await captioner.aclose()
    fingerprint = captioner.fingerprint
    parts = {part: getattr(fingerprint, part) for part in ("engine", "model", "strategy", "prompt", "sampling")}
    return Column(
        variant=name,
        fingerprint={**parts, "generation": fingerprint.generation},
        in_flight=captioner.in_flight,
        seconds=seconds,
        captions=tuple(captions),
    )


async def _caption(captioner: Captioner, clip: str, prepared: Prepared) -> Written:
    """Caption one clip. Keep a text that fails its gates, with the verdict of each gate."""
    recorder = _Recorder(captioner)
    error = ""
    try:
        await caption_with_gates(recorder, prepared)
    except ClipRejected as refusal:
        error = "" if refusal.reason in GATES else str(refusal)
    except ClipdexError as raised:
        error = str(raised)
    written = Written(
        clip,
        prompt_tokens=sum(reply.prompt_tokens for reply in recorder.replies),
        completion_tokens=sum(reply.completion_tokens for reply in recorder.replies),
        seconds=sum(reply.seconds for reply in recorder.replies),
        attempts=sum(reply.attempts for reply in recorder.replies),
        error=error,
    )
    if error:
        return written
    last = cleaned(recorder.replies[-1], captioner.gates)
    found = verdicts(last, captioner.gates, captioner.fingerprint.prompt)
    return replace(
        written,
        text=last.text,
        segments=last.segments,
        notes=last.notes,
        gates={str(gate): wrong for gate, wrong in found.items()},
        finish_reason=last.finish_reason,
    )


class _Recorder:
    """Wrap a captioner and record its replies, so that rejected texts are counted, too."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        self.fingerprint, self.gates, self.in_flight = captioner.fingerprint, captioner.gates, captioner.in_flight
        self.replies: list[CaptionDraft] = []

    async def check(self) -> None:
        await self._captioner.check()

    async def caption(self, clip: Prepared, attempt: int = 1) -> CaptionDraft:
        reply = await self._captioner.caption(clip, attempt)
        self.replies.append(reply)
        return reply

    async def aclose(self) -> None:
        await self._captioner.aclose()


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the clips by file name, or by path relative to their common folder if file names repeat."""
    files = {str(path.absolute()): path for path in paths}
    if len({path.name for path in paths}) == len(files):
        return {path.name: path for path in files.values()}
    root = os.path.commonpath([Path(file).parent for file in files])
    return {os.path.relpath(file, root): path for file, path in files.items()}
