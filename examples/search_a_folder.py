"""Make a folder of clips searchable, and search it.

python examples/search_a_folder.py ~/Videos "people riding bicycles"
"""

import sys

import clipdex

folder, query = sys.argv[1:]
pipeline = clipdex.Pipeline.open()
result = pipeline.ingest(folder)
print(f"{result.report.total('captioned')} clips captioned, {result.report.total('quarantined')} quarantined")
for hit in pipeline.search(query, limit=5):
    print(f"{hit.score:.3f}  {hit.uri}  {hit.start_s:.1f}-{hit.end_s:.1f} s  {hit.text[:80]}")
