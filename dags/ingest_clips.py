"""# Ingest clips

Every night: yesterday's new clips → captions → chunks → Qdrant, and a look back for what arrived late.

* **Backfill an archive**: Trigger → Backfill, choose the days. *Missing and Errored Runs* repairs a red day; a day that
  is done costs a listing.
* **By hand**: Trigger, and give a `day` or a `prefix`.
* **One map index is one batch**, named for its first clip. A retry goes on where the last try stopped: nothing that is
  captioned is asked for again. Read the log of a try: one line a phase, one line a failed clip.
* **Red** means that a planned clip has no final outcome: clear the failed tasks, or backfill the day.
"""

from datetime import datetime, timedelta

from airflow.sdk import AsyncCallback, CronPartitionTimetable, DeadlineAlert, DeadlineReference, dag, task, task_group

from clipdex import airflow_tasks as clipdex

NIGHTLY = CronPartitionTimetable("0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d")

DEFAULTS = clipdex.DEFAULTS | {"execution_timeout": timedelta(minutes=30)}

# Counted from the moment at which a run is queued, since a run for a partition has no logical date.
SEARCHABLE_IN_TIME = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(hours=12),
    callback=AsyncCallback(clipdex.searchable_too_late),
    name="searchable by noon",
)


@dag(
    schedule=NIGHTLY,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=4,
    doc_md=__doc__,
    tags=["clips"],
    params=clipdex.PARAMS,
    default_args=DEFAULTS,
    deadline=SEARCHABLE_IN_TIME,
)
def ingest_clips():
    discover = task(clipdex.discover)()

    @task_group
    def process(batch):
        caption = task(
            clipdex.caption,
            multiple_outputs=False,  # one XCom for all the counts
            pool=clipdex.CAPTIONING,
            weight_rule="upstream",
            execution_timeout=timedelta(hours=2),
            map_index_template="{{ batch_label | default(task_instance.map_index) }}",
        )
        index = task(
            clipdex.index,
            multiple_outputs=False,
            pool=clipdex.INDEXING,
            weight_rule="upstream",
            trigger_rule="all_done",
            map_index_template="{{ batch_label | default(task_instance.map_index) }}",
        )
        caption(batch) >> index(batch)

    report = task(clipdex.report, trigger_rule="all_done", retries=1)()
    discover_and_process = process.expand(batch=discover)
    discover_and_process >> report >> task(clipdex.publish, outlets=[clipdex.CLIPS])(report)


ingest_clips()
