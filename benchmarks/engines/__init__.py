"""Measure engines on a GPU: the rate of each alone, the rate with clipdex, and the causes of the difference.

python -m benchmarks.engines.measure --plan PLAN --out DIR     on the GPU host: starts servers, loads them, JSON lines
python -m benchmarks.engines.draw DIR...                       anywhere: results/*.json, summary.json, docs/*.svg

clips.py      unique clips cut from real footage, and their proxies
servers.py    start an engine, wait for it, stop it
load.py       a bare load generator: prepared proxies, fixed number in flight
pipeline.py   the same server driven by clipdex, from stored clips: decoding included
plans/        the measurements, in order
"""
