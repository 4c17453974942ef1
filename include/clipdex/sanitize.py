"""Sanitize untrusted text for terminals and logs: file names, captions and server responses.

Escaped are control characters (escape sequences move the cursor or set the window title), lone surrogates, which cannot
be encoded, and bidirectional marks, which reorder the text.
"""

import re
from urllib.parse import quote, unquote

_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_ENCODED = re.compile("(?:%[0-9A-F]{2})+")
_LINES = re.compile("(?![\n\t])" + _LINE.pattern)


def escape_line(text: str) -> str:
    """Escape to one line, so that a file name cannot forge a log line."""
    return _LINE.sub(_escaped, text)


def escape_text(text: str) -> str:
    """Escape all but new lines and tabs. JSON stays valid and unchanged in meaning."""
    return _LINES.sub(_escaped, text)


def percent_encode(text: str) -> str:
    """Percent-encode the characters that escape_line() escapes, byte by byte, for a URI."""
    return _LINE.sub(lambda found: quote(found[0], errors="surrogateescape"), text)


def percent_decode(text: str) -> str:
    """Undo percent_encode(). Other percent signs stay as they are."""

    def decoded(found: re.Match[str]) -> str:
        characters = unquote(found[0], errors="surrogateescape")
        return characters if all(map(_LINE.fullmatch, characters)) else found[0]

    return _ENCODED.sub(decoded, text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def safe_cell(value: str) -> str:
    """Return the text of a cell that no spreadsheet reads as a formula: such a text gets an apostrophe before it."""
    return f"'{value}" if _FORMULA.match(value) else value


_FORMULA = re.compile(r"[\s\ufeff]*[=+\-@|%\t\r\n\uff1d\uff0b\uff0d\uff20]")
