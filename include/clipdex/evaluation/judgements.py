"""Judgements: which clip answers which query, read from a file of JSON lines.

{"clip_id": "a", "text": "a caption", "query": "words to search for"}
{"clip_id": "a", "query": "other words for the same clip"}
{"clip_id": "b", "text": "a caption that no query is for"}
{"query": "words that no clip answers", "answerable": false}

The text of a clip is given once, in any of its lines. Without any text, the served index is judged.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipdex.errors import ConfigurationError

_FIELDS = ("clip_id", "text", "query")
_EXAMPLE = '{"clip_id": "a", "text": "a caption", "query": "words to search for"}'


@dataclass(frozen=True, slots=True)
class Judgement:
    """Hold a query and the clip that answers it; "" if no clip does."""

    query: str
    clip_id: str


@dataclass(frozen=True, slots=True)
class Judgements:
    """Hold queries, and the texts to search in.

    queries: in the order of the file
    texts: by clip_id; empty to search the served index
    ignored: names of unknown fields, and the number of lines that have each
    """

    queries: tuple[Judgement, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)

    @property
    def clip_ids(self) -> set[str]:
        """Return the clips that answer a query."""
        return {one.clip_id for one in self.queries if one.clip_id}


def read_judgements(path: Path) -> Judgements:
    """Read a file of JSON lines in UTF-8. Raises OSError, and ConfigurationError that names the first wrong line."""
    queries: list[Judgement] = []
    texts: dict[str, str] = {}
    text_lines: dict[str, int] = {}
    clip_lines: dict[str, int] = {}
    ignored: dict[str, int] = {}
    for line, record in _records(path):
        clip_id, text, query = (_text(path, line, record, name) for name in _FIELDS)
        for name in record.keys() - {*_FIELDS, "answerable"}:
            ignored[name] = ignored.get(name, 0) + 1
        if _is_unanswerable(path, line, record):
            queries.append(Judgement(query, ""))
            continue
        if not clip_id:
            raise _wrong(path, line, 'clip_id is missing: name the clip, or, if none answers, add "answerable": false')
        if not text and not query:
            raise _wrong(path, line, "neither text nor query: give a caption, a query, or both")
        if text and texts.setdefault(clip_id, text) != text:
            first = text_lines[clip_id]
            raise _wrong(path, line, f"the clip {clip_id} has another text than in line {first}: give its text once")
        if text:
            text_lines.setdefault(clip_id, line)
        if query:
            queries.append(Judgement(query, clip_id))
            clip_lines.setdefault(clip_id, line)
    if not queries:
        raise ConfigurationError(f"{path}: no line has a query: add lines such as {_EXAMPLE}")
    if texts and (without := clip_lines.keys() - texts.keys()):
        line = min(clip_lines[clip_id] for clip_id in without)
        clip_id = next(clip_id for clip_id in without if clip_lines[clip_id] == line)
        why = f"no line has the text of the clip {clip_id}: give it once"
        raise _wrong(path, line, f"{why}, or leave all texts out to judge the served index")
    return Judgements(tuple(queries), texts, dict(sorted(ignored.items())))


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line that is not blank, and its object."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise _wrong(path, number, f"not UTF-8 at byte {error.start + 1}: save the file as UTF-8") from None
            if not line:
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                raise _wrong(path, number, f"not JSON ({why}): one object per line, such as {_EXAMPLE}") from None
            if not isinstance(record, dict):
                raise _wrong(path, number, f"not an object: one object per line, such as {_EXAMPLE}")
            yield number, record


def _text(path: Path, line: int, record: dict[str, Any], name: str) -> str:
    """Return the value of a field, or "" if it is missing or null."""
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(path, line, f"{name} is {json.dumps(value)[:40]}: a string expected")
    if not value.strip():
        raise _wrong(path, line, f"{name} is empty: give words, or leave the field out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _wrong(path, line, f"{name} has half a character at {error.start + 1}: repair its \\u escapes") from None
    return value


def _is_unanswerable(path: Path, line: int, record: dict[str, Any]) -> bool:
    answerable = record.get("answerable", True)
    if not isinstance(answerable, bool):
        raise _wrong(path, line, f"answerable is {json.dumps(answerable)[:40]}: true or false expected")
    if answerable:
        return False
    if record.get("query") is None:
        raise _wrong(path, line, 'query is missing: a line with "answerable": false needs one')
    for name in ("clip_id", "text"):
        if record.get(name) is not None:
            raise _wrong(path, line, f'"answerable": false has no clip: leave out {name}, or answerable')
    return True


def _wrong(path: Path, line: int, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path} line {line}: {why}")
