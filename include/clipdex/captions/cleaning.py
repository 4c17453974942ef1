"""Cleaning: take out of a model's answer what is not the caption.

Reasoning, special tokens, further turns, fences, JSON, answer tags, headings, list marks, emphasis, pleasantries before
and offers after are removed if a caption is left. Else the text stays as it is, with the reason why it is none.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from clipdex.captions.courtesies import INTRODUCTION, OFFER, THINKING_ALOUD
from clipdex.captions.markdown import is_list_of_words, without_markdown
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
    if not _has_words(answer):
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
    if not _has_words(left):
        reason = Reason.CAPTION_REASONING if "reasoning" in removed else Reason.CAPTION_MARKUP
        return Cleaned(answer, tuple(removed), reason, f"nothing is left without {', '.join(removed)}")
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


_MOST_PASSES = 8  # each removes one level of nesting


def _has_words(text: str) -> bool:
    return any(char.isalnum() for char in text)


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
        if _is_quoted(text, tag.start(), tag.end()) or (tag[0].lower().strip() == "assistantfinal" and not bare):
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
    left = "\n\n".join(part.strip() for part in kept if _has_words(part))
    return left or None


def _is_quoted(text: str, begin: int, end: int) -> bool:
    """Return whether a tag is text on screen that a caption quotes: "<think>"."""
    return begin > 0 and end < len(text) and (text[begin - 1], text[end]) in _QUOTES


_QUOTES = {('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"), ("«", "»"), ("„", "“"), ("「", "」")}


# Turns and special tokens

_ANSWERS = ("assistant", "model", "ai", "gpt", "[/inst]")
_TURN = re.compile(
    r"(?:<\|im_start\|>|<start_of_turn>|<\|turn>|<\|start_header_id\|>|<\|start\|>)\s{0,4}"
    r"(?P<named>[A-Za-z]{2,20}\b)?:?(?:\s{0,4}<\|end_header_id\|>)?"
    r"|<[|｜](?P<token>user|assistant|system|observation)[|｜]>|(?P<mistral>\[/?INST\])"
    # The same without special tokens, on a line of its own or with a colon.
    r"|^[ \t]{0,4}(?P<line>user|assistant|model|system)[ \t]{0,4}$|^[ \t]{0,4}(?P<colon>User|Human|Assistant|System"
    r"|AI):(?=\s)",
    re.IGNORECASE | re.MULTILINE,
)
_END = re.compile(
    r"<\|(?:im_end|endoftext|end_of_text|eot_id|eom_id|end|return|eos)\|>|<end_of_turn>|<turn\|>|<end_of_utterance>"
    r"|</s>"
    r"|<eos>|<｜end▁of▁sentence｜>|<EOT>"
)
_TOKEN = re.compile(
    r"<[|｜][\w ./:▁-]{1,48}[|｜]>|</?(?:s|bos|eos|pad|unk|sop|eop|mask|image|video|img|frame|cls|sep)>"
    r"|<image_soft_token>"
    r"|<(?:start|end)_of_(?:image|turn|utterance)>|<fake_token_around_image>|<global-img>|<unused\d{1,4}>"
    r"|<row_\d{1,2}_col_\d{1,2}>|<\|(?:turn|channel)>|<(?:turn|channel)\|>|<EOT>|\[gMASK\]|<</?SYS>>",
    re.IGNORECASE,
)


def _without_turns(text: str) -> str:
    """Keep the model's first answer: not the prompt repeated before it, and no turn after it."""
    parts: list[tuple[str, int, int]] = []  # the role of each turn, and where its text begins and ends
    begin, role = 0, "assistant"
    for turn in _TURN.finditer(text):
        if _is_quoted(text, turn.start(), turn.end()):
            continue
        parts.append((role, begin, turn.start()))
        named = next((turn[name] for name in ("named", "token", "mistral", "line", "colon") if turn[name]), "assistant")
        begin, role = turn.end(), named.lower()
    if not parts:
        return text
    parts.append((role, begin, len(text)))
    said = [text[start:end] for role, start, end in parts if role in _ANSWERS]
    return next((one for one in said if _has_words(_TOKEN.sub("", one))), text[parts[-1][1] :])


def _without_rest(text: str) -> str:
    """Remove what follows the token that ends an answer."""
    begin = 0
    for end in _END.finditer(text):
        if _is_quoted(text, end.start(), end.end()):
            continue
        if _has_words(_TOKEN.sub("", text[begin : end.start()])):
            return text[begin : end.start()]
        begin = end.end()
    return text[begin:]


def _without_tokens(text: str) -> str:
    def removed(found: re.Match[str]) -> str:
        if _is_quoted(text, found.start(), found.end()):
            return found[0]
        around = text[max(0, found.start() - 1) : found.start()], text[found.end() : found.end() + 1]
        return " " if all(one.isalnum() for one in around) else ""

    return _TOKEN.sub(removed, text)


# Wrappers

