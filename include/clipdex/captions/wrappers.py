"""Wrappers: the caption inside fences, JSON, answer tags, a box or quotation marks."""

import json
import re
from itertools import pairwise

from clipdex.captions.turns import QUOTES, is_quoted

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


def without_fences(text: str) -> str:
    """Return the longest fenced part if it has most of the words, else the text without the lines of fences."""
    fences = list(_FENCE.finditer(text))
    if not fences:
        return text
    parts = [text[one.end() : other.start()] for one, other in pairwise(fences)][::2]
    longest = max(parts, key=len, default="")
    return longest if 2 * len(longest) > len(text) else _FENCE.sub("", text)


def without_json(text: str) -> str | None:
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


def without_answer_tags(text: str) -> str:
    """Return the longest part in answer tags if it has as many words as the rest, else the text without the tags."""
    tags = [tag for tag in _TAG.finditer(text) if not is_quoted(text, tag.start(), tag.end())]
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


def without_box(text: str) -> str:
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


def without_quotes(text: str) -> str:
    """Remove quotation marks around the whole text."""
    if len(text) < 2 or (text[0], text[-1]) not in QUOTES:
        return text
    inner = text[1:-1]
    return text if any(mark in inner for mark in (text[0], text[-1]) if mark != "'") else inner
