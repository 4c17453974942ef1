"""# Reindex clips

Rebuild the index by hand from stored captions: for another embedding model, other chunking, or a lost collection.
Send no requests to engines.

* **One map index is one day**. All days are written to one new collection. A retry or another run continues where the
  last one stopped: clips with points in the new collection are skipped.
* **Searches** read the old collection until the last task switches the alias, after all days are complete. Then
  make the same change in the `CLIPDEX_*` settings of every process, and trigger this DAG again for clips ingested
  meanwhile.
* **The old collection stays** until a person deletes it; the last task logs its name.
* **Failed run**: an ingestion holds a day, the index does not answer, or captions are missing from the store. Read the
  log for the cause, then clear the task.
"""

from datetime import datetime, timedelta

from airflow.sdk import dag, task

from clipdex import airflow_tasks as clipdex

DEFAULTS = clipdex.DEFAULTS | {"execution_timeout": timedelta(hours=3)}


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["clips"],
    params=clipdex.REINDEX_PARAMS,
    user_defined_macros=clipdex.LABELS,
    default_args=DEFAULTS,
)
def reindex_clips():
    days = task(clipdex.days_to_reindex)()
    reindexed = task(
        clipdex.reindex,
        pool=clipdex.INDEXING,
        map_index_template="{{ days_label(task.op_kwargs['days']) }}",
    ).expand(days=days)
    task(clipdex.serve, multiple_outputs=False)(reindexed)


reindex_clips()
