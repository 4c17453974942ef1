"""Define the folders of the demo."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DAG = "ingest_clips"


def home() -> Path:
    """Return CLIPDEX_HOME, or the repository."""
    return Path(os.environ.get("CLIPDEX_HOME") or REPOSITORY).absolute()


def airflow_home() -> Path:
    return home() / ".airflow"


def celery_home() -> Path:
    """Return the folder of the Celery demo (clips, store, index, Airflow), which each run recreates."""
    return home() / ".celery"
