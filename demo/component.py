"""The name that a component of the Celery demo goes by, in place of the machine of its own that it has elsewhere."""

import os
import socket

VARIABLE = "CLIPDEX_COMPONENT"


def hostname() -> str:
    """Airflow's hostname_callable: what the UI shows as the host of a try."""
    return os.environ.get(VARIABLE) or socket.gethostname()
