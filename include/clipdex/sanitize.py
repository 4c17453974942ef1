"""Text from outside, as a person may see it: file names, captions and servers' answers never steer a terminal or a log.

What is escaped is what acts instead of being read: control characters (an escape sequence moves the cursor or sets the
window's title), lone surrogates, which no terminal can be sent, and marks that turn the order of what follows.
"""

import re
from urllib.parse import quote

_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LINES = re.compile("(?![\n\t])" + _LINE.pattern)


def escape_line(text: str) -> str:
    """In one line: a file's name cannot write a line of its own into a log."""
    return _LINE.sub(_escaped, text)


def escape_text(text: str) -> str:
    """The same where new lines and tabs are welcome. JSON stays the JSON that it was."""
    return _LINES.sub(_escaped, text)


def percent_encode(text: str) -> str:
    """As a part of a URI, which has no such characters: percent-encoded, byte by byte."""
    return _LINE.sub(lambda found: quote(found[0], errors="surrogateescape"), text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
