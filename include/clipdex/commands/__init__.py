"""The commands of clipdex, by topic. Each takes its arguments, which arguments.py read, and returns the exit code.

search.py      search, facets
captions.py    caption, compare, captions
evaluation.py  eval
ingest.py      ingest; plan.py: plan
quarantine.py  quarantine list, requeue, never, allow
upkeep.py      reindex, summarize, playback
serving.py     serve, token, mcp
terminal.py    what they share

What a command needs is imported when it runs, so that --help and a wrong argument are answered at once.
"""
