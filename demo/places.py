"""Where the demo keeps its state."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DAG = "ingest_clips"


def home() -> Path:
    """CLIPDEX_HOME, or the repository."""
    return Path(os.environ.get("CLIPDEX_HOME") or REPOSITORY).absolute()


def airflow_home() -> Path:
    return home() / ".airflow"


def celery_home() -> Path:
    """Of the Celery demo: clips, store, index and Airflow, made anew each time."""
    return home() / ".celery"
