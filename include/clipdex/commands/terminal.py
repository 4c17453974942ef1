"""What the commands share: the terminal, results as text or JSON, and checks of what was given."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from clipdex.config import Settings
from clipdex.errors import ConfigurationError
from clipdex.sanitize import escape_text

console = Console(highlight=False)


def print_result(what: Any) -> None:
    """Print text as it is and anything else as JSON, with control characters escaped."""
    print(escape_text(what if isinstance(what, str) else json.dumps(what, ensure_ascii=False)))


def require_file(path: Path) -> None:
    """Raise ConfigurationError or OSError if this is no file that can be read."""
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; a file expected: clipdex ingest takes a folder")
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such file")
    path.open("rb").close()


def nothing_in(folder: str, settings: Settings) -> str:
    return f"no clip in {folder}: looked for {' '.join(settings.source.extensions)}"
