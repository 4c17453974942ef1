"""Runs: plan a run, record the outcome of each clip, and report the totals.

planning: the batches of a run
outcomes: the journal of a batch and the ledger of a day
leases: one run at a time per day
report: the totals of a run, and whether they are acceptable
retention: deletion of old runs
throughput: clips and tokens per second, and waiting times
"""
