"""Parameters that several routes have."""

from typing import Annotated

from fastapi import Path

ClipIdInPath = Annotated[str, Path(min_length=1, max_length=64, description="As in the clips of a search")]
