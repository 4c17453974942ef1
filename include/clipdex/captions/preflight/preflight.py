"""Preflight of one node: known videos and questions, from the cheapest to the most costly.

A wrong token count ends it: what a model says of other frames than those that were sent tells nothing more.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from clipdex.captions.model import Generation, ModelRequest, Video
from clipdex.captions.preflight import clock, drawing, questions, sampling
from clipdex.captions.preflight.asking import Ask, Reply, ask_all
from clipdex.captions.preflight.counting import Sent, compare
from clipdex.captions.preflight.findings import Check, Finding, Level, NodeReport
from clipdex.captions.preflight.questions import Question
from clipdex.config import Clock, EngineName, Settings, Strategy
from clipdex.errors import ClipRejected
from clipdex.families import Family
from clipdex.video.encoding import fitted
from clipdex.video.sampling import most_frames

FILM = (1920, 1080)
"""The size of the clip that the counted video stands for [pixels]."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A node to inspect. family: of its model, None if unknown; seeds: whether its requests include a seed"""

    node: str
    family: Family | None
    settings: Settings
    seeds: bool

    @property
    def engine(self) -> EngineName:
        return self.settings.engine.name

    @property
    def is_video(self) -> bool:
        return self.settings.engine.strategy is Strategy.VIDEO


async def inspect(subject: Subject, ask: Ask) -> NodeReport:
    """Return what the checks of a node found. Raises EngineUnavailable if it does not answer."""
    began, requests = time.monotonic(), 0

    async def counted(request: ModelRequest) -> Reply:
        nonlocal requests
        requests += 1
        return await ask(request)

    findings: list[Finding] = []
    try:
        async for finding in _findings(subject, counted):
            findings.append(finding)
    except ClipRejected as refusal:
        findings.append(Finding(Check.NODE, Level.ERROR, f"the node refuses a known request: {refusal.detail}"))
    return NodeReport(
        node=subject.node,
        model=subject.settings.engine.model,
        family=subject.family.name if subject.family else "",
        findings=tuple(findings),
        at=time.time(),
        seconds=round(time.monotonic() - began, 2),
        requests=requests,
    )


async def _findings(subject: Subject, ask: Ask) -> AsyncIterator[Finding]:
    texts = [ModelRequest(sampling.PROMPT, generation) for generation in (sampling.GREEDY,) * 2 + sampling.DRAWN]
    *replies, sane = await ask_all(ask, [*texts, ModelRequest(questions.SANE, _SHORT)])
    greedy, drawn = replies[:2], replies[2:]
    trained = questions.is_sane(sane.text)
    yield sampling.limits(replies)
    if not subject.is_video:
        yield sampling.temperature(greedy, drawn, False)
        yield sampling.seeds(drawn, subject.seeds)
        yield _reasoning(replies)
        for check in (Check.TOKENS, Check.LOOKS, Check.CLOCK):
            yield Finding(check, Level.SKIPPED, "the strategy sends pictures, not videos")
        return
    try:
        tokens = await _tokens(subject, ask, greedy[0].prompt_tokens)
    except ClipRejected as refusal:
        tokens = Finding(Check.TOKENS, Level.ERROR, f"the node refuses a known video: {refusal.detail}")
    yield tokens
    if tokens.level is Level.ERROR:
        yield _reasoning(replies)
        return
    rates = clock.rates(subject.settings.sampling)
    highest, frames = next(iter(rates.items()))
    asked = await asyncio.to_thread(questions.colours, highest, frames)
    answers = await _answers(asked, ask)
    replies += answers
    looks, random_weights = _looks(asked, answers, trained)
    yield sampling.temperature(greedy, drawn, random_weights)
    yield sampling.seeds(drawn, subject.seeds)
    yield looks
    if looks.level in (Level.OK, Level.WARNING) and not random_weights:
        about = await asyncio.to_thread(lambda: tuple(questions.times(rates)))
        answers = await _answers(about, ask)
        replies += answers
        yield _clock(subject, list(zip(about, [reply.text for reply in answers], strict=True)))
    else:
        why = "random weights: the answers are not among the possible ones" if random_weights else "see above"
        yield Finding(Check.CLOCK, Level.SKIPPED, why)
    yield _reasoning(replies)


