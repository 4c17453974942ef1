"""Parameters that several routes have."""

from datetime import date
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from clipdex.index.where import Where, from_words

ClipIdInPath = Annotated[str, Path(min_length=1, max_length=64, description="As in the clips of a search")]


def _parse_day(given: str) -> str:
    """Return the day as YYYY-MM-DD, "today" or "yesterday", or "" for an empty form field."""
    if given in ("", "today", "yesterday"):  # parse() reads the words in the time zone of the source
        return given
    try:
        return date.fromisoformat(given).isoformat()
    except ValueError:
        raise ValueError(f"{given!r} is not a date such as 2026-11-03, today or yesterday") from None


A_DAY = "YYYY-MM-DD, today or yesterday"
Word = Annotated[str, Field(max_length=1200)]
CheckedDay = AfterValidator(_parse_day)


class RangeQuery(BaseModel):
    """Hold filters: where, such as camera=cam-7; first and last: YYYY-MM-DD, today, yesterday or ""."""

    model_config = ConfigDict(populate_by_name=True)

    first: Annotated[str, Field(alias="from", max_length=10, description=f"First day: {A_DAY}"), CheckedDay] = ""
    last: Annotated[str, Field(alias="to", max_length=10, description=f"Last day: {A_DAY}"), CheckedDay] = ""
    where: Annotated[
        list[Word], Field(max_length=32, description="Filters, such as camera=cam-7,cam-8 or duration=..30")
    ] = []

    @property
    def named(self) -> Where:
        """Return the filters without the days. Raises InvalidFilter."""
        return from_words(word for word in self.where if word.strip())
