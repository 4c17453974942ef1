"""Strategies: how a clip becomes requests to a model, and their answers one caption.

video           each window as one video; mostly the clip is one window
frames-concat   each sampled frame by itself; the texts one after the other, each with its times
frames-merge    the same, and then a request without a picture, which makes one description of these texts
"""

import asyncio
import math
import re
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import asdict, replace
from importlib import resources
from itertools import pairwise
from typing import Any

from clipdex.captions.caption import Fingerprint, Gates, Reply, Segment
from clipdex.captions.languages import language
from clipdex.captions.model import Generation, Image, Model, ModelRequest, Video
from clipdex.captions.quality import refusal
from clipdex.config import Clock, Settings, Strategy
from clipdex.errors import ConfigurationError
from clipdex.video import Prepared, stills


class ModelCaptioner:
    """A Captioner (caption.py) that asks a model, in the strategy that the settings name.

    in_flight: so many clips that the model is busy; how many requests are open at once is the model's to bound.
    """

    def __init__(self, settings: Settings, model: Model) -> None:
        engine = settings.engine
        self._engine, self._model = engine, model
        self._write = {
            Strategy.VIDEO: self._video,
            Strategy.FRAMES_CONCAT: self._concat,
            Strategy.FRAMES_MERGE: self._merge,
        }[engine.strategy]
        whole = engine.strategy is Strategy.VIDEO
        # Of one answer about a picture; of one that describes the clip, or a window of it.
        self._answer_tokens = engine.max_tokens if whole else engine.frame_tokens
        self._prompt = prompt_text(engine.prompt, engine.language, self._answer_tokens)
        merges = engine.strategy is Strategy.FRAMES_MERGE
        self._system = prompt_text(engine.merge_prompt, engine.language, engine.max_tokens) if merges else ""
        # Questions for twice what the model takes, so that it is busy while clips begin and end; no more, so that few
        # clips are half done when a worker is killed.
        frames = 1 if whole else settings.sampling.max_frames
        self.in_flight = min(model.in_flight, max(2, math.ceil(2 * model.in_flight / frames)))
        self.gates = Gates(
            min_words=_MIN_WORDS,
            language=engine.language,
            min_tokens=engine.min_tokens,
            max_tokens=engine.max_tokens if merges else self._answer_tokens,
        )
        self.fingerprint = Fingerprint(
            engine=str(engine.name),
            model=engine.model,
            strategy=str(engine.strategy),
            prompt="\n\n".join(filter(None, (self._prompt, self._system))),
            sampling={
                **settings.sampling.model_dump(),
                **model.traits,
                **({"clock": str(engine.clock)} if whole and engine.clock is Clock.FRAMES else {}),
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
        await self._model.check()

    async def caption(self, clip: Prepared, attempt: int = 1) -> Reply:
        """As many requests as the strategy takes, side by side; the first failure gives up the others."""
        return await self._write(clip, attempt)

    async def aclose(self) -> None:
        await self._model.aclose()

    async def _video(self, clip: Prepared, attempt: int) -> Reply:
        generation = self._generation(attempt, self._answer_tokens)
        requests = [
            ModelRequest(self._prompt, generation, Video(window.proxy, clip.proxy_fps), remark=remark)
            for window, remark in zip(clip.windows, _remarks(clip), strict=True)
        ]
        replies = await _together(self._model.ask(request) for request in requests)
        if len(replies) == 1:
            return replies[0]
        return _joined(
            [((window.start_s, window.end_s), one) for window, one in zip(clip.windows, replies, strict=True)]
        )

    async def _concat(self, clip: Prepared, attempt: int) -> Reply:
        replies = await self._frames(clip, attempt)
        return _costing(_joined(_distinct(clip, replies)), replies)

    async def _merge(self, clip: Prepared, attempt: int) -> Reply:
        """The merged text alone is the caption: what was said of the frames is kept beside it, as notes."""
        replies = await self._frames(clip, attempt)
        notes = _joined(_distinct(clip, replies))
        generation = self._generation(attempt, self._engine.max_tokens)
        merged = await self._model.ask(ModelRequest(notes.text, generation, system=self._system))
        return replace(
            _costing(merged, [*replies, merged]),
            segments=timed(merged.text, clip.info.duration_s),
            notes=notes.segments,
            seconds=max(reply.seconds for reply in replies) + merged.seconds,
        )

    async def _frames(self, clip: Prepared, attempt: int) -> list[Reply]:
        """What the model says of each frame, in order, cut back to whole sentences."""
        pictures = await asyncio.to_thread(lambda: [jpeg for window in clip.windows for jpeg in stills(window.proxy)])
        generation = self._generation(attempt, self._answer_tokens)
        requests = [ModelRequest(self._prompt, generation, Image(jpeg)) for jpeg in pictures]
        return list(map(_whole, await _together(self._model.ask(request) for request in requests)))

    def _generation(self, attempt: int, max_tokens: int) -> Generation:
        """The second attempt comes after a gate failed, mostly for a loop: warmer, and repeating costs."""
        if attempt == 1:
            return Generation(max_tokens, self._engine.temperature)
        return Generation(
            max_tokens,
            temperature=max(0.7, self._engine.temperature),
            seed=attempt,
            frequency_penalty=0.3,
            repetition_penalty=1.05,
        )


def prompt_text(name: str, code: str, tokens: int) -> str:
    """The prompt of this name, with the language and a length that fits into so many tokens filled in."""
    folder = resources.files("clipdex.captions") / "prompts"
    prompts = {entry.name.removesuffix(".txt"): entry for entry in folder.iterdir() if entry.name.endswith(".txt")}
    if name not in prompts:
        raise ConfigurationError(
            f"there is no prompt {name!r}: set CLIPDEX_ENGINE__PROMPT and CLIPDEX_ENGINE__MERGE_PROMPT to one of "
            f"{', '.join(sorted(prompts))}"
        )
    most = min(_MOST_WORDS, int(tokens * _WORDS_A_TOKEN))
    fewest = min(_FEWEST_WORDS, most // 2)
    text = prompts[name].read_text(encoding="utf-8")
    return text.format(language=language(code).name, fewest=fewest, most=most).strip()


def timed(text: str, duration_s: float) -> tuple[Segment, ...]:
    """The parts of a text that begin with the times they speak of ("2.0-4.0 s: ..."); none if these make no sense."""
    marks = list(_MARK.finditer(text))
    starts = [float(mark["start"]) for mark in marks]
    ends = [float(mark["end"]) for mark in marks]
    ordered = all(before <= after for before, after in pairwise(starts))
    if not ordered or not all(start <= end <= duration_s + 1 for start, end in zip(starts, ends, strict=True)):
        return ()
    bounds = [*(mark.start() for mark in marks), len(text)]
    segments = [
        Segment(min(start, duration_s), min(end, duration_s), text[begin:until].strip())
        for start, end, (begin, until) in zip(starts, ends, pairwise(bounds), strict=True)
    ]
    if marks and (opening := text[: bounds[0]].strip()):
        segments.insert(0, Segment(0.0, duration_s, opening))
    return tuple(segments)


# 300 to 2,000 tokens of English, and clearly below max_tokens, so that a text ends before it is cut.
_FEWEST_WORDS, _MOST_WORDS, _WORDS_A_TOKEN = 230, 1400, 0.55
_MIN_WORDS = 40

_SECONDS = r"\d+(?:\.\d+)?"
_MARK = re.compile(rf"^[ \t\[(*]*(?P<start>{_SECONDS})\s?s?\s?[-–—]\s?(?P<end>{_SECONDS})\s?s\b", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?…。！？]+[\"'”’»」』)]*(?=\s|$)|[。！？]")

_Span = tuple[float, float]


def _remarks(clip: Prepared) -> list[str]:
    """What a window is of, where it is not all of the clip."""
    count = len(clip.windows)
    if count == 1:
        return [""]
    return [
        f"This is part {number} of {count} of a clip of {clip.info.duration_s:.0f} s: seconds {window.start_s:.0f} to "
        f"{window.end_s:.0f}. Describe this part alone."
        for number, window in enumerate(clip.windows, start=1)
    ]


async def _together(requests: Iterable[Coroutine[Any, Any, Reply]]) -> list[Reply]:
    """The answers, in the order of the requests."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(request) for request in requests]
    except BaseExceptionGroup as raised:
        raise raised.exceptions[0] from None
    return [task.result() for task in tasks]


def _distinct(clip: Prepared, replies: Sequence[Reply]) -> list[tuple[_Span, Reply]]:
    """The frames that something was said of, each until the next; neighbours of which the same was said are one.

    A frame that a model refuses to speak of, or has no word for (black, a fade), costs no caption; where most are so,
    the gates shall see it.
    """
    spans = list(pairwise([*clip.times, clip.info.duration_s]))
    spoken = [n for n, reply in enumerate(replies) if reply.text.strip() and not refusal(reply.text)]
    told: list[tuple[_Span, Reply]] = []
    for n in spoken if 2 * len(spoken) >= len(replies) else range(len(replies)):
        if told and told[-1][1].text == replies[n].text and told[-1][0][1] == spans[n][0]:
            told[-1] = (told[-1][0][0], spans[n][1]), replies[n]
        else:
            told.append((spans[n], replies[n]))
    return told


def _joined(told: Sequence[tuple[_Span, Reply]]) -> Reply:
    """One text, in which each answer begins with its times."""
    segments = tuple(
        Segment(start_s, end_s, f"{start_s:.1f}-{end_s:.1f} s: {reply.text.strip()}")
        for (start_s, end_s), reply in told
    )
    replies = [reply for _, reply in told]
    joined = Reply(
        text="\n\n".join(segment.text for segment in segments),
        segments=segments,
        answers=tuple(reply.text for reply in replies),
        text_tokens=sum(reply.text_tokens for reply in replies),
        finish_reason=next((one.finish_reason for one in replies if one.finish_reason != "stop"), "stop"),
    )
    return _costing(joined, replies)


def _costing(reply: Reply, asked: Sequence[Reply]) -> Reply:
    """The reply with what all of these cost, who were asked side by side."""
    return replace(
        reply,
        prompt_tokens=sum(one.prompt_tokens for one in asked),
        completion_tokens=sum(one.completion_tokens for one in asked),
        seconds=max(one.seconds for one in asked),
        gpu_s=sum(one.gpu_s for one in asked),
        attempts=sum(one.attempts for one in asked),
    )


def _whole(reply: Reply) -> Reply:
    """An answer that was cut off, back to its last whole sentence: the other frames say more."""
    ends = [found.end() for found in _SENTENCE_END.finditer(reply.text)]
    if reply.finish_reason != "length" or not ends:
        return reply
    return replace(reply, text=reply.text[: ends[-1]], finish_reason="stop")
