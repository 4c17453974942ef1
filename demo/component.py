"""Name the components of the Celery demo, which share one machine, for Airflow's UI."""

import os
import socket

VARIABLE = "CLIPDEX_COMPONENT"


def hostname() -> str:
    """Return the host name of a try for the UI (Airflow's hostname_callable)."""
    return os.environ.get(VARIABLE) or socket.gethostname()
