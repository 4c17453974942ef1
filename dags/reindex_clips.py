"""# Reindex clips

By hand: the index made anew from what is stored, for another embedding model, another way of chunking, or a collection
that is lost. No engine is asked for anything.

* **One map index is one day**, filled into a collection of its own. A retry, or another run, goes on where the last
  one stopped: what has its points there is left as it is.
* **Searches** read the former collection until the last task switches the alias, when every day is there. Then set
  what the params changed everywhere else, too, and trigger this once more for what was ingested meanwhile.
* **The former collection stays** until a person deletes it; the last task says its name.
* **Red**: a day is worked on by an ingestion, the index does not answer, or captions are gone from the store: the log
  says which. Clear it.
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
    default_args=DEFAULTS,
)
def reindex_clips():
    days = task(clipdex.days_to_reindex)()
    reindexed = task(
        clipdex.reindex,
        pool=clipdex.INDEXING,
        map_index_template="{{ days | default(task_instance.map_index) }}",
    ).expand(days=days)
    task(clipdex.serve, multiple_outputs=False)(reindexed)


reindex_clips()
