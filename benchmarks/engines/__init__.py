"""Engines on a GPU, measured: what each reaches alone, what clipdex reaches with it, and where the rest goes.

python -m benchmarks.engines.measure --plan PLAN --out DIR     on the GPU host: starts servers, loads them, JSON lines
python -m benchmarks.engines.draw DIR...                       anywhere: results/*.json, summary.json, docs/*.svg

clips.py      unique clips cut from real footage, and their proxies
servers.py    start an engine, wait for it, stop it
load.py       a bare load generator: ready-made proxies, so many in flight, nothing else
pipeline.py   the same server driven by clipdex, from stored clips: decoding included
plans/        what is measured, in which order
"""
