"""Quarantine: the clips without a caption, and what a person does about them.

by_day.py   the clips of one day, in a small object that is written with the day's ledger
catalog.py  those of all days, under filters, with counts; export.py: the same as CSV
marks.py    "never again": clips that no run tries
requeues.py "try again": which clips, in which runs, and how far they are
"""
