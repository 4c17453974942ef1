"""Test that a cross-encoder orders the best clips again, with a tiny one of random weights."""

import numpy as np
import pytest

from clipdex.config import Search, Settings
from clipdex.errors import ConfigurationError
from clipdex.index import Collection
from clipdex.index.embeddings import open_embedder
from clipdex.index.search import search
from tests.support.indexes import SCENES, edge_opener, fill

QUERY = "a red car turns left"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Return the folder of a cross-encoder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("cross-encoder")
    words = sorted({word.strip('.,:"').lower() for text in (*SCENES.values(), QUERY) for word in text.split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(4)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(words) + 5, num_labels=1, initializer_range=0.5, **size)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model():
    return open_embedder(Settings().embedding, "en")


@pytest.fixture
def index(tmp_path, model):
    with edge_opener(tmp_path)(Collection.of(Settings.load(home=tmp_path), model)) as index:
        index.ensure()
        fill(index, model, SCENES)
        yield index


def found(index, model, **how):
    return search(index, model, QUERY, weak=True, how=Search(**how))


def test_the_best_clips_have_the_order_and_the_scores_of_the_cross_encoder(index, model, encoder):
    from sentence_transformers import CrossEncoder

    scores = CrossEncoder(str(encoder), device="cpu").predict([(QUERY, text) for text in SCENES.values()])
    expected = [list(SCENES)[number] for number in np.argsort(-scores)]
    hits = found(index, model, reranker=str(encoder))
    assert [hit.clip_id for hit in hits] == expected
    assert [hit.score for hit in hits] == pytest.approx(sorted(map(float, scores), reverse=True), abs=1e-4)
    assert [hit.clip_id for hit in found(index, model)] != expected


def test_it_reads_no_more_clips_than_are_set_or_wanted(index, model, encoder):
    first_two = {hit.clip_id for hit in found(index, model)[:2]}
    hits = search(index, model, QUERY, limit=2, weak=True, how=Search(reranker=str(encoder), rerank=1))
    assert {hit.clip_id for hit in hits} == first_two


def test_relevance_stays_that_of_the_search(index, model, encoder):
    before = {hit.clip_id: hit.relevance for hit in found(index, model)}
    assert {hit.clip_id: hit.relevance for hit in found(index, model, reranker=str(encoder))} == before


def test_a_missing_cross_encoder_names_the_setting(index, model, tmp_path):
    with pytest.raises(ConfigurationError, match=r"reranker 'none/such' is neither a folder.*CLIPDEX_SEARCH__RERANKER"):
        found(index, model, reranker="none/such")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"CLIPDEX_SEARCH__RERANKER: .*cannot be loaded"):
        found(index, model, reranker=str(tmp_path / "empty"))
