"""Globs: names and paths selected by *, ?, [...] and **, as regular expressions."""

import re
from collections.abc import Iterable

_BRACKETS = re.compile(r"\[[!^]?\]?[^\]/]*\]")


def name_expression(glob: str) -> str:
    """Return the regular expression of a glob for one name: * is any text, ? one character, [12] one of them.

    Brackets also match themselves: `[front]` matches the name [front] and the name f.
    """
    parts, position = [], 0
    while position < len(glob):
        character = glob[position]
        brackets = _BRACKETS.match(glob, position)
        if brackets:
            parts.append(_one_of(brackets[0]))
            position = brackets.end()
            continue
        parts.append({"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character)))
        position += 1
    return "".join(parts)


def path_expression(glob: str) -> str:
    """Return the regular expression of a glob for a path: as for a name, and **/ is any number of folders."""
    parts = glob.strip("/").split("/")
    *folders, last = parts
    above = "".join("(?:.*/)?" if one == "**" else f"{name_expression(one)}/" for one in folders)
    return above + (".*" if last == "**" else name_expression(last))


class Exclusion:
    """Names and paths to leave out, in any case of letters.

    A glob without / matches a file or a folder at any depth, with everything in the folder. A glob with / matches a
    path below the root.
    """

    def __init__(self, globs: Iterable[str]) -> None:
        given = [glob.strip() for glob in globs if glob.strip("/ ")]
        self._name = _any_of(name_expression(glob.strip("/")) for glob in given if "/" not in glob.rstrip("/"))
        self._path = _any_of(path_expression(glob) for glob in given if "/" in glob.rstrip("/"))
        self._folders: dict[str, bool] = {"": False}

    def matches(self, path: str) -> bool:
        """Return whether a path below the root, or a folder that it is in, is left out."""
        folder, _, name = path.rpartition("/")
        return self._in_folder(folder) or self._itself(path, name)

    def _in_folder(self, folder: str) -> bool:
        known = self._folders.get(folder)
        if known is None:
            if len(self._folders) > _MOST_FOLDERS:
                self._folders = {"": False}
            known = self._folders[folder] = self.matches(folder)
        return known

    def _itself(self, path: str, name: str) -> bool:
        return bool((self._name and self._name.fullmatch(name)) or (self._path and self._path.fullmatch(path)))


_MOST_FOLDERS = 10_000


def _any_of(expressions: Iterable[str]) -> re.Pattern[str] | None:
    joined = "|".join(f"(?:{one})" for one in expressions)
    return re.compile(joined, re.IGNORECASE | re.DOTALL) if joined else None


def _one_of(brackets: str) -> str:
    """Return the expression of a bracket: one of its characters, or the brackets as they are written."""
    inner, literal = brackets[1:-1], re.escape(brackets)
    negated = inner[:1] in ("!", "^")
    characters = inner[1:] if negated else inner
    if not characters:
        return literal
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", characters)
    kept = f"[{'^/' if negated else ''}{escaped}]"
    try:
        re.compile(kept)
    except re.error:  # a range that runs backwards
        return literal
    return f"(?:{kept}|{literal})"
