"""Startup: what a server reads before the first request needs it."""

import logging

from fastapi import FastAPI

from clipdex.runs.quarantine.catalog import QuarantineFilter
from clipdex.web.ingestion.overview import Overview
from clipdex.web.quarantine import page as quarantine

log = logging.getLogger(__name__)

_LONGEST_S = 60.0


def read_ahead(app: FastAPI) -> None:
    """Read the days and the quarantine as their pages show them. Log what prevents it: the pages report it. Blocks."""
    overview: Overview = app.state.overview
    try:
        overview.state(_LONGEST_S)
        quarantine.catalog(app, app.state.backend.pipeline().store).find(QuarantineFilter())
    except Exception as error:  # of settings, a driver or a server: nothing here may end the process
        log.warning("pages are not read ahead: %s", error)
