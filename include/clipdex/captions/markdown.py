"""Markdown: take headings, list marks, emphasis and HTML out of an answer, and leave times before its parts."""

import re

from clipdex.captions.marks import find_marks


def without_markdown(text: str) -> str:
    """Return the text as plain paragraphs. A line keeps the times that it begins with."""
    text = _BREAK.sub("\n", text)
    text = _HTML.sub("", text)
    lines = text.split("\n")
    is_numbered = sum(bool(_NUMBER.match(line)) for line in lines) > 1
    plain = (_plain_line(line, is_numbered) for line in lines)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line for line in plain if line is not None))


def is_list_of_words(left: str, answer: str) -> bool:
    """Return whether an answer is a list or a table without sentences. left: the same without markup"""
    lines = [line for line in answer.split("\n") if line.strip()]
    listed = sum(bool(_LISTED.match(line)) for line in lines)
    if listed < 3 or 2 * listed < len(lines):
        return False
    parts = [line for line in left.split("\n") if line.strip()]
    return 2 * sum(bool(_SENTENCE.search(line)) for line in parts) < len(parts)


def _plain_line(line: str, is_numbered: bool) -> str | None:
    """Return a line without markup, or None for a heading or a rule."""
    if mark := next((one for one in find_marks(line[:_LONGEST_MARK]) if one.begin == 0), None):
        return line[: mark.end] + _without_emphasis(line[mark.end :])
    if _RULE.fullmatch(line):
        return None
    plain = _HEADING.sub("", line)
    is_heading = plain != line
    plain = _BULLET.sub("", plain)
    if is_numbered:
        plain = _NUMBER.sub("", plain)
    plain = _LABEL.sub("", plain)
    bold = _BOLD_LINE.fullmatch(plain)
    plain = _without_emphasis(plain)
    if (is_heading or bold) and not _SENTENCE.search(plain):
        return ""
    return plain


def _without_emphasis(line: str) -> str:
    return _ITALIC.sub(r"\1", _BOLD.sub(r"\2", line)) if "*" in line or "__" in line else line


_LONGEST_MARK = 140  # characters
_BREAK = re.compile(r"<br\s?/?>|</(?:p|li|div|h[1-6]|ul|ol)>", re.IGNORECASE)
_HTML = re.compile(
    r"</?(?:p|b|i|em|strong|u|li|ul|ol|div|span|h[1-6]|blockquote|code|pre|html|body|small|sub|sup)>", re.IGNORECASE
)
_RULE = re.compile(r"\s{0,8}(?:(?:-\s?){3,80}|(?:\*\s?){3,80}|(?:_\s?){3,80}|(?:=\s?){3,80}|\*{1,3}|#{1,6})\s{0,8}")
_HEADING = re.compile(r"^[ \t]{0,8}#{1,6}[ \t]{1,8}")
_BULLET = re.compile(r"^[ \t]{0,16}(?:[-*+•·●▪◦‣–—>][ \t]{1,8}){1,4}")
_NUMBER = re.compile(r"^[ \t]{0,16}(?:\d{1,2}[.)、]|[(（]\d{1,2}[)）])[ \t]{0,8}(?=[^\s\d])")
# "**Place:** A street": the label of a list. Times have digits.
_LABEL = re.compile(
    r"^[ \t]{0,8}(\*\*|__)(?:[^*\n\d:：]{1,48}[:：](?:\1)|[^*\n\d:：]{1,48}\1[ \t]?[:：])[ \t]{0,8}(?=\S)"
)
_BOLD_LINE = re.compile(r"\s{0,8}(\*\*|__)[^*\n]{1,200}\1[:：]?\s{0,8}")
_BOLD = re.compile(r"(\*\*|__)(?=\S)([^*_\n]{1,400})(?<=\S)\1")
_ITALIC = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]{1,400})(?<=[^\s*])\*(?![\w*])")
_LISTED = re.compile(r"^[ \t]{0,16}(?:[-*+•·●▪◦‣][ \t]|\d{1,2}[.)、]|\||#{1,6}[ \t]|\*\*[^*\n]{1,48}\*\*)")
_SENTENCE = re.compile(r"[.!?…。！？।॥؟۔։።]|[\u0e00-\u0eff]{12}")
