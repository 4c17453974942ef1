"""The web app: search the clips and inspect the outcomes of a batch.

Airflow's API server mounts it (plugins/), and `clipdex serve` serves it.

    app.py       create_app: one guard before every route, headers, errors as pages or as JSON
    backend.py   settings, store and index, read in a bounded number of threads
    search.py    /, /posters/CONTENT.jpg
    clip_page.py /clips/ID, and /api/clips/ID/record, captions, outcomes
    player.py    /clips/ID/player, a part of both pages
    export.py    /export.csv, /export.json
    playback.py  /playbacks/CONTENT.mp4, in ranges
    api.py       /api/search, /api/similar, /api/facets, /api/days, /api/clips/ID
    problems.py  errors of the JSON API
    batches.py   /batches/RUN/DAY/BATCH, and the same below /api: outcomes and tries
    runs.py      /runs/RUN, /api/runs/RUN; /tasks/…, /dag-runs/…, /dags/…: the tabs in Airflow
    quarantine.py  /quarantine, /quarantine.csv, /api/quarantine
    repair.py    /requeues/NAME; the forms that requeue clips or mark them, where operations.py starts runs
    csrf.py      the checks of these forms; links.py: links that not every host has
    assets.py    /static/NAME
    rendering.py templates and URLs
    pages/       templates; static/ their assets. No external resources.

A new page is a module with a router, included in app.py. The guard and the error pages then apply to it.
"""
