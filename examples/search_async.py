"""Search from an event loop, several queries at once.

python examples/search_async.py "a red car" "a dog"
"""

import asyncio
import sys

import clipdex


async def main(queries: list[str]) -> None:
    pipeline = clipdex.Pipeline.open()
    answers = await asyncio.gather(*(pipeline.asearch(query, limit=3) for query in queries))
    for query, hits in zip(queries, answers, strict=True):
        print(query, [hit.uri for hit in hits])


try:
    asyncio.run(main(sys.argv[1:]))
except clipdex.NothingIndexed as error:
    sys.exit(f"nothing to search: {error}")
