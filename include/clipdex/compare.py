"""Compare: the same clips through several engines, strategies, prompts or samplings, side by side.

    clipdex compare *.mp4 --with video:strategy=video --with frames:strategy=frames-concat --out report.html

A variant is a name and what it changes in the settings. Variants take turns, so that none slows another down; a variant
that cannot run, or a clip that cannot be captioned, says why and costs only itself.
"""

import asyncio
import base64
import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any, Self

from clipdex.captions.caption import Captioner, Reply, Segment
from clipdex.captions.engines import open_captioner
from clipdex.captions.quality import GATES, caption_with_gates, cleaned, verdicts, words_of
from clipdex.config import Settings
from clipdex.decoder import DecoderPool
from clipdex.errors import ClipdexError, ClipRejected, ConfigurationError
from clipdex.video import Prepared

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to caption. changes: what differs from the settings, by group, such as {"engine": {"model": "..."}}."""

    name: str
    changes: Mapping[str, Mapping[str, Any]]

    @classmethod
    def parsed(cls, text: str) -> Self:
        """NAME:key=value,key=value. Raises ConfigurationError.

        A key is a field of the engine (engine=sglang is short for its name), or of another group with a dot
        (sampling.fps=1). A list is written with commas, or, as a mapping is, in JSON.
        """
        name, _, rest = text.partition(":")
        changes: dict[str, dict[str, Any]] = {}
        for pair in filter(None, _NEXT_KEY.split(rest)):
            key, equals, value = pair.partition("=")
            group, _, name_in_group = key.strip().rpartition(".")
            if not equals or not name_in_group:
                raise ConfigurationError(f"--with {text}: {pair!r} is not key=value, such as strategy=frames-concat")
            if key == "engine":
                name_in_group = "name"
            changes.setdefault(group or "engine", {})[name_in_group] = _value(name_in_group, value)
        if not name.strip() or "=" in name:
            raise ConfigurationError(f"--with {text}: begin with a name of your choice, such as --with base:{text}")
        return cls(name.strip(), changes)


@dataclass(frozen=True, slots=True)
class Subject:
    """A clip that is compared. poster: a JPEG; error: why it could not be prepared, so that nobody was asked."""

    name: str
    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    poster: bytes = b""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """What one variant wrote about one clip.

    notes: what was said of single frames, where text is made of them. gates: what each gate finds wrong with this text,
    "" where it passes. seconds, tokens and attempts: of all that was asked, a second time for a gate included. error:
    why there is no text, where there is none.
    """

    clip: str
    text: str = ""
    segments: tuple[Segment, ...] = ()
    notes: tuple[Segment, ...] = ()
    gates: Mapping[str, str] = field(default_factory=dict)
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    attempts: int = 0
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.error and not self.failed

    @property
    def failed(self) -> dict[str, str]:
        """The gates that do not pass, and why."""
        return {gate: wrong for gate, wrong in self.gates.items() if wrong}

    @property
    def words(self) -> int:
        return len(words_of(self.text))

    @property
    def different_words(self) -> int:
        """How many of the words are said for the first time: a text about every frame says the same again and again."""
        return len(set(words_of(self.text)))


@dataclass(frozen=True, slots=True)
class Column:
    """What one variant did. seconds: wall time from the first question to the last answer, nothing prepared meanwhile.

    fingerprint: engine, model, strategy, prompt, sampling and generation. error: why it could not run.
    """

    variant: str
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    in_flight: int = 0
    seconds: float = 0.0
    captions: tuple[Written, ...] = ()
    error: str = ""

    @property
    def answered(self) -> list[Written]:
        return [one for one in self.captions if not one.error]

    @property
    def failures(self) -> Counter[str]:
        """How many captions fail each gate, and how many there are not."""
        missing = Counter({"no caption": len(self.captions) - len(self.answered)})
        return +missing + Counter(gate for one in self.captions for gate in one.failed)

    def summary(self) -> dict[str, Any]:
        """Figures over the clips that got a text: totals, and medians a caption."""
        said = self.answered

        def middle(value: Callable[[Written], float]) -> float:
            return median(map(value, said)) if said else 0.0

        return {
            "clips": len(self.captions),
            "captions": len(said),
            "passed": sum(one.passed for one in self.captions),
            "clips_per_second": len(said) / self.seconds if self.seconds else 0.0,
            "seconds": middle(lambda one: one.seconds),
            "prompt_tokens": middle(lambda one: one.prompt_tokens),
            "completion_tokens": middle(lambda one: one.completion_tokens),
            "attempts": middle(lambda one: one.attempts),
            "words": middle(lambda one: one.words),
            "different_words": middle(lambda one: one.different_words),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Clips down, variants across."""

    created_at: str
    clips: tuple[Subject, ...]
    columns: tuple[Column, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "created_at": self.created_at,
            "clips": [
                {"clip": one.name, "duration_s": one.duration_s, "width": one.width, "height": one.height,
                 "error": one.error}
                for one in self.clips
            ],
            "variants": [_column_json(column) for column in self.columns],
            "captions": [_caption_json(column, one) for column in self.columns for one in column.captions],
        }  # fmt: skip

    def to_html(self) -> str:
        """One page that needs nothing else: posters are inside, every text is escaped."""
        from jinja2 import Environment

        pages = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        pages.filters |= {"data_url": _data_url, "figure": _figure, "gate": _gate, "plain": _plain, "spoken": _spoken}
        pages.globals["share"] = _share
        template = (resources.files("clipdex") / "compare.html").read_text(encoding="utf-8")
        summaries = [(column, column.summary()) for column in self.columns]
        return pages.from_string(template).render(
            comparison=self,
            columns=self.columns,
            summaries=summaries,
            fastest=max((summary["clips_per_second"] for _, summary in summaries), default=0.0),
            richest=max((summary["different_words"] for _, summary in summaries), default=0.0),
            rows=[
                (clip, [(column, one) for column in self.columns for one in column.captions if one.clip == clip.name])
                for clip in self.clips
            ],
        )


