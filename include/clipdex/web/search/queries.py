"""The parameters of a search, as the page, the exports and the JSON API read them."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from clipdex.index.diversity import DEFAULT
from clipdex.index.where import Where, with_days
from clipdex.web.parameters import A_DAY, CheckedDay, RangeQuery

MAX_LIMIT = 60


def _parse_diverse(given: Any) -> Any:
    """Return the diversity: the number, the default for what a form sends, 0 for an empty field."""
    return (
        {"": 0.0, "on": DEFAULT, "true": DEFAULT, "false": 0.0}.get(given, given) if isinstance(given, str) else given
    )


Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="The most clips")]
Diverse = Annotated[
    float,
    Field(ge=0, le=1, allow_inf_nan=False, description="How much the clips differ from each other: 0, as ranked"),
    BeforeValidator(_parse_diverse),
]


class FilterQuery(RangeQuery):
    """Hold filters, also by one day."""

    day: Annotated[str, Field(max_length=10, description=A_DAY), CheckedDay] = ""

    @property
    def filters(self) -> Where:
        """Return what Pipeline.search takes. Raises InvalidFilter."""
        return with_days(self.named, self.day, self.first, self.last)


class SearchQuery(FilterQuery):
    """Hold a query: q, words, or like, a clip_id; limit, the maximum number of clips; diverse, 0 to 1.

    weak: include clips that are probably no match
    """

    q: Annotated[str, Field(max_length=500, description="Words to search for")] = ""
    like: Annotated[str, Field(max_length=64, description="A clip_id, instead of words")] = ""
    limit: Limit = 12
    diverse: Diverse = 0.0
    weak: Annotated[bool, Field(description="Include clips that are probably no match")] = False

    @model_validator(mode="after")
    def _words_or_a_clip(self) -> Self:
        if self.q.strip() and self.like:
            raise ValueError("give q, words, or like, a clip_id, not both")
        return self


class FacetQuery(FilterQuery):
    """Hold the fields whose values are counted, none for all, and the number of values of each."""

    field: Annotated[
        list[Annotated[str, Field(max_length=64)]], Field(max_length=64, description="Fields to count; none for all")
    ] = []  # noqa: RUF012
    limit: Annotated[int, Field(ge=1, le=1000, description="The most values of a field")] = 10
