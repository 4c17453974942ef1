"""# Prune clips

Every night: what runs left behind and nobody needs any more goes from the artifact store.

* **Goes**: plans, manifests, outcomes and reports of runs of which nothing was written for
  `CLIPDEX_STORE__RETENTION_DAYS`, and leases as old as that.
* **Stays**: captions, posters, and the last word on each clip: nothing is captioned again because of this.
* **A day that is worked on** keeps what it has until the next night.
* **Red**: clear it, or leave it to the next night. What is deleted is deleted, the rest goes then.
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
