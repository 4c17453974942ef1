"""Test clipdex eval end to end, over both backends and with the real embedding model."""

import hashlib
import json
import re

import numpy as np
import pytest

from clipdex.cli import main
from clipdex.config import Settings
from clipdex.errors import ConfigurationError, IndexUnavailable, NothingIndexed
from clipdex.evaluation import Judgement, Judgements, Variant, evaluate
from clipdex.evaluation.embedding import SharedEmbedder
from clipdex.index import Collection, open_index, replace
from clipdex.index.embeddings import open_embedder
from clipdex.index.search import search_once
from clipdex.pipeline import Pipeline
from clipdex.stages.index import CaptionedClip, points_of
from tests.support.indexes import caption
from tests.support.judgements import write_set
from tests.support.qdrant import QdrantServer

PEOPLE = {"a woman in a red coat": "lady wearing a scarlet jacket", "an old man": "elderly gentleman",
          "two children": "a pair of kids", "a police officer": "cop in uniform"}  # fmt: skip
DEEDS = {"rides a bicycle": "cycling", "feeds the pigeons": "giving food to birds", "paints a fence": "brushing paint",
         "plays the violin": "music on a string instrument", "repairs a car": "fixing a vehicle"}  # fmt: skip
AROUND = ["trees", "houses", "boats", "lamps", "flags", "hills", "shops", "buses", "kites", "tents", "walls", "gates",
          "stairs", "towers", "bridges", "fields", "clouds", "wires", "signs", "rocks"]  # fmt: skip
TEXTS, QUERIES = {}, []
for person, other_person in PEOPLE.items():
    for deed, other_deed in DEEDS.items():
        number = len(TEXTS)
        # Texts differ in length, so that no two are equally near.
        TEXTS[f"clip-{number:02d}"] = f"Here {person} {deed}. Around are {', '.join(AROUND[: number + 1])}."
        QUERIES.append(Judgement(f"{other_person} {other_deed}", f"clip-{number:02d}"))
SET = Judgements(tuple(QUERIES), TEXTS)
NO_CLIP = Judgement("zebra crossing elephants", "")


@pytest.fixture
def server():
    with QdrantServer() as server:
        yield server


@pytest.fixture(params=["edge", pytest.param("server", marks=pytest.mark.slow)])
def settings(request, tmp_path, monkeypatch) -> Settings:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    url = request.getfixturevalue("server").url if request.param == "server" else ""
    return Settings.load(home=tmp_path / "home", index={"url": url, "lock_wait_s": 5})


def variants(*texts):
    return [Variant.parsed(text, "--variant", group="") for text in texts]


def serve(settings: Settings, texts: dict[str, str]) -> None:
    """Index the texts under the alias that searches read. Equal scores are ordered by id, which depends on the key."""
    model = open_embedder(settings.embedding)
    captions = {
        clip_id: caption(text, key=hashlib.sha256(text.encode()).hexdigest()[:32]) for clip_id, text in texts.items()
    }
    clips = [CaptionedClip(clip_id, f"{clip_id}.mp4", "2026-11-03", one) for clip_id, one in captions.items()]
    with open_index(settings, Collection.of(settings, model)) as index:
        index.ensure()
        replace(index, points_of(settings, model, clips))


def left(settings: Settings, request) -> list[str]:
    """Return what is stored: collections and aliases of the server, or files of the embedded index and of TMPDIR."""
    if settings.index.url:
        client = request.getfixturevalue("server").client
        collections = [one.name for one in client.get_collections().collections]
        return sorted(collections + [one.alias_name for one in client.get_aliases().aliases])
    folder = settings.edge_path
    served = [path.name for path in folder.iterdir() if path.name != "waiting"] if folder.exists() else []
    return sorted(served + [path.name for path in (settings.home.parent / "tmp").glob("clipdex-*")])


