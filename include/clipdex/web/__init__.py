"""The web app: search the clips, look at what happened to a batch. Airflow's API server mounts it (plugins/).

    app.py       create_app: one guard before every route, headers, errors as pages or as JSON
    backend.py   what the pages read: settings, store, index; off the event loop, a bounded number at a time
    search.py    /, /api/search, /posters/CONTENT.jpg
    batches.py   /batches/RUN/DAY/BATCH, and the same below /api
    assets.py    /static/NAME
    pages/       templates; static/ what they load. Nothing comes from elsewhere.

A new page is a module with a router, named in app.py; the guard and the error pages come with that.
"""