_FENCE = re.compile(r"^[ \t]{0,4}(?:```|~~~)[^\n`]{0,40}$", re.MULTILINE)
_TAG = re.compile(
    r"</?(?P<name>answer|final_answer|final|caption|description|video_description|response|output|result|summary"
    r"|text)>",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\s?\{")
_KEYS = re.compile(
    r"(?:(?:video|clip|final|detailed|full|dense)[_ ]?)?(?:caption|description|answer|text|summary|content|response"
    r"|output"
    r"|result)|описание|描述|描述内容|descripción|beschreibung|légende",
    re.IGNORECASE,
)


def _without_fences(text: str) -> str:
    """Return the longest fenced part if it has most of the words, else the text without the lines of fences."""
    fences = list(_FENCE.finditer(text))
    if not fences:
        return text
    parts = [text[one.end() : other.start()] for one, other in pairwise(fences)][::2]
    longest = max(parts, key=len, default="")
    return longest if 2 * len(longest) > len(text) else _FENCE.sub("", text)


def _without_json(text: str) -> str | None:
    """Return the caption in a JSON document; None if the text is one that cannot be read or has no sentence."""
    start = text.find("{") if text.startswith("{") or re.match(r"json\s*\{", text[:20], re.IGNORECASE) else -1
    if start < 0 and not text.startswith("["):
        return text
    try:
        document = json.loads(text[max(0, start) :], strict=False)
    except (ValueError, RecursionError):
        # "[0:03] A man" begins a caption.
        return None if start >= 0 and _JSON_HEAD.match(text, start) else text
    if start < 0 and not (isinstance(document, list) and any(isinstance(one, str | dict | list) for one in document)):
        return text
    named, other = list[str](), list[str]()
    waiting: list[tuple[str, object]] = [("", document)]
    while waiting:  # no recursion: the document may be nested deeply
        key, value = waiting.pop()
        if isinstance(value, str) and is_sentence(value):
            (named if _KEYS.fullmatch(key) else other).append(value)
        elif isinstance(value, dict):
            waiting += reversed([(str(name), one) for name, one in value.items()])
        elif isinstance(value, list):
            waiting += reversed([(key, one) for one in value])
    return "\n\n".join(named or other) or None


_JSON_HEAD = re.compile(r"\{\s*(?:[\"'“]|\}|\{|\[)")


def is_sentence(text: str) -> bool:
    """Return whether a text is long enough to describe something: four words, or ten letters without spaces."""
    return len(text.split()) >= 4 or sum(char.isalnum() and ord(char) > 0xE00 for char in text) >= 10


def _without_answer_tags(text: str) -> str:
    """Return the longest part in answer tags if it has as many words as the rest, else the text without the tags."""
    tags = [tag for tag in _TAG.finditer(text) if not _is_quoted(text, tag.start(), tag.end())]
    if not tags:
        return text
    opened: dict[str, int] = {}
    longest = ""
    for tag in tags:
        if not tag[0].startswith("</"):
            opened[tag["name"].lower()] = tag.end()
        elif (begin := opened.pop(tag["name"].lower(), -1)) >= 0:
            longest = max(longest, text[begin : tag.start()], key=len)
    rest = _TAG.sub("", text)
    return longest if 2 * len(longest) >= len(rest) else rest


def _without_box(text: str) -> str:
    r"""Return the content of \boxed{…} if it has as many words as the rest, else the text without the box."""
    if not (box := _BOXED.search(text)):
        return text
    depth, end = 1, len(text)
    for brace in re.finditer(r"[{}]", text[box.end() :]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            end = box.end() + brace.start()
            break
    inner = re.sub(r"^\s*\\text\s?\{(.*)\}\s*$", r"\1", text[box.end() : end], flags=re.DOTALL)
    rest = text[: box.start()] + text[end + 1 :]
    return inner if len(inner) >= len(rest) else f"{text[: box.start()]}{inner}{text[end + 1 :]}"


def _without_quotes(text: str) -> str:
    """Remove quotation marks around the whole text."""
    if len(text) < 2 or (text[0], text[-1]) not in _QUOTES:
        return text
    inner = text[1:-1]
    return text if any(mark in inner for mark in (text[0], text[-1]) if mark != "'") else inner


# Words to the user


def _without_introduction(text: str) -> str:
    found = INTRODUCTION.match(text)
    return text[found.end() :] if found and _has_words(text[found.end() :]) else text


def _without_offer(text: str) -> str:
    """Remove the sentences at the end that speak to the user."""
    tail = max(0, len(text) - _LONGEST_OFFER)
    found = next((one for one in OFFER.finditer(text, tail) if _has_words(text[: one.start()])), None)
    return text[: found.start()] if found else text


_LONGEST_OFFER = 400  # characters

_STEPS: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("reasoning", _without_reasoning),
    ("further turns", _without_turns),
    ("further turns", _without_rest),
    ("special tokens", _without_tokens),
    ("fences", _without_fences),
    ("JSON", _without_json),
    ("answer tags", _without_answer_tags),
    ("answer tags", _without_box),
    ("pleasantries", _without_introduction),
    ("offers", _without_offer),
    ("quotation marks", _without_quotes),
    ("markup", without_markdown),
)
_NO_CAPTION = {
    "reasoning": (Reason.CAPTION_REASONING, "the answer is reasoning that was cut off, without a caption behind it"),
    "JSON": (Reason.CAPTION_MARKUP, "the answer is JSON without a caption, or JSON that was cut off"),
}
