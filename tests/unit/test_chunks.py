"""Chunks: no text is lost, no chunk is too long, and chunks end where sentences end."""

import random
import re
from itertools import pairwise

import pytest

from clipdex.config import Chunking, Embedding
from clipdex.index.chunking import split
from clipdex.index.embeddings import open_embedder
from clipdex.storage.caption import Segment
from tests.support.indexes import caption

WORDS = ["a", "the", "red", "car", "rider", "turns", "slowly", "left", "towards", "street", "camera", "bicycles"]
ODD_WORDS = ["unquestionably", "Übergröße", "naïve", "x264", "3.5", "e.g.", "Mr.", "EXIT", "25%"]


@pytest.fixture(scope="module")
def model():
    return open_embedder(Embedding())


def random_text(rng, sentences):
    """Return sentences of many lengths with many kinds of endings, some without a space after them."""
    parts = []
    for _ in range(sentences):
        length = rng.choice([1, 3, 8, 20, 20, 60])
        parts.append(
            " ".join(rng.choices(WORDS + ODD_WORDS, k=length)) + rng.choice([".", "!", "?", '."', "…", ";", ""])
        )
        parts.append(rng.choice([" ", " ", " ", "\n", "\n\n", "  "]))
    return "".join(parts)


def without_spaces(text):
    return re.sub(r"\s+", "", text)


def covers(chunks, whole):
    """Return whether the chunks, in order and possibly overlapping, cover the whole text. Ignore white space."""
    ends = {0}  # lengths of the prefixes of `whole` that the chunks so far may cover
    for chunk in chunks:
        own = without_spaces(chunk.text)
        begins = [found.start() for found in re.finditer(f"(?={re.escape(own)})", whole)]
        ends = {begin + len(own) for begin in begins for end in ends if begin <= end < begin + len(own)}
    return len(whole) in ends


@pytest.mark.parametrize("seed", range(40))
def test_chunks_cover_the_caption_and_none_is_too_long(model, seed):
    rng = random.Random(seed)
    text = random_text(rng, rng.choice([1, 4, 15, 60]))
    chunking = Chunking(tokens=rng.choice([16, 40, 200]), overlap=rng.choice([0, 5, 15]))
    chunks = split(caption(text), model, chunking)
    assert covers(chunks, without_spaces(text))
    assert all(chunk.text.strip() for chunk in chunks)
    assert [chunk.no for chunk in chunks] == list(range(len(chunks)))
    assert max(model.count_tokens(chunk.text) for chunk in chunks) <= chunking.tokens


def test_short_caption_is_one_chunk_with_its_text_unchanged(model):
    text = "Two people ride bicycles. A dog runs."
    assert [chunk.text for chunk in split(caption(f"  {text}\n"), model, Chunking())] == [text]


@pytest.mark.parametrize("text", ["", "   ", "\n\n"])
def test_blank_caption_has_no_chunk(model, text):
    assert split(caption(text), model, Chunking()) == []


def test_chunks_end_where_sentences_end(model):
    text = " ".join(f"Rider number {n} turns left at the crossing and waves." for n in range(60))
    chunks = split(caption(text), model, Chunking(tokens=64, overlap=16))
    assert len(chunks) > 5
    assert all(chunk.text.startswith("Rider number") and chunk.text.endswith("waves.") for chunk in chunks)


def test_overlap_repeats_whole_sentences_and_none_without_it(model):
    text = " ".join(f"Rider {n} turns left." for n in range(60))
    riders = lambda chunk: re.findall(r"\d+", chunk.text)  # noqa: E731
    plain = split(caption(text), model, Chunking(tokens=40, overlap=0))
    overlapping = split(caption(text), model, Chunking(tokens=40, overlap=12))
    assert [rider for chunk in plain for rider in riders(chunk)] == [str(n) for n in range(60)]
    for before, after in pairwise(overlapping):
        assert riders(after)[:2] == riders(before)[-2:]


def test_quotation_mark_stays_with_its_sentence(model):
    text = " ".join(f'The sign {n} says "STOP." Then a man walks away.' for n in range(20))
    assert not [
        chunk.text for chunk in split(caption(text), model, Chunking(tokens=32, overlap=0)) if chunk.text[0] in '" '
    ]


