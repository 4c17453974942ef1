"""Parse and inject faults of the stand-in engine, such as "503:0.2,hang:1,400:digest=ab12,429:2:retry_after=1".

An item is NAME[:HOW_OFTEN][:KEY=VALUE]...
HOW_OFTEN is a count (3) or a probability (0.2; 1.0 is always); default: once.
KEYS: digest (only videos whose digest has this prefix; always, unless a count is given), at (models, info, loads;
default: chat), retry_after (seconds), retry_date (seconds, sent as a date), seconds (of slow and drip), say (error
message), code (of a gateway, such as model_not_found).

status      400 401 403 404 408 409 413 422 425 429 500 502 503 504, with an error body as SGLang writes it
broken      hang, slow, reset, cut, drip, redirect, html, garbage, truncated_json, empty_choices, no_finish, abort,
            null_loads (at loads)
caption     wrong_model, empty, short, long, endless and huge (beyond max_tokens), loop, echo, nul, refusal,
            cyrillic, reasoning (before the caption), thinking (reasoning that does not end)
"""

import asyncio
import json
import random
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate

from tests.support.wire import Answer

STATUSES = {400, 401, 403, 404, 408, 409, 413, 422, 425, 429, 500, 502, 503, 504}
BROKEN = {
    "hang", "slow", "reset", "cut", "drip", "redirect", "html", "garbage", "truncated_json", "empty_choices",
    "no_finish", "abort", "null_loads",
}  # fmt: skip
CAPTIONS = {"wrong_model", "empty", "short", "long", "endless", "huge", "loop", "echo", "nul", "refusal", "cyrillic",
            "reasoning", "thinking"}  # fmt: skip


@dataclass(slots=True)
class Fault:
    """One fault. left: remaining injections, None to use probability."""

    name: str
    left: int | None = 1
    probability: float = 1.0
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, item: str) -> "Fault":
        name, *rest = item.strip().split(":")
        known = {str(status) for status in STATUSES} | BROKEN | CAPTIONS
        if name not in known:
            raise ValueError(f"unknown fault {name!r}; expected one of {', '.join(sorted(known))}")
        options = dict(part.split("=", 1) for part in rest if "=" in part)
        often = next((part for part in rest if "=" not in part), "")
        if "." in often:
            return cls(name, None, float(often), options)
        return cls(name, int(often) if often else None if "digest" in options else 1, 1.0, options)


class Plan:
    """Select the fault of each request: the first that applies. Seeded, so that runs are reproducible."""

    def __init__(self, faults: str = "", seed: int = 1) -> None:
        self._lock = threading.Lock()
        self._chance = random.Random(seed)
        self.set(faults)

    def set(self, faults: str) -> None:
        """Replace all faults."""
        parsed = [Fault.parse(item) for item in faults.split(",") if item.strip()]
        with self._lock:
            self._faults = parsed

    def next(self, at: str, digest: str = "") -> Fault | None:
        with self._lock:
            return next((fault for fault in self._faults if self._applies(fault, at, digest)), None)

    def _applies(self, fault: Fault, at: str, digest: str) -> bool:
        if fault.options.get("at", "chat") != at or not digest.startswith(fault.options.get("digest", "")):
            return False
        if fault.left is None:
            return self._chance.random() < fault.probability
        fault.left -= 1
        return fault.left >= 0


def error(status: int, message: str, code: str | None = None) -> Answer:
    """Return an error response in SGLang's format, or, with a code, in its gateway's."""
    if code:
        return Answer.of({"error": {"type": "Not Found", "code": code, "message": message}}, status)
    return Answer.of({"object": "error", "message": message, "type": "Error", "param": None, "code": status}, status)


async def broken(fault: Fault, correct: Answer) -> Answer:
    """Return the faulty response that replaces the correct one."""
    seconds = float(fault.options.get("seconds", 0.05))
    if fault.name.isdigit():
        message = fault.options.get("say", f"injected fault {fault.name}")
        answer = error(int(fault.name), message, fault.options.get("code"))
        if "retry_after" in fault.options:
            answer.headers["Retry-After"] = fault.options["retry_after"]
        if "retry_date" in fault.options:
            answer.headers["Retry-After"] = formatdate(time.time() + float(fault.options["retry_date"]), usegmt=True)
        return answer
    if fault.name == "hang":
        await asyncio.Event().wait()
    if fault.name == "slow":
        await asyncio.sleep(seconds)
    if fault.name in ("reset", "cut", "drip"):
        return Answer(correct.status, correct.body, sending=fault.name, drip_s=seconds)
    document = json.loads(correct.body)
    choices = document.get("choices", [])
    instead = {
        "redirect": Answer(302, b"", headers={"Location": "https://login.example/?next=secret"}),
        "html": Answer(200, b"<html><body>Please stand by</body></html>", "text/html"),
        "garbage": Answer(200, bytes(range(256)), "application/octet-stream"),
        "truncated_json": Answer(200, correct.body[: len(correct.body) // 2]),
        "empty_choices": Answer.of(document | {"choices": []}),
        "no_finish": Answer.of(document | {"choices": [choice | {"finish_reason": None} for choice in choices]}),
        "null_loads": Answer.of({"loads": [None]}),
        "abort": Answer.of(document | {"choices": [choice | {"finish_reason": "abort"} for choice in choices]}),
    }
    return instead.get(fault.name, correct)


def faulty_caption(fault: str, prompt: str, correct: str) -> tuple[str, str]:
    """Return the caption with this fault, and its finish_reason."""
    texts = {
        "empty": "  \n",
        "huge": " ".join(f"{word}{number}" for number, word in enumerate((correct.split() * 1000)[:10_000])),
        "short": "A street.",
        "loop": correct + " The man walks and the man walks and" * 60,
        "echo": prompt,
        "nul": f"{correct[:40]}\x00\ud83d{correct[40:]}",
        "refusal": f"I'm sorry, but I can't help with describing this video. {correct}",
        "reasoning": f"<think>\nOkay, the user wants a caption. Is it a street?\n</think>\n\n{correct}<|im_end|>",
        "thinking": f"<think>\nOkay, the user wants a caption. {correct}",
        "cyrillic": "Человек медленно идёт по улице, рядом едет красная машина, а вдали играют дети. " * 2
        + "Камера следует за ним, потом поворачивает к реке; на вывеске написано слово, почти не видное в тени.",
    }
    return texts.get(fault, correct), "length" if fault == "long" else "stop"
