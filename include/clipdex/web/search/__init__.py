"""Search: its page, its exports and its JSON API.

page.py        /
export.py      /export.csv, /export.json
api.py         /api/search, /api/similar, /api/facets, /api/days, /api/clips/ID
queries.py     the parameters of all of them; hits.py: the clips that they return
filter_form.py filters as controls; narrowing.py: links that change one filter
"""

from clipdex.web.search import api, export, page

ROUTERS = (page.router, export.router, api.router)
