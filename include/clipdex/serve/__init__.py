"""`clipdex serve`: the web app and its JSON API outside of Airflow, behind tokens.

    tokens.py      tokens: made, revoked, and read again when their file changes
    sessions.py    the cookie that a browser gets for a token
    rate_limit.py  how many requests a token, and how many failures an address, may have
    peer.py        which client sent a request, and under which name of this server
    gate.py        the middleware that admits or refuses each request
    routes.py      /health, /login, /logout
    server.py      the app with its gate, and the process that serves it

The server reads: it writes no token, nothing into the store and nothing into the index.
"""
