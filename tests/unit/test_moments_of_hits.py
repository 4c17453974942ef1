"""Test that a hit has the time of the paragraph that answers the query, also where one chunk holds several."""

import numpy as np
import pytest
from qdrant_client import QdrantClient

from clipdex.config import Chunking, Settings
from clipdex.index import Collection, make_points, replace, sparse_query
from clipdex.index.chunking import split
from clipdex.index.embeddings import open_embedder
from clipdex.index.moments import moment
from clipdex.index.search import search
from clipdex.storage.caption import Segment
from tests.support.indexes import caption, edge_opener, server_opener

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

PARAGRAPHS = (
    (0.0, 4.0, "A man in a blue coat walks along a street."),
    (4.0, 7.0, "A dog runs past the man and barks."),
    (7.0, 10.0, "The man sits down on a bench and reads a newspaper."),
)


def timed(paragraphs, **changes):
    segments = tuple(Segment(*one) for one in paragraphs)
    return caption("\n\n".join(text for *_, text in paragraphs), segments=segments, **changes)


@pytest.fixture(scope="module")
def model():
    return open_embedder(Settings().embedding, "en")


@pytest.fixture(params=["edge", "server"])
def index(request, tmp_path, model):
    client = QdrantClient(":memory:")
    opener = edge_opener(tmp_path) if request.param == "edge" else server_opener(client)
    stored = timed(PARAGRAPHS)
    chunks = split(stored, model, Chunking())
    assert len(chunks) == 1
    vectors = model.embed_documents([chunk.text for chunk in chunks])
    with opener(Collection.of(Settings(), model)) as index:
        index.ensure()
        replace(index, {"a": make_points("a", "a.mp4", "2026-11-03", stored, chunks, vectors)})
        yield index
    client.close()


@pytest.mark.parametrize(
    ("query", "times"),
    [
        ("a man in a blue coat", (0.0, 4.0)),
        ("running dogs", (4.0, 7.0)),
        ("the man reads newspapers", (7.0, 10.0)),
        ("a man", (0.0, 10.0)),  # in every paragraph
        ("a dog, then a bench", (4.0, 10.0)),  # one word of each
        ("a hound", (0.0, 10.0)),  # in none of them
    ],
)
def test_a_hit_has_the_time_of_the_paragraph_with_the_words(index, model, query, times):
    (hit,) = search(index, model, query, weak=True)
    assert (hit.start_s, hit.end_s) == (hit.hits[0].start_s, hit.hits[0].end_s) == times


def moment_of(paragraphs, query, language="en", **chunking):
    class Words:
        max_tokens = 500

        def count_tokens(self, text):
            return len(text.split())

    chunks = split(timed(paragraphs), Words(), Chunking(**chunking))
    (point,) = make_points("a", "a.mp4", "2026-11-03", timed(paragraphs), chunks, np.zeros((1, 8)))
    return moment(point.payload, sparse_query(query, language), language)


def test_paragraphs_in_russian():
    paragraphs = ((0.0, 3.0, "Мужчина идёт по улице."), (3.0, 9.0, "Собака бежит за велосипедистом."))
    assert moment_of(paragraphs, "бегущие собаки", "ru") == (3.0, 9.0)


def test_paragraphs_of_the_same_times_are_one_moment():
    paragraphs = ((0.0, 9.0, "A man walks."), (0.0, 9.0, "A dog runs."))
    assert moment_of(paragraphs, "a dog") == (0.0, 9.0)


def test_a_payload_of_an_earlier_release_spans_its_chunk():
    payload = {"text": "A man walks. A dog runs.", "start_s": 0.0, "end_s": 9.0}
    assert moment(payload, sparse_query("a dog"), "en") == (0.0, 9.0)


def test_a_query_of_stop_words_spans_the_chunk():
    assert moment_of(PARAGRAPHS, "what is it") == (0.0, 10.0)