def compare(
    paths: Sequence[Path], variants: Sequence[Variant], tell: Callable[[Column], None] = lambda _: None
) -> Comparison:
    """Every clip through every variant; tell is called with each as it is done. Raises ConfigurationError.

    The environment's settings are the common ground.
    """
    names = [variant.name for variant in variants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"two variants are called {twice[0]!r}: give each --with a name of its own")
    return asyncio.run(_compare(_named(paths), variants, tell))


async def _compare(
    paths: Mapping[str, Path], variants: Sequence[Variant], tell: Callable[[Column], None]
) -> Comparison:
    clips = {name: Subject(name) for name in paths}
    prepared: dict[str, _Clips] = {}
    columns = []
    for variant in variants:
        try:
            settings = Settings.load(**{group: dict(fields) for group, fields in variant.changes.items()})
            seen = json.dumps([settings.video.model_dump(), settings.sampling.model_dump()])
            if seen not in prepared:
                prepared[seen] = await _prepared(paths, settings)
            for name, clip in prepared[seen].items():
                if not clips[name].poster:
                    clips[name] = _subject(name, clip)
            column = await _column(variant.name, settings, prepared[seen])
        except ClipdexError as error:
            column = Column(variant.name, error=str(error))
        except Exception as error:  # whatever an engine's library raises: the other variants are worth having
            log.exception("%s", variant.name)
            column = Column(variant.name, error=f"{type(error).__name__}: {error}")
        columns.append(column)
        tell(column)
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
            return await _written(captioner, clip, prepared)

    try:
        await captioner.check()
        started = time.monotonic()
        asked = [write(clip, one) for clip, one in clips.items() if isinstance(one, Prepared)]
        captions = await asyncio.gather(*asked)
        seconds = time.monotonic() - started
    finally:
        await captioner.aclose()
    fingerprint = captioner.fingerprint
    told = {part: getattr(fingerprint, part) for part in ("engine", "model", "strategy", "prompt", "sampling")}
    return Column(
        variant=name,
        fingerprint={**told, "generation": fingerprint.generation},
        in_flight=captioner.in_flight,
        seconds=seconds,
        captions=tuple(captions),
    )