def test_the_default_and_its_variants_are_measured(settings, request):
    shown = []
    found = evaluate(
        settings,
        Judgements((*SET.queries, NO_CLIP), TEXTS),
        variants("dense:search.mode=dense", "words:search.mode=sparse", "small:chunking.tokens=16,chunking.overlap=0"),
        lambda *progress: shown.append(progress),
    )
    result = json.loads(json.dumps(found.to_json()))
    assert set(result) == {"default", "variants"} and set(result["variants"]) == {"dense", "words", "small"}
    default, words = result["default"], result["variants"]["words"]
    wanted = {"recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10", "p50_ms", "p95_ms", "queries", "kept", "empty"}
    assert wanted <= set(default)
    assert (default["queries"], default["unanswerable"], default["clips"], default["chunks"]) == (20, 1, 20, 20)
    assert 0 < words["recall@1"] < default["recall@1"] <= default["recall@5"] <= default["recall@10"] <= 100
    assert default["recall@1"] <= default["mrr@10"] <= default["ndcg@10"] <= default["recall@10"]
    assert (default["kept"], default["empty"]) == (100, 100)
    assert 0 < default["p50_ms"] <= default["p95_ms"]
    assert all(low <= default[name] <= high for name, (low, high) in default["intervals"].items())
    assert words["against_default"]["recall@1"]["difference"] == pytest.approx(words["recall@1"] - default["recall@1"])
    assert result["variants"]["small"]["chunks"] > 20
    assert "against_default" not in default
    assert ("words: search", 21, 21) in shown and ("small: index", 20, 20) in shown
    assert left(settings, request) == []


@pytest.mark.parametrize("settings", ["edge"], indirect=True)  # the server costs three times the time
def test_every_ranking_is_that_of_the_product(settings):
    """Judge the texts of a file, the same texts as served captions, and searches by hand: all figures are the same."""
    serve(settings, TEXTS)
    given = variants("w:search.dense_weight=3,search.density_weight=0")
    of_texts, of_served = evaluate(settings, SET, given), evaluate(settings, Judgements(SET.queries), given)
    for name in ("default", "w"):
        one, other = (found.to_json() for found in (of_texts, of_served))
        one, other = (
            {key: value for key, value in (found["default"] if name == "default" else found["variants"][name]).items()
             if not key.endswith("_ms")} for found in (one, other)
        )  # fmt: skip
        assert one == other
    model = open_embedder(settings.embedding)
    first = [search_once(settings, model, one.query, limit=1)[0].clip_id == one.clip_id for one in QUERIES]
    assert of_texts.default.figures["recall@1"].value == pytest.approx(100 * np.mean(first))


def test_the_served_index_is_not_touched(settings, request):
    serve(settings, {"served": "A cat sleeps."})
    before = left(settings, request)
    with open_index(settings) as index:
        points = {hit.id: hit.payload for hit in index.scroll()}
    evaluate(settings, SET, variants("small:chunking.tokens=16,chunking.overlap=0"))
    assert left(settings, request) == before
    with open_index(settings) as index:
        assert {hit.id: hit.payload for hit in index.scroll()} == points


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, IndexUnavailable])
@pytest.mark.parametrize("where", ["default: index", "default: search", "small: index"])
def test_an_evaluation_that_is_stopped_leaves_nothing(settings, request, where, error):
    def stop(what, done, total):
        if what == where and done:
            raise error("stopped")

    with pytest.raises(error):
        evaluate(settings, SET, variants("small:chunking.tokens=16,chunking.overlap=0"), stop)
    assert left(settings, request) == []


def test_clips_that_the_served_index_lacks_are_named(settings):
    serve(settings, {clip_id: TEXTS[clip_id] for clip_id in list(TEXTS)[:10]})
    found = evaluate(settings, Judgements(SET.queries))
    assert found.missing == tuple(list(TEXTS)[10:])
    assert found.default.figures["recall@10"].value <= 50 and found.default.queries == 20
    with pytest.raises(ConfigurationError, match=r"none of the 1 clips is in the served index clips-\w+, such as gone"):
        evaluate(settings, Judgements((Judgement("a cat", "gone"),)))


def test_a_served_index_is_judged_only_as_it_is(settings):
    with pytest.raises(NothingIndexed):
        evaluate(settings, Judgements(SET.queries))
    serve(settings, TEXTS)
    with pytest.raises(
        ConfigurationError, match=r"--variant small changes what is indexed.*give the text of each clip"
    ):
        evaluate(settings, Judgements(SET.queries), variants("small:chunking.tokens=16,chunking.overlap=0"))