async def _tokens(subject: Subject, ask: Ask, text_tokens: int) -> Finding:
    family = subject.family
    if family is None:
        return Finding(
            Check.TOKENS, Level.WARNING,
            "the family of the model is unknown, so its tokens are unchecked: set CLIPDEX_SAMPLING__FAMILY",
        )  # fmt: skip
    if not family.video:
        return Finding(Check.TOKENS, Level.ERROR, f"{family.name} takes no videos: set CLIPDEX_ENGINE__PRESET")

    async def measure(sent: Sent) -> int:
        video = Video(await asyncio.to_thread(drawing.counted, sent.frames, sent.size, sent.fps), sent.fps)
        reply = await ask(ModelRequest(sampling.PROMPT, sampling.GREEDY, video))
        return reply.prompt_tokens - text_tokens if reply.prompt_tokens and text_tokens else 0

    settings = subject.settings.sampling
    frames = max(2, most_frames(FILM, settings) // 2 * 2)
    size = fitted(*FILM, settings.short_side, settings.multiple_of)
    return await compare(family, subject.engine, Sent(frames, size, settings.fps), measure)


async def _answers(asked: Sequence[Question], ask: Ask) -> list[Reply]:
    requests = [ModelRequest(one.text, _SHORT, Video(one.video, one.fps)) for one in asked]
    return await ask_all(ask, requests)


def _looks(asked: Sequence[Question], answers: Sequence[Reply], trained: bool) -> tuple[Finding, bool]:
    """Return whether the model looks at a video, and whether its weights are random.

    trained: it answered a question without a video
    """
    texts = [reply.text for reply in answers]
    read = [question.read(text) for question, text in zip(asked, texts, strict=True)]
    equal = len({reply.text + reply.reasoning for reply in answers}) == 1
    if not any(read) and any(reply.reasoning for reply in answers):
        return Finding(Check.LOOKS, Level.SKIPPED, "the answers are reasoning that max_tokens cut off"), False
    if not any(read) and not trained:
        what = "equal answers" if equal else "other answers for another video"
        return Finding(Check.LOOKS, Level.NOTE, f"{what}; none is a possible one: random weights"), True
    if equal:
        return Finding(
            Check.LOOKS, Level.ERROR,
            f"the same answer ({texts[0].strip()[:40]!r}) for a {asked[0].right} and a {asked[1].right} video: the "
            "model does not look at the video; check that the server was not started for text alone, and that no "
            "cache or proxy drops the video",
        ), False  # fmt: skip
    if read == [question.right for question in asked]:
        return Finding(Check.LOOKS, Level.OK, "two videos, two right answers"), False
    shown = ", ".join(repr(text.strip()[:40]) for text in texts)
    return Finding(
        Check.LOOKS, Level.WARNING, f"{asked[0].right} and {asked[1].right} videos were described as {shown}"
    ), False


def _clock(subject: Subject, answers: Sequence[clock.Answered]) -> Finding:
    finding = clock.judge(answers, subject.family, subject.engine)
    if subject.settings.engine.clock is Clock.ENGINE and finding.level is Level.WARNING:
        return Finding(Check.CLOCK, Level.NOTE, f"{finding.text}; accepted by CLIPDEX_ENGINE__CLOCK=engine")
    return finding


def _reasoning(replies: Sequence[Reply]) -> Finding:
    thoughts = [reply for reply in replies if reply.reasoning]
    if not thoughts:
        return Finding(Check.REASONING, Level.OK, "answers carry no reasoning")
    return Finding(
        Check.REASONING, Level.WARNING,
        f"{len(thoughts)} of {len(replies)} answers carry reasoning, which is paid for and cuts captions off: set "
        'CLIPDEX_ENGINE__OPTIONS={"chat_template_kwargs": {"enable_thinking": false}}, or the preset of the family',
    )  # fmt: skip


_SHORT = Generation(24, temperature=0.0)
