"""Strategies: convert a clip to model requests, and the answers to one caption.

video           one request per window; most clips have one window
frames-concat   one request per sampled frame; the texts are concatenated, each with its times
frames-merge    as frames-concat, then one text-only request that merges the texts into one description
"""

import asyncio
import math
import re
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import asdict, replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from clipdex.captions import cleaning, identification
from clipdex.captions.budgets import words_for
from clipdex.captions.captioner import CaptionDraft, Fingerprint, Gates
from clipdex.captions.languages import language
from clipdex.captions.model import Completion, Generation, Image, Model, ModelRequest, Video
from clipdex.captions.paragraphs import read_times
from clipdex.captions.quality import refusal
from clipdex.config import Clock, Engine, EngineName, Settings, Strategy
from clipdex.errors import ConfigurationError
from clipdex.storage.caption import Segment
from clipdex.video import Prepared, stills


class ModelCaptioner:
    """A Captioner (caption.py) that sends requests to a model in the configured strategy.

    in_flight: clips that keep the model busy; the model limits the open requests.
    """

    def __init__(self, settings: Settings, model: Model) -> None:
        engine = settings.engine
        self._engine, self._model = engine, model
        self._write = {
            Strategy.VIDEO: self._video,
            Strategy.FRAMES_CONCAT: self._concat,
            Strategy.FRAMES_MERGE: self._merge,
        }[engine.strategy]
        is_video = engine.strategy is Strategy.VIDEO
        # Token limit per answer: for a window or clip, or for one frame.
        self._answer_tokens = engine.max_tokens if is_video else engine.frame_tokens
        tokenizer = tokenizer_of(engine)
        prompts = {
            times: prompt_text(engine.prompt, engine.language, self._answer_tokens, times and is_video, tokenizer)
            for times in (True, False)
        }
        self._prompt = prompts[engine.times]
        self._wants_times = engine.times and prompts[True] != prompts[False]
        merges = engine.strategy is Strategy.FRAMES_MERGE
        self._system = (
            prompt_text(engine.merge_prompt, engine.language, engine.max_tokens, tokenizer=tokenizer) if merges else ""
        )
        # Twice the model's concurrency keeps it busy between clips. More would leave more unfinished clips when a
        # worker is killed.
        frames = 1 if is_video else settings.sampling.max_frames
        self.in_flight = min(model.in_flight, max(2, math.ceil(2 * model.in_flight / frames)))
        self.gates = Gates(
            # In some languages so few words fit that the prompt asks for fewer than 40.
            min_words=min(_MIN_WORDS, max(1, words_for(engine.max_tokens, engine.language.lower(), tokenizer)[0] // 2)),
            language=engine.language,
            min_tokens=engine.min_tokens,
            max_tokens=engine.max_tokens if merges else self._answer_tokens,
        )
        self.fingerprint = Fingerprint(
            engine=str(engine.name),
            model=engine.model,
            strategy=str(engine.strategy),
            prompt="\n\n".join(filter(None, (self._prompt, self._system))),
            cleaning=cleaning.VERSION,
            equal_prompts=(prompts[not engine.times],) if prompts[True] != prompts[False] else (),
            former_prompts=_former_prompts(engine, self._answer_tokens, is_video, merges),
            sampling={
                **settings.sampling.fingerprint(),
                **model.traits,
                **({"clock": str(engine.clock)} if is_video and engine.clock is Clock.FRAMES else {}),
            },
            generation={
                name: {
                    "answer": asdict(self._generation(attempt, self._answer_tokens)),
                    **({"merge": asdict(self._generation(attempt, engine.max_tokens))} if merges else {}),
                }
                for name, attempt in (("first", 1), ("second", 2))
            },
        )

    async def check(self) -> None:
        if self.gates.language:
            await asyncio.to_thread(identification.load)
        await self._model.check()

    async def caption(self, clip: Prepared, attempt: int = 1) -> CaptionDraft:
        """Send the strategy's requests concurrently. The first failure cancels the others."""
        return await self._write(clip, attempt)

    async def aclose(self) -> None:
        await self._model.aclose()

    async def _video(self, clip: Prepared, attempt: int) -> CaptionDraft:
        generation = self._generation(attempt, self._answer_tokens)
        requests = [
            ModelRequest(self._prompt, generation, Video(window.proxy, clip.proxy_fps), remark=remark)
            for window, remark in zip(
                clip.windows, _remarks(clip, self._wants_times, self._engine.language), strict=True
            )
        ]
        replies = await _gather(self._complete(request) for request in requests)
        if self._engine.times:
            return self._timed(clip, replies)
        if len(replies) == 1:
            return _draft(replies[0])
        return _join([((window.start_s, window.end_s), one) for window, one in zip(clip.windows, replies, strict=True)])

    def _timed(self, clip: Prepared, replies: Sequence[Completion]) -> CaptionDraft:
        """Return the answers as one text without times. Those of a window may count from its start or the clip's."""
        several = len(replies) > 1
        read = [
            read_times(reply.text, window.start_s, window.end_s, (window.start_s, 0.0) if several else None)
            for window, reply in zip(clip.windows, replies, strict=True)
        ]
        parts = [
            one.segments or (Segment(window.start_s, window.end_s, one.text),)
            for window, one in zip(clip.windows, read, strict=True)
        ]
        asked = self._wants_times or any(one.usable for one in read)
        return replace(
            _joined([replace(reply, text=one.text) for reply, one in zip(replies, read, strict=True)]),
            segments=tuple(segment for part in parts for segment in part) if several else read[0].segments,
            paragraphs=sum(one.paragraphs for one in read) if asked else 0,
            timed=sum(one.usable for one in read),
        )

    async def _concat(self, clip: Prepared, attempt: int) -> CaptionDraft:
        replies = await self._frames(clip, attempt)
        parts = _merge_equal(clip, replies)
        return _with_costs(_join(parts, with_marks=not self._engine.times), replies)

    async def _merge(self, clip: Prepared, attempt: int) -> CaptionDraft:
        """Return the merged text as the caption and the frame descriptions as notes."""
        replies = await self._frames(clip, attempt)
        notes = _join(_merge_equal(clip, replies))
        generation = self._generation(attempt, self._engine.max_tokens)
        merged = await self._complete(ModelRequest(notes.text, generation, system=self._system))
        # The notes have the times of a player.
        read = read_times(merged.text, clip.info.start_s, clip.info.end_s, (0.0,), keep_marks=not self._engine.times)
        return replace(
            _with_costs(_draft(replace(merged, text=read.text)), [*replies, merged]),
            segments=read.segments,
            notes=notes.segments,
            paragraphs=read.paragraphs,
            timed=read.usable,
            seconds=max(reply.seconds for reply in replies) + merged.seconds,
        )

    async def _frames(self, clip: Prepared, attempt: int) -> list[Completion]:
        """Return one reply per frame, in order, trimmed to complete sentences."""
        pictures = await asyncio.to_thread(lambda: [jpeg for window in clip.windows for jpeg in stills(window.proxy)])
        generation = self._generation(attempt, self._answer_tokens)
        requests = [ModelRequest(self._prompt, generation, Image(jpeg)) for jpeg in pictures]
        return list(map(trim_to_sentence, await _gather(self._complete(request) for request in requests)))

    async def _complete(self, request: ModelRequest) -> Completion:
        """Return the model's answer without what is not the caption; unchanged if it has no caption."""
        reply = await self._model.complete(request)
        return replace(reply, text=cleaning.clean(reply.text).text)

    def _generation(self, attempt: int, max_tokens: int) -> Generation:
        """Return the token sampling. Attempt 2 follows a failed gate, mostly a loop: hotter, with penalties."""
        if attempt == 1:
            return Generation(max_tokens, self._engine.temperature)
        return Generation(
            max_tokens,
            temperature=max(0.7, self._engine.temperature),
            seed=attempt,
            frequency_penalty=0.3,
            repetition_penalty=1.05,
        )


def tokenizer_of(engine: Engine) -> Path | None:
    """Return the tokenizer of the model if it is at hand: the configured one, or that of the engine transformers."""
    if engine.tokenizer:
        return Path(engine.tokenizer)
    if engine.name is not EngineName.TRANSFORMERS:
        return None
    from clipdex.captions.local.model import model_folder

    folder = model_folder(engine.model)
    return folder if (folder / "tokenizer.json").is_file() else None


def _former_prompts(engine: Engine, tokens: int, is_video: bool, merges: bool) -> tuple[str, ...]:
    """Return the prompts of these settings in releases whose budget was that of English, in any language."""
    system = prompt_text(engine.merge_prompt, engine.language, engine.max_tokens, former=True) if merges else ""
    written = (
        prompt_text(engine.prompt, engine.language, tokens, times and is_video, former=True)
        for times in (engine.times, not engine.times)
    )
    return tuple("\n\n".join(filter(None, (prompt, system))) for prompt in written)


def prompt_text(
    name: str, code: str, tokens: int, times: bool = False, tokenizer: Path | None = None, *, former: bool = False
) -> str:
    """Return a prompt with the language and a length range that fits into tokens filled in.

    name: of a file in captions/prompts, or in its folder of the language; or the path of a .txt file. The file may use
        {language}, {fewest} and {most} words, and {times}, and writes braces of its own twice
    times: {times} asks for the times of each paragraph (times.txt); else it is empty
    tokenizer: of the model, see budgets.py
    former: as releases without budgets and prompts by language wrote it
    """
    wanted = language(code)
    fewest, most = words_for(tokens, "en") if former else words_for(tokens, code.lower(), tokenizer)
    folder = "" if former else code.lower()
    try:
        text = _prompt_file(name, folder).format(
            language=wanted.name, fewest=fewest, most=most, times=_prompt_file(_TIMES, folder).strip() if times else ""
        )
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise ConfigurationError(
            f"prompt {name!r}: {error!r}; expected no fields but {{language}}, {{fewest}}, {{most}}, {{times}}: "
            "write other braces twice"
        ) from None
    return text.strip()


def _prompt_file(name: str, folder: str) -> str:
    if name.endswith(".txt"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"prompt {name!r} cannot be read: {error}") from None
    prompts = resources.files("clipdex.captions") / "prompts"
    known = {entry.name.removesuffix(".txt"): entry for entry in prompts.iterdir() if entry.name.endswith(".txt")}
    if name not in known:
        raise ConfigurationError(
            f"prompt {name!r} is unknown: set CLIPDEX_ENGINE__PROMPT and CLIPDEX_ENGINE__MERGE_PROMPT to the path of a "
            f".txt file, or to one of {', '.join(sorted(known.keys() - {_TIMES, _PART, _PART_TIMES}))}"
        )
    translated = prompts / folder / f"{name}.txt" if folder else known[name]
    return (translated if translated.is_file() else known[name]).read_text(encoding="utf-8")


_MIN_WORDS = 40
_TIMES = "times"  # what {times} stands for in other prompts
_PART, _PART_TIMES = "part", "part-times"  # the remark to a window

# In Thai and Lao, spaces alone end sentences. In Greek, ";" is a question mark.
_SENTENCE_END = re.compile(
    r"(?<![0-9])[.!?…]+[\"'”’»)\]]*(?=\s|$)|(?<=[0-9])[.!?…]+[\"'”’»)\]]*(?=\s+\D|$)"
    r"|[।॥۔؟։።፧។၊။༎܀。！？｡]+[\"'”’»」』）)\]]*|(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e](?=\s|$)"
    r"|(?<=[\u0e00-\u0eff])(?=\s+[\u0e00-\u0eff])"
)

_Span = tuple[float, float]


def _remarks(clip: Prepared, wants_times: bool, code: str) -> list[str]:
    """Return one remark per window with its position in the clip; "" if the clip has one window."""
    count = len(clip.windows)
    if count == 1:
        return [""]
    part, times = (_prompt_file(name, code.lower()).strip() for name in (_PART, _PART_TIMES))
    return [
        part.format(
            number=number, count=count, length=f"{clip.info.end_s:.0f}", start=f"{window.start_s:.0f}",
            end=f"{window.end_s:.0f}",
        )
        + (f" {times}" if wants_times else "")
        for number, window in enumerate(clip.windows, start=1)
    ]  # fmt: skip


async def _gather(requests: Iterable[Coroutine[Any, Any, Completion]]) -> list[Completion]:
    """Run the requests concurrently and return the replies in order. Raises the first failure."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(request) for request in requests]
    except BaseExceptionGroup as raised:
        raise raised.exceptions[0] from None
    return [task.result() for task in tasks]


def _merge_equal(clip: Prepared, replies: Sequence[Completion]) -> list[tuple[_Span, Completion]]:
    """Drop empty or refused frames and merge consecutive frames with equal text; each frame lasts until the next.

    If most frames are empty or refused, keep all of them so that a gate rejects the caption.
    """
    spans = list(pairwise([*clip.times, clip.info.end_s]))
    described = [n for n, reply in enumerate(replies) if _describes(reply.text)]
    merged: list[tuple[_Span, Completion]] = []
    for n in described if 2 * len(described) >= len(replies) else range(len(replies)):
        if merged and merged[-1][1].text == replies[n].text and merged[-1][0][1] == spans[n][0]:
            merged[-1] = (merged[-1][0][0], spans[n][1]), replies[n]
        else:
            merged.append((spans[n], replies[n]))
    return merged


def _describes(text: str) -> bool:
    return bool(text.strip()) and not refusal(text) and cleaning.clean(text).reason is None


def _draft(completion: Completion) -> CaptionDraft:
    return CaptionDraft(
        text=completion.text,
        text_tokens=completion.completion_tokens,
        finish_reason=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        seconds=completion.seconds,
        gpu_s=completion.gpu_s,
        attempts=completion.attempts,
        node=completion.node,
    )


def _join(parts: Sequence[tuple[_Span, Completion]], with_marks: bool = True) -> CaptionDraft:
    """Join the replies to one text of one segment each. with_marks: each begins with its times."""
    marks = [f"{start_s:.1f}-{end_s:.1f} s: " if with_marks else "" for (start_s, end_s), _ in parts]
    segments = tuple(
        Segment(start_s, end_s, mark + reply.text.strip())
        for mark, ((start_s, end_s), reply) in zip(marks, parts, strict=True)
    )
    joined = _joined([reply for _, reply in parts])
    return replace(joined, text=_SEPARATOR.join(segment.text for segment in segments), segments=segments)


_SEPARATOR = "\n\n"


def _joined(replies: Sequence[Completion]) -> CaptionDraft:
    """Join concurrent replies to one text, with their summed costs."""
    if len(replies) == 1:
        return _draft(replies[0])
    joined = CaptionDraft(
        text=_SEPARATOR.join(reply.text.strip() for reply in replies),
        answers=tuple(reply.text for reply in replies),
        text_tokens=sum(reply.completion_tokens for reply in replies),
        finish_reason=next((one.finish_reason for one in replies if one.finish_reason != "stop"), "stop"),
    )
    return _with_costs(joined, replies)


def _with_costs(draft: CaptionDraft, replies: Sequence[Completion]) -> CaptionDraft:
    """Return the draft with the summed costs of concurrent requests; seconds is the maximum, of the named node."""
    slowest = max(replies, key=lambda one: one.seconds)
    return replace(
        draft,
        prompt_tokens=sum(one.prompt_tokens for one in replies),
        completion_tokens=sum(one.completion_tokens for one in replies),
        seconds=slowest.seconds,
        node=slowest.node,
        gpu_s=sum(one.gpu_s for one in replies),
        attempts=sum(one.attempts for one in replies),
    )


def trim_to_sentence(reply: Completion) -> Completion:
    """Trim a truncated answer to its last complete sentence; the other frames supply the rest."""
    ends = [found.end() for found in _SENTENCE_END.finditer(reply.text)]
    if reply.finish_reason != "length" or not ends:
        return reply
    return replace(reply, text=reply.text[: ends[-1]], finish_reason="stop")
