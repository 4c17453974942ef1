"""Test the LangChain retriever over a real index: documents, calls, chains, callbacks, and errors."""

import asyncio

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from pydantic import ValidationError

from clipdex import EmptyQuery, InvalidFilter, NothingIndexed, Settings
from clipdex.config import REPOSITORY
from clipdex.index.edge import is_wanted, locked
from clipdex.langchain import ClipRetriever
from tests.support.indexes import SCENES, small_archive


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return small_archive(tmp_path_factory.mktemp("home"))


@pytest.fixture
def retriever(settings) -> ClipRetriever:
    return ClipRetriever.from_settings(settings, limit=3)


def ids(documents: list[Document]) -> list[str]:
    return [document.metadata["clip_id"] for document in documents]


def test_a_document_is_the_best_chunk_of_a_clip_with_its_times_and_metadata(retriever):
    [document] = retriever.invoke("house number 7", limit=1)
    [hit] = retriever.pipeline.search("house number 7", limit=1)
    assert document.page_content == hit.text and "number 7 " in document.page_content
    assert document.metadata == {
        "clip_id": "street", "uri": "street.mp4", "day": "2026-11-04", "start_s": hit.start_s, "end_s": hit.end_s,
        "duration_s": 12.0, "recorded_at": "2026-11-04T10:00:00Z", "score": hit.score, "relevance": hit.relevance,
        "weak": False, "camera": "cam-7",
    }  # fmt: skip
    with retriever.pipeline.open_index() as index:
        [point] = [one for one in index.scroll({"clip_id": "street"}) if one.id == document.id]
    assert point.payload["text"] == document.page_content


def test_several_chunks_of_a_clip_are_documents_of_their_own(retriever):
    documents = retriever.invoke("house number 7", limit=1, chunks=3)
    assert ids(documents) == ["street"] * 3
    assert len({document.id for document in documents}) == len({one.metadata["start_s"] for one in documents}) == 3
    assert documents[0] == retriever.invoke("house number 7", limit=1)[0]
    scores = [document.metadata["score"] for document in documents]
    assert scores == sorted(scores, reverse=True)


def test_a_call_changes_the_search_for_itself_alone(retriever):
    assert sorted(ids(retriever.invoke("a red car"))) == ["car", "street"]
    assert ids(retriever.invoke("a red car", where={"camera": "cam-7"})) == ["street"]
    assert ids(retriever.bind(where={"day": "2026-11-03"}).invoke("a red car")) == ["car"]
    assert len(retriever.invoke("a red car", weak=True, limit=6)) == 6
    assert len(retriever.invoke("a red car", weak=True, diversity=1.0)) == 3
    narrow = ClipRetriever(pipeline=retriever.pipeline, where={"day": "2026-11-04"}, weak=True)
    assert ids(narrow.invoke("a cat sleeps")) == ["street"]
    assert ids(narrow.invoke("a cat sleeps", where=None, limit=1)) == ["cat"]


def test_it_answers_in_a_chain_and_in_batches(retriever):
    model = FakeListChatModel(responses=["It turns left."])
    prompts: list[str] = []

    def remember(prompt):
        prompts.append(prompt.to_string())
        return prompt

    def text(documents: list[Document]) -> str:
        return "\n".join(f"{one.metadata['uri']}: {one.page_content}" for one in documents)

    template = ChatPromptTemplate.from_template("{context}\n\n{question}")
    question = {"context": retriever | text, "question": RunnablePassthrough()}
    chain = question | template | remember | model | StrOutputParser()
    assert chain.invoke("what does the red car do at the crossing") == "It turns left."
    assert SCENES["car"] in prompts[0] and "car.mp4" in prompts[0]
    queries = ["a cat sleeps", "waves on a beach", "text on a wall"] * 4
    assert [ids(one)[0] for one in retriever.batch(queries)] == ["cat", "sea", "sign"] * 4


async def on_a_busy_index(retriever: ClipRetriever, settings: Settings) -> list[list[Document]]:
    """Retrieve while this very loop holds the index: it can only be released if the loop goes on."""
    retriever.pipeline.embedder.embed_query("a clip")
    with locked(settings.edge_path, 60):
        waiting = [asyncio.create_task(retriever.ainvoke(query)) for query in ("a cat sleeps", "waves on a beach")]
        while not (is_wanted(settings.edge_path) or any(one.done() for one in waiting)):  # noqa: ASYNC110 (threads wait)
            await asyncio.sleep(0.01)
        assert not any(one.done() for one in waiting)
    return await asyncio.gather(*waiting)


def test_the_event_loop_goes_on_while_the_index_is_searched(retriever, settings):
    found = asyncio.run(on_a_busy_index(retriever, settings))
    assert [ids(one)[0] for one in found] == ["cat", "sea"]


class Events(BaseCallbackHandler):
    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []

    def on_retriever_start(self, serialized, query, *, tags=None, **_):
        self.seen.append(("start", (query, tags)))

    def on_retriever_end(self, documents, **_):
        self.seen.append(("end", len(documents)))

    def on_retriever_error(self, error, **_):
        self.seen.append(("error", type(error)))


def test_callbacks_see_the_query_the_documents_and_the_error(retriever, settings):
    events = Events()
    config = {"callbacks": [events]}
    tagged = ClipRetriever.from_settings(settings, tags=["clips"])
    tagged.invoke("a cat sleeps", config, limit=1)
    with pytest.raises(InvalidFilter):
        asyncio.run(tagged.ainvoke("a cat", config, where={"camara": "cam-7"}))
    start = ("start", ("a cat sleeps", ["clips"]))
    assert events.seen == [start, ("end", 1), ("start", ("a cat", ["clips"])), ("error", InvalidFilter)]


def test_a_wrong_call_is_an_error_that_says_what_is_wrong(retriever, tmp_path):
    with pytest.raises(InvalidFilter, match="there is no field camara; did you mean camera"):
        retriever.invoke("a cat", where={"camara": "cam-7"})
    with pytest.raises(EmptyQuery, match="the query is empty"):
        retriever.invoke(" ")
    with pytest.raises(TypeError, match="has no argument 'k'; a call takes limit, chunks, where"):
        retriever.invoke("a cat", k=3)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        retriever.invoke("a cat", limit=0)
    with pytest.raises(NothingIndexed, match="run an ingestion first"):
        ClipRetriever.from_settings(Settings.load(home=tmp_path)).invoke("a cat")


@pytest.mark.parametrize("section", ["Python", "LangChain"])
def test_the_examples_of_the_page_run(settings, section, monkeypatch, capsys):
    monkeypatch.setenv("CLIPDEX_HOME", str(settings.home))
    page = (REPOSITORY / "docs/programs.md").read_text().partition(f"\n## {section}\n")[2]
    exec(page.partition("```python\n")[2].partition("```")[0], {})
    shown = capsys.readouterr().out
    assert "car.mp4" in shown and SCENES["car"] in shown
