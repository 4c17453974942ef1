"""Asking: one question to one node."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from clipdex.captions.model import ModelRequest


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer of a node. Tokens as it counts them, 0 if it counts none.

    text: without its reasoning; reasoning: in a field of its own or in the text, "" if there is none
    """

    text: str
    reasoning: str = ""
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def of(cls, content: str, reasoning: str, finish_reason: str, prompt: int, completion: int) -> "Reply":
        """Return a reply whose reasoning is separated from its text."""
        text, thought = split_reasoning(content)
        return cls(text, reasoning or thought, finish_reason, prompt, completion)


async def ask_all(ask: "Ask", requests: Sequence[ModelRequest]) -> list[Reply]:
    """Return the replies in order. The first failure cancels the other requests, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_one(ask, request)) for request in requests]
    except BaseExceptionGroup as raised:
        raise raised.exceptions[0] from None
    return [task.result() for task in tasks]


async def _one(ask: "Ask", request: ModelRequest) -> Reply:
    return await ask(request)


Ask = Callable[[ModelRequest], Awaitable[Reply]]
"""Sends a request to one node. Raises EngineUnavailable, ClipRejected if the node refuses it, ConfigurationError."""


def split_reasoning(content: str) -> tuple[str, str]:
    """Return the text and the reasoning of an answer. A block may lack its beginning or its end."""
    closed = _END.split(content, maxsplit=1)
    if len(closed) == 2:
        return closed[1].strip(), _BEGIN.sub("", closed[0]).strip() or "(empty)"
    if begun := _BEGIN.search(content):
        return content[: begun.start()].strip(), content[begun.end() :].strip() or "(empty)"
    return content.strip(), ""


_BEGIN = re.compile(
    r"<(?:think|thinking|thought|reasoning)>|<\|channel\|?>(?:analysis|thought)(?:<\|message\|>)?", re.I
)
_END = re.compile(r"</(?:think|thinking|thought|reasoning)>|<channel\|>|<\|channel\|>final<\|message\|>", re.I)
