"""Turns: the first answer of a model, without other turns of the dialogue and without special tokens."""

import re

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


def without_turns(text: str) -> str:
    """Keep the model's first answer: not the prompt repeated before it, and no turn after it."""
    parts: list[tuple[str, int, int]] = []  # the role of each turn, and where its text begins and ends
    begin, role = 0, "assistant"
    for turn in _TURN.finditer(text):
        if is_quoted(text, turn.start(), turn.end()):
            continue
        parts.append((role, begin, turn.start()))
        named = next((turn[name] for name in ("named", "token", "mistral", "line", "colon") if turn[name]), "assistant")
        begin, role = turn.end(), named.lower()
    if not parts:
        return text
    parts.append((role, begin, len(text)))
    said = [text[start:end] for role, start, end in parts if role in _ANSWERS]
    return next((one for one in said if has_words(_TOKEN.sub("", one))), text[parts[-1][1] :])


def without_rest(text: str) -> str:
    """Remove what follows the token that ends an answer."""
    begin = 0
    for end in _END.finditer(text):
        if is_quoted(text, end.start(), end.end()):
            continue
        if has_words(_TOKEN.sub("", text[begin : end.start()])):
            return text[begin : end.start()]
        begin = end.end()
    return text[begin:]


def without_tokens(text: str) -> str:
    def removed(found: re.Match[str]) -> str:
        if is_quoted(text, found.start(), found.end()):
            return found[0]
        around = text[max(0, found.start() - 1) : found.start()], text[found.end() : found.end() + 1]
        return " " if all(one.isalnum() for one in around) else ""

    return _TOKEN.sub(removed, text)


def has_words(text: str) -> bool:
    return any(char.isalnum() for char in text)


def is_quoted(text: str, begin: int, end: int) -> bool:
    """Return whether a tag is text on screen that a caption quotes: "<think>"."""
    return begin > 0 and end < len(text) and (text[begin - 1], text[end]) in QUOTES


QUOTES = {('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"), ("«", "»"), ("„", "“"), ("「", "」")}
