"""Ingestion: what runs now and how each day went, and what each run, batch and try did.

page.py       /ingestion, /api/ingestion, /api/stats; the form that backfills days
overview.py   what it shows, read beside the requests, as snapshots.py does; view.py: what is derived from it
statistics.py figures of days from their summaries; calendar.py, plots.py: how they are drawn
runs.py       /runs/RUN, /api/runs/RUN; /tasks/…, /dag-runs/…, /dags/…: the tabs in Airflow
batches.py    /batches/RUN/DAY/BATCH, and the same below /api: outcomes and tries
"""

from clipdex.web.ingestion import batches, page, runs

ROUTERS = (page.router, runs.router, batches.router)
WRITES = (page.writes,)
"""Only where operations.py starts runs."""
