"""Caption and index one day of the configured archive batch by batch, as the tasks of the DAG do.

CLIPDEX_SOURCE__URL=/clips python examples/batch_by_batch.py 2026-11-03
"""

import sys

import clipdex

day = sys.argv[1]
pipeline = clipdex.Pipeline.open()
plan = pipeline.plan("by-hand.1", pipeline.survey([day], pipeline.criteria()))
for batch in plan.batches:
    try:
        print(batch.label, pipeline.caption(batch).to_json())
    except clipdex.EngineUnavailable as error:
        sys.exit(f"the engine does not answer: {error}")
    print(batch.label, pipeline.index(batch).to_json())
report = pipeline.report("by-hand.1")
print(report.total("indexed"), "clips indexed,", report.total("quarantined"), "quarantined")
