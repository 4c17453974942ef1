"""Runs: what a run has to do (planning), what happened to each clip (outcomes), and what a run did (report).

leases: one run at a time works on a day; retention: what old runs left behind goes; throughput: clips and tokens per
second, and what clips waited for.
"""
