"""Test the sets that compare search in Russian with search in English."""

import subprocess
import sys

import pytest

from benchmarks.search_sets import lines
from clipdex.evaluation import read_judgements


@pytest.mark.parametrize("seed", [0, 1])
def test_both_languages_have_the_same_scenes_and_questions(seed):
    english, russian = (list(lines(language, 200, seed)) for language in ("en", "ru"))
    assert [line["clip_id"] for line in english] == [line["clip_id"] for line in russian]
    assert ["query" in line for line in english] == ["query" in line for line in russian]
    assert not any("|" in value for line in english + russian for value in line.values())
    for own in (english, russian):
        texts = [line["text"] for line in own if "text" in line]
        assert len(set(texts)) == 200
        assert len([line for line in own if "query" in line]) > 180
        assert not {line["query"] for line in own if "query" in line} & set(texts)


def test_captions_share_most_of_their_words_with_others():
    texts = [set(line["text"].split()) for line in lines("ru", 200, 0) if "text" in line]
    nearest = [max(len(one & other) / len(one) for other in texts if other is not one) for one in texts]
    assert sorted(nearest)[len(nearest) // 2] > 0.6


def test_the_command_writes_a_file_that_eval_reads(tmp_path):
    out = tmp_path / "ru.jsonl"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.search_sets", "--language", "ru", "--scenes", "20", out], check=True
    )
    found = read_judgements(out)
    assert len(found.texts) == 20 and found.queries and not found.ignored
    assert {query.clip_id for query in found.queries} <= set(found.texts)
