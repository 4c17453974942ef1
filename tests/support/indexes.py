"""Open both index backends through one interface, and create small points."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import QdrantClient

from clipdex.config import Chunking, Settings
from clipdex.index import Collection, Index, Point, make_points, open_index, point_id, replace, sparse_document
from clipdex.index.chunking import split
from clipdex.index.embeddings import Embedder, open_embedder
from clipdex.index.server import ServerIndex
from clipdex.runs.outcomes import ClipOutcome, Outcome, add_to_ledger
from clipdex.storage.artifacts import Store
from clipdex.storage.caption import Caption, Segment

SMALL = Collection("clips-small", "small@1/8", 8)
OTHER = Collection("clips-other", "other@1/8", 8)

Opener = Callable[..., AbstractContextManager[Index]]
"""opener() opens the collection of the alias, opener(collection) that collection. Data persists between openings."""


def edge_opener(home: Path) -> Opener:
    settings = Settings.load(home=home, index={"lock_wait_s": 5})

    def opener(collection: Collection | None = None) -> AbstractContextManager[Index]:
        return open_index(settings, collection)

    return opener


def server_opener(client: QdrantClient) -> Opener:
    @contextmanager
    def opener(collection: Collection | None = None) -> Iterator[Index]:
        yield ServerIndex(client, "clips", collection)

    return opener


def http_opener(url: str) -> Opener:
    """Return an opener of collections on a server. Clips have the metadata camera and speed."""
    settings = Settings.load(index={"url": url}, source={"metadata": {"camera": "string", "speed": "number"}})

    def opener(collection: Collection | None = None) -> AbstractContextManager[Index]:
        return open_index(settings, collection)

    return opener


def point(clip_id: str, text: str, *, no: int = 0, key: str = "k", vector: Any = None, **payload: Any) -> Point:
    """Create a chunk of a clip; the default vector is a function of its text."""
    if vector is None:
        vector = np.random.default_rng(list(text.encode())).normal(size=SMALL.dimension)
    kept = {"clip_id": clip_id, "day": "2026-11-03", "chunk_no": no, "text": text, "caption_key": key, **payload}
    return Point(point_id(clip_id, key, no), [float(x) for x in vector], sparse_document(text), kept)


def caption(text: str, *, key: str = "k", duration_s: float = 10.0, segments: tuple[Segment, ...] = ()) -> Caption:
    return Caption(
        key=key, content="c" * 64, text=text, segments=segments, fingerprint="f" * 32, engine="detectors", model="m",
        prompt_tokens=0, completion_tokens=0, seconds=0.0, attempts=1, finish_reason="stop",
        created_at="2026-11-03T00:00:00Z", run="r", duration_s=duration_s, width=640, height=360, poster="",
    )  # fmt: skip


def clip_points(embedder: Any, clip_id: str, text: str, chunks: Any, day: str = "2026-11-03") -> list[Point]:
    vectors = embedder.embed_documents([chunk.text for chunk in chunks])
    return make_points(clip_id, f"{clip_id}.mp4", day, caption(text, key=f"key-{clip_id}"), chunks, vectors)


SCENES = {
    "bikes": "Two people ride bicycles along a road. The camera follows them to the right.",
    "car": "A red car turns left at a crossing and stops.",
    "cat": "A cat sleeps on a sofa. Nothing moves.",
    "sign": 'A door opens. Text on the wall: "EXIT 42B".',
    "sea": "Waves roll onto a beach at sunset.",
}


def fill(index: Index, model: Embedder, texts: Mapping[str, str], day: str = "2026-11-03") -> None:
    """Index texts by clip_id, as captions are indexed."""
    clips: dict[str, Sequence[Point]] = {}
    for clip_id, text in texts.items():
        clips[clip_id] = clip_points(model, clip_id, text, split(caption(text), model, Chunking()), day)
    replace(index, clips)


STREET = [f"In part {n} a red car passes the house number {n} and its garden." for n in range(12)]
"""The caption of the clip "street" in small_archive(), one sentence per second."""


def small_archive(home: Path) -> Settings:
    """Index SCENES as clips of 2026-11-03, and "street", of several chunks and with a camera, as one of 2026-11-04.

    The store has the caption of "street" alone. "broken", of 2026-11-04, is in quarantine.
    """
    settings = Settings.load(home=home, source={"metadata": {"camera": "string"}}, index={"lock_wait_s": 60})
    model, store, day = open_embedder(settings.embedding), Store.open(settings), "2026-11-04"
    segments = tuple(Segment(n, n + 1.0, text) for n, text in enumerate(STREET))
    stored = caption(" ".join(STREET), key="a" * 32, duration_s=12.0, segments=segments)
    chunks = split(stored, model, Chunking(tokens=48, overlap=0))
    vectors = model.embed_documents([chunk.text for chunk in chunks])
    more = {"camera": "cam-7", "recorded_at": "2026-11-04T10:00:00Z", "recorded_from": "path"}
    with open_index(settings, Collection.of(settings, model)) as index:
        index.ensure()
        fill(index, model, SCENES)
        replace(index, {"street": make_points("street", "street.mp4", day, stored, chunks, vectors, more)})
    store.write_caption(stored)
    broken = ClipOutcome(
        "broken", "broken.mp4", day, "v1", Outcome.QUARANTINED, "b1", "not_a_video", "it is a web page",
        at="2026-11-04T12:00:00.000+00:00",
    )  # fmt: skip
    add_to_ledger(store, day, [broken])
    return settings
