"""Errors of the JSON API, as its description names them."""

from typing import Any

from fastapi import HTTPException
from pydantic import BaseModel


class Problem(BaseModel):
    """Describe an error: what failed, why, and what to do."""

    detail: str


class Refused(HTTPException):
    """Refuse what a user who is logged in tried. The page of it is no login page."""


ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "No valid token"},
    404: {"model": Problem, "description": "Not found, or nothing is indexed yet"},
    422: {"model": Problem, "description": "A parameter is wrong"},
    429: {"model": Problem, "description": "Too many requests; Retry-After has the seconds"},
    503: {"model": Problem, "description": "The index or the store does not answer; Retry-After has the seconds"},
}
