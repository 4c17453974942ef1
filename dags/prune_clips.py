"""# Prune clips

Delete expired run artifacts from the artifact store every night.

* **Deleted**: plans, manifests, outcomes and reports of runs without a write for `CLIPDEX_STORE__RETENTION_DAYS`, and
  leases of the same age.
* **Kept**: captions, posters, and the last outcome of each clip. No clip is captioned again.
* **A day with an active run** is skipped until the next night.
* **Failed run**: clear it, or wait for the next night, which deletes the rest.
"""

from datetime import datetime, timedelta

from airflow.sdk import dag, task

from clipdex import airflow_tasks as clipdex

NIGHTLY = "0 6 * * *"

DEFAULTS = {
    "owner": "clipdex",
    "retries": 2,
    "retry_delay": timedelta(minutes=5),
    "retry_policy": clipdex.RETRY_POLICY,
    "execution_timeout": timedelta(hours=2),
}


@dag(
    schedule=NIGHTLY,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["clips"],
    default_args=DEFAULTS,
)
def prune_clips():
    task(clipdex.prune)()


prune_clips()
