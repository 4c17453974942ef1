"""The web app: search the clips, watch the ingestion, and repair what is in quarantine.

Airflow's API server mounts it (plugins/), and `clipdex serve` serves it. A folder per part that users see:

    search/      the page of search, its exports, its JSON API
    clips/       one clip: its page, its record, its player, its picture and playback
    ingestion/   the page of ingestion, and those of runs and batches, which are also tabs in Airflow
    quarantine/  the clips in quarantine; try them again, or never

and what they share:

    app.py       create_app: one guard before every route, headers, errors as pages or as JSON
    backend.py   settings, store and index, read in a bounded number of threads
    parameters.py, problems.py: of several routes; reference.py: /openapi.json, /reference
    rendering.py templates and URLs; links.py: addresses of pictures and videos
    assets.py    /static/NAME
    operations.py  what the host lets users start; csrf.py: the checks of the forms that do
    pages/       templates; static/ their assets. No external resources.

Imports go from the folders to what they share, and from search to clips. A new page is a module with a router, named in
the __init__ of its folder. The guard and the error pages then apply to it.
"""
