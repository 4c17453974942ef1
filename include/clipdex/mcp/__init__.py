"""The Model Context Protocol: search for agents, `clipdex mcp`. Read-only, every result bounded.

    server.py      the four tools and their errors
    results.py     what they return, and how it is bounded
    transports.py  stdio, and streamable HTTP on a loopback address

The SDK is the package `mcp`; every import in here is absolute, so that it is found.
"""
