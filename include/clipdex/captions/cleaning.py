"""Cleaning: take out of a model's answer what is not the caption.

Reasoning, special tokens, further turns, fences, JSON, answer tags, headings, list marks, emphasis, pleasantries before
and offers after are removed if a caption is left. Else the text stays as it is, with the reason why it is none.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from clipdex.captions.courtesies import INTRODUCTION, OFFER, THINKING_ALOUD
from clipdex.captions.markdown import is_list_of_words, without_markdown
from clipdex.captions.turns import has_words, is_quoted, without_rest, without_tokens, without_turns
from clipdex.captions.wrappers import without_answer_tags, without_box, without_fences, without_json, without_quotes
from clipdex.errors import Reason

VERSION = 1
"""Part of the fingerprint. Increase it with every change that may change a caption."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Hold a text without what the engine added.

    text: the caption; the normalized answer if it has none
    removed: what was taken out, such as "reasoning", in the order of removal
    reason: why the answer has no caption, or None; why: the same for a person
    """

    text: str
    removed: tuple[str, ...] = ()
    reason: Reason | None = None
    why: str = ""


def clean(text: str) -> Cleaned:
    """Return the caption in an answer. Idempotent, in time proportional to the length.

    An answer without words is returned as it is, without a reason.
    """
    answer = normalized(text)
    if not has_words(answer):
        return Cleaned(answer)
    left, removed = answer, list[str]()
    for _ in range(_MOST_PASSES):
        before = left
        for name, remove in _STEPS:
            after = remove(left)
            if after is None:
                return Cleaned(answer, tuple(removed), *_NO_CAPTION[name])
            if after != left:
                left = normalized(after)
                if name not in removed:
                    removed.append(name)
        if left == before:
            break
    else:
        return Cleaned(answer, tuple(removed), Reason.CAPTION_MARKUP, "markup is nested too deeply to be taken out")
    if not has_words(left):
        reason = Reason.CAPTION_REASONING if "reasoning" in removed else Reason.CAPTION_MARKUP
        return Cleaned(answer, tuple(removed), reason, f"nothing is left without {', '.join(removed)}")
    if len(_TORN.findall(left)) > _MOST_TORN:
        return Cleaned(answer, tuple(removed), Reason.CAPTION_MARKUP, "parts of special tokens are left in the text")
    if begins := THINKING_ALOUD.match(left):
        why = f"the text is reasoning, not a caption: it begins with {begins[0].strip()!r}"
        return Cleaned(answer, tuple(removed), Reason.CAPTION_REASONING, why)
    if is_list_of_words(left, answer):
        return Cleaned(answer, tuple(removed), Reason.CAPTION_MARKUP, "the text is a list of words, without sentences")
    return Cleaned(left, tuple(removed))


def normalized(text: str) -> str:
    """Return a text for UTF-8 JSON: join surrogate pairs, remove lone surrogates and control characters."""
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    kept = (char for char in joined if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs"))
    return unicodedata.normalize("NFC", "".join(kept)).strip()


_TORN, _MOST_TORN = re.compile(r"<\||\|>"), 2
_MOST_PASSES = 8  # each removes one level of nesting


# Reasoning

_THOUGHT = (
    r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad|rationale|inner_monologue)"
)
_REASONING = re.compile(
    # gpt-oss: channels. Its final one ends the reasoning, however many began before.
    r"(?P<final><\|channel\|>\s*final\b[^<]{0,40}(?:<\|constrain\|>[^<]{0,20})?(?:<\|message\|>)?"
    r"|(?<=[^\w\s])\s{0,2}assistantfinal(?=\S))"
    rf"|(?P<open><{_THOUGHT}(?:\s[^<>\n]{{0,80}})?>|◁{_THOUGHT}▷|\[{_THOUGHT}\]|<\|(?:begin_of_thought"
    rf"|start_thinking)\|>"
    r"|<\|channel>\s*(?:thought|analysis)\b|<\|channel\|>\s*(?:analysis|commentary)\b[^<]{0,40}(?:<\|message\|>)?"
    r"|<unused94>(?:thought)?)"
    rf"|(?P<close></{_THOUGHT}\s{{0,4}}>|◁/{_THOUGHT}▷|\[/{_THOUGHT}\]|<\|(?:end_of_thought|end_thinking)\|>"
    rf"|<channel\|>"
    r"|<unused95>)",
    re.IGNORECASE,
)
_BARE_CHANNEL = re.compile(r"analysis(?=[A-Z])")  # the channels of gpt-oss without their special tokens


def _without_reasoning(text: str) -> str | None:
    """Remove reasoning; None if it was cut off, so that no caption follows.

    A closing tag without an opening one ends reasoning that began in the prompt: all before it goes.
    """
    kept: list[str] = []
    depth, begin = (1, 0) if (bare := _BARE_CHANNEL.match(text) is not None) else (0, 0)
    found = False
    for tag in _REASONING.finditer(text):
        if is_quoted(text, tag.start(), tag.end()) or (tag[0].lower().strip() == "assistantfinal" and not bare):
            continue
        found = True
        if tag["open"]:
            if depth == 0:
                kept.append(text[begin : tag.start()])
            depth += 1
            continue
        if tag["final"] or depth == 0:
            kept.clear()
        depth = 0 if tag["final"] else max(0, depth - 1)
        begin = tag.end()
    if depth == 0:
        kept.append(text[begin:])
    if not found:
        return text
    left = "\n\n".join(part.strip() for part in kept if has_words(part))
    return left or None


# Words to the user


def _without_introduction(text: str) -> str:
    found = INTRODUCTION.match(text)
    return text[found.end() :] if found and has_words(text[found.end() :]) else text


def _without_offer(text: str) -> str:
    """Remove the sentences at the end that speak to the user: a paragraph of them, or nothing but them."""
    tail = max(0, len(text) - _LONGEST_OFFER)
    for found in OFFER.finditer(text, tail):
        rest = text[found.start() :]
        is_paragraph = rest.startswith("\n")
        speaks = all(OFFER.match(one.strip()) or one[-1] in "!?！？" for one in _SENTENCE.findall(rest.strip()))
        if (is_paragraph or speaks) and has_words(text[: found.start()]):
            return text[: found.start()]
    return text


_LONGEST_OFFER = 400  # characters
_SENTENCE = re.compile(r"[^.!?。！？]+[.!?。！？]*")

_STEPS: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("reasoning", _without_reasoning),
    ("further turns", without_turns),
    ("further turns", without_rest),
    ("special tokens", without_tokens),
    ("fences", without_fences),
    ("JSON", without_json),
    ("answer tags", without_answer_tags),
    ("answer tags", without_box),
    ("pleasantries", _without_introduction),
    ("offers", _without_offer),
    ("quotation marks", without_quotes),
    ("markup", without_markdown),
)
_NO_CAPTION = {
    "reasoning": (Reason.CAPTION_REASONING, "the answer is reasoning that was cut off, without a caption behind it"),
    "JSON": (Reason.CAPTION_MARKUP, "the answer is JSON without a caption, or JSON that was cut off"),
}