def test_two_served_indexes_are_compared(settings):
    """As with the captions of two engines, each under its own alias."""
    serve(settings, TEXTS)
    other = settings.changed({"index": {"alias": "other"}})
    serve(other, {clip_id: f"{text.split('Around')[0]}" for clip_id, text in list(TEXTS.items())[:15]})
    found = evaluate(settings, Judgements(SET.queries), variants("other:index.alias=other"))
    assert found.missing == tuple(list(TEXTS)[15:])
    assert found.to_json()["variants"]["other"]["against_default"]["recall@10"]["difference"] < 0
    assert (found.default.clips, found.variants["other"].clips) == (20, 15)


class Counting:
    """Use an embedder, and record each text that it gets."""

    def __init__(self, model):
        self._model, self.texts = model, []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def embed_documents(self, texts):
        self.texts += texts
        return self._model.embed_documents(texts)

    embed_queries = embed_documents


def test_no_text_is_embedded_twice():
    model = Counting(open_embedder(Settings().embedding))
    shared = SharedEmbedder(model)
    texts = ["a red car", "a cat", "a red car"]
    vectors = shared.embed_documents(texts)
    assert np.abs(vectors - open_embedder(Settings().embedding).embed_documents(texts)).max() < 1e-5
    shared.embed_documents(["a cat", "the sea"])
    assert model.texts == ["a red car", "a cat", "the sea"]
    assert shared.embed_documents([]).shape == (0, 384)
    for _ in range(2):
        assert shared.embed_query("a query").shape == (384,)
    assert model.texts[3:] == ["a query"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a:search.mod=dense"], r"--variant a: there is no setting search\.mod; this group has search\.mode, search"),
        (["a:serch.mode=dense"], r"--variant a: there is no group of settings 'serch'; the groups are source, store"),
        (["a:search.mode=best"], r"--variant a: settings: CLIPDEX_SEARCH__MODE: Input should be 'hybrid', 'dense' or"),
        (["a:search.rrf_k=0"], r"--variant a: settings: CLIPDEX_SEARCH__RRF_K: Input should be greater than or equal"),
        (["a:search.dense_weight=0,search.sparse_weight=0"], r"are both 0: one of the rankings must count"),
        (["a:chunking.tokens=16"], r"--variant a: settings: CLIPDEX_CHUNKING: .*overlap 32 must be below tokens 16"),
        (["a:embedding.model=no/such"], r"--variant a: embedding model 'no/such' is neither a folder nor in the local"),
        (["a:mode=dense"], r"--variant a:mode=dense: 'mode=dense' is not key=value, such as search\.mode=dense"),
        (["search.mode=dense"], r"--variant search\.mode=dense: begin with a name"),
        (["a:search.mode=dense", "a:search.mode=sparse"], r"two variants are called 'a': give each --variant a unique"),
        (["default:search.mode=dense"], r"--variant default: the unchanged settings have this name: choose another"),
    ],
)
def test_a_wrong_variant_is_one_line_before_anything_is_embedded(tmp_path, monkeypatch, capsys, given, message):
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))
    file = write_set(tmp_path / "set.jsonl", SET)
    assert main(["eval", str(file), *(word for text in given for word in ("--variant", text))]) == 2
    output = capsys.readouterr()
    [line] = output.err.splitlines()
    assert line.startswith("clipdex eval: ") and output.out == ""
    assert re.search(message, line)


def test_the_command_prints_a_table_or_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path / "home"))
    file = write_set(tmp_path / "set.jsonl", Judgements((*SET.queries[:4], NO_CLIP), dict(list(TEXTS.items())[:8])))
    with file.open("a") as stream:
        stream.write('{"clip_id": "clip-00", "query": "a bicycle", "lang": "en"}\n')
    command = ["eval", str(file), "--variant", "dense:search.mode=dense"]
    assert main(command) == 0
    output = capsys.readouterr()
    assert all(word in output.out for word in ("5 queries, 1 without a clip; 8 clips", "recall@10", "ndcg@10", "p95"))
    assert "dense" in output.out and "the unknown field lang of 1 lines is ignored" in output.err
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["default"]["queries"] == 5 and set(result["variants"]) == {"dense"}
    assert Pipeline.open().evaluate(str(file)).default.queries == 5
    assert not (tmp_path / "home").exists()
