"""# Ingest clips

Process yesterday's new clips every night: caption, chunk, embed, upsert into Qdrant. Include clips that arrived late.
Days are those of `CLIPDEX_SOURCE__TIMEZONE`.

* **Backfill an archive**: Trigger → Backfill, choose the days. *Missing and Errored Runs* repairs a failed day. A
  completed day costs one listing.
* **Run by hand**: Trigger, with a `day` or a `prefix`.
* **One map index is one batch**, labelled with its first clip. A retry continues where the last try stopped: stored
  captions are not requested again. The log of a try has one line per phase and one line per failed clip.
* **Failed run**: a planned clip has no final outcome. Clear the failed tasks, or backfill the day.
"""

from datetime import datetime, timedelta

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference, dag, task, task_group

from clipdex import airflow_tasks as clipdex
from clipdex.airflow_timetable import DayTimetable
from clipdex.config import source_timezone

NIGHTLY = DayTimetable(source_timezone())

DEFAULTS = clipdex.DEFAULTS | {"execution_timeout": timedelta(minutes=30)}

# Counted from the time the run is queued: a partitioned run has no logical date.
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
    user_defined_macros=clipdex.LABELS,
    default_args=DEFAULTS,
    deadline=SEARCHABLE_IN_TIME,
)
def ingest_clips():
    discover = task(clipdex.discover)()

    @task_group
    def process(batch):
        caption = task(
            clipdex.caption,
            multiple_outputs=False,  # one XCom with all counts
            pool=clipdex.CAPTIONING,
            weight_rule="upstream",
            execution_timeout=timedelta(hours=2),
            map_index_template="{{ batch_label(task.op_args[0]) }}",
        )
        index = task(
            clipdex.index,
            multiple_outputs=False,
            pool=clipdex.INDEXING,
            weight_rule="upstream",
            trigger_rule="all_done",
            map_index_template="{{ batch_label(task.op_args[0]) }}",
        )
        caption(batch) >> index(batch)

    report = task(clipdex.report, trigger_rule="all_done", retries=1)()
    discover_and_process = process.expand(batch=discover)
    discover_and_process >> report >> task(clipdex.publish, outlets=[clipdex.CLIPS])(report)


ingest_clips()