@pytest.mark.parametrize("sentence", ["一辆红色的汽车在路口向左转。", "赤い車が左に曲がります！", "他说：“停下。”"])
def test_text_without_spaces_is_cut_at_its_own_full_stops(model, sentence):
    chunks = split(caption(sentence * 60), model, Chunking(tokens=64, overlap=0))
    assert len(chunks) > 3
    assert all(len(chunk.text) % len(sentence) == 0 and chunk.text.startswith(sentence) for chunk in chunks)


def test_one_huge_sentence_is_cut_between_words(model):
    words = [f"word{n}" for n in range(3000)]
    chunks = split(caption(" ".join(words)), model, Chunking(tokens=100, overlap=0))
    assert [word for chunk in chunks for word in chunk.text.split()] == words
    assert max(model.count_tokens(chunk.text) for chunk in chunks) <= 100


def test_text_without_any_boundary_is_still_split(model):
    text = "汽车" * 1000
    chunks = split(caption(text), model, Chunking(tokens=100, overlap=20))
    assert "".join(chunk.text for chunk in chunks) == text
    assert max(model.count_tokens(chunk.text) for chunk in chunks) <= 100


def test_chunks_fit_the_model_even_if_the_setting_exceeds_its_limit(model):
    text = " ".join(f"Rider {n} turns left." for n in range(400))
    chunks = split(caption(text), model, Chunking(tokens=2000, overlap=500))
    assert 128 < max(model.count_tokens(chunk.text) for chunk in chunks) <= model.max_tokens


def timed(count, sentences=3):
    """Return a caption with one segment per second, and the text that an engine writes for it."""
    segments = tuple(
        Segment(n, n + 1.0, " ".join(f"In second {n} the rider passes tree {tree}." for tree in range(sentences)))
        for n in range(count)
    )
    return caption("\n".join(segment.text for segment in segments), duration_s=float(count), segments=segments)


def test_chunk_covers_the_times_of_the_segments_it_comes_from(model):
    chunks = split(timed(30), model, Chunking(tokens=60, overlap=16))
    assert len(chunks) > 8
    for chunk in chunks:
        seconds = [int(n) for n in re.findall(r"second (\d+)", chunk.text)]
        assert (chunk.start_s, chunk.end_s) == (min(seconds), max(seconds) + 1)


def test_segments_with_the_same_text_keep_their_own_times(model):
    segments = tuple(Segment(n, n + 1.0, "The rider passes a tree.") for n in range(40))
    repeated = caption("\n".join(segment.text for segment in segments), duration_s=40.0, segments=segments)
    chunks = split(repeated, model, Chunking(tokens=24, overlap=0))
    assert [chunk.start_s for chunk in chunks] == sorted({chunk.start_s for chunk in chunks})
    assert chunks[-1].end_s == 40


@pytest.mark.parametrize("segments", [(), (Segment(2.0, 3.0, "Words that the text does not have."),)])
def test_chunk_of_a_caption_without_usable_segments_covers_the_whole_clip(model, segments):
    chunks = split(caption("A red car. A blue car.", duration_s=9.5, segments=segments), model, Chunking())
    assert [(chunk.start_s, chunk.end_s) for chunk in chunks] == [(0.0, 9.5)]


def test_splitting_tokenizes_a_long_caption_few_times(model):
    """Each count costs time in proportion to its text, as embedding does."""
    rng = random.Random(1)
    text = " ".join(" ".join(rng.choices(WORDS, k=15)) + "." for _ in range(45))
    counter = Counter(model)
    chunks = split(caption(text), counter, Chunking())
    assert len(chunks) > 1
    assert counter.characters < 4 * len(text)


class Counter:
    """Count the tokens of texts with a model, and the characters that it was given."""

    def __init__(self, model):
        self._model, self.max_tokens, self.characters = model, model.max_tokens, 0

    def count_tokens(self, text):
        self.characters += len(text)
        return self._model.count_tokens(text)