async def _written(captioner: Captioner, clip: str, prepared: Prepared) -> Written:
    """A text that fails its gates is what a comparison is for: it is shown, with all that is wrong with it."""
    heard = _Heard(captioner)
    error = ""
    try:
        await caption_with_gates(heard, prepared)
    except ClipRejected as refusal:
        error = "" if refusal.reason in GATES else str(refusal)
    except ClipdexError as raised:
        error = str(raised)
    written = Written(
        clip,
        prompt_tokens=sum(reply.prompt_tokens for reply in heard.replies),
        completion_tokens=sum(reply.completion_tokens for reply in heard.replies),
        seconds=sum(reply.seconds for reply in heard.replies),
        attempts=sum(reply.attempts for reply in heard.replies),
        error=error,
    )
    if error:
        return written
    last = cleaned(heard.replies[-1])
    found = verdicts(last, captioner.gates, captioner.fingerprint.prompt)
    return replace(
        written,
        text=last.text,
        segments=last.segments,
        notes=last.notes,
        gates={str(gate): wrong for gate, wrong in found.items()},
        finish_reason=last.finish_reason,
    )


class _Heard:
    """A captioner that keeps what it heard, so that a refused text is counted in full."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        self.fingerprint, self.gates, self.in_flight = captioner.fingerprint, captioner.gates, captioner.in_flight
        self.replies: list[Reply] = []

    async def check(self) -> None:
        await self._captioner.check()

    async def caption(self, clip: Prepared, attempt: int = 1) -> Reply:
        reply = await self._captioner.caption(clip, attempt)
        self.replies.append(reply)
        return reply

    async def aclose(self) -> None:
        await self._captioner.aclose()


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Clips by file name, or by path below the folder they share where two files have one name."""
    files = {str(path.absolute()): path for path in paths}
    if len({path.name for path in paths}) == len(files):
        return {path.name: path for path in files.values()}
    root = os.path.commonpath([Path(file).parent for file in files])
    return {os.path.relpath(file, root): path for file, path in files.items()}


# A comma ends a value only where a key follows, so that a list of addresses stays one value.
_NEXT_KEY = re.compile(r",(?=\s*[a-z_.]+=)")
_LISTS = ("base_urls",)
_TIMES = re.compile(r"^\d+\.\d-\d+\.\d s: ")


def _value(key: str, text: str) -> Any:
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"--with: {key}={text}: no JSON ({error})") from None
    return text.split(",") if key in _LISTS else text


def _column_json(column: Column) -> dict[str, Any]:
    ran = {**column.fingerprint, "in_flight": column.in_flight, "wall_seconds": column.seconds}
    return {"name": column.variant, "error": column.error, **({} if column.error else {**ran, **column.summary()})}


def _caption_json(column: Column, one: Written) -> dict[str, Any]:
    record = {"variant": column.variant, **asdict(one), "passed": one.passed}
    return {**record, "words": one.words, "different_words": one.different_words}


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _figure(value: float) -> str:
    """Three digits where they mean something: 0.412, 3.81, 27.5, 1,752."""
    if value == 0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _gate(reason: str) -> str:
    return reason.removeprefix("caption_").replace("_", " ")


def _spoken(text: str) -> str:
    """A segment without the times that it begins with: they stand beside it."""
    return _TIMES.sub("", text)


def _plain(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _share(value: float, most: float) -> str:
    return f"{100 * value / most if most else 0:.0f}%"
