"""Test the file that clipdex eval reads: its format, and what a person gets for a wrong line."""

import json

import pytest

from clipdex.errors import ConfigurationError
from clipdex.evaluation import Judgement, read_judgements


@pytest.fixture
def read(tmp_path):
    def run(*lines):
        path = tmp_path / "set.jsonl"
        path.write_bytes(b"\n".join(one if isinstance(one, bytes) else one.encode() for one in map(line_of, lines)))
        return read_judgements(path)

    return run


def line_of(line):
    return line if isinstance(line, str | bytes) else json.dumps(line)


def test_lines_of_a_clip_share_its_text_in_any_order(read):
    found = read(
        {"clip_id": "a", "query": "first"},
        {"clip_id": "a", "text": "a caption"},
        {"clip_id": "a", "query": "second"},
        {"clip_id": "b", "text": "a document that no query is for"},
        {"query": "zebra", "answerable": False},
    )
    assert found.texts == {"a": "a caption", "b": "a document that no query is for"}
    assert found.queries == (Judgement("first", "a"), Judgement("second", "a"), Judgement("zebra", ""))
    assert found.clip_ids == {"a"}


def test_a_text_may_be_repeated_if_it_is_the_same(read):
    found = read(*({"clip_id": "a", "text": "a caption", "query": query} for query in ("one", "two")))
    assert (len(found.queries), len(found.texts)) == (2, 1)


def test_without_any_text_the_served_index_is_meant(read):
    assert read({"clip_id": "a", "query": "one"}).texts == {}


def test_null_blank_lines_and_a_byte_order_mark_count_as_nothing(read):
    found = read(b'\xef\xbb\xbf{"clip_id": "a", "text": null, "query": "one", "answerable": true}', "", "  \r")
    assert found.queries == (Judgement("one", "a"),)


def test_every_letter_is_kept(read):
    query = "велосипедист 自転車 \u2028 é"
    assert read(json.dumps({"clip_id": "a", "query": query}, ensure_ascii=False)).queries[0].query == query


def test_unknown_fields_are_counted(read):
    assert read({"clip_id": "a", "query": "one", "lang": "en"}, {"clip_id": "a", "query": "two"}).ignored == {"lang": 1}


GOOD = {"clip_id": "a", "text": "a caption", "query": "words"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'clip_id': 'a'}", r"not JSON \(Expecting property name.* at column 2\): one object per line, such as {"),
        ("[" * 100_000, r"not JSON \("),
        ('["a", "b"]', "not an object: one object per line, such as {"),
        (b'{"clip_id": "\xff"}', r"not UTF-8 at byte 14: save the file as UTF-8"),
        ({"query": "words"}, 'clip_id is missing: name the clip, or, if none answers, add "answerable": false'),
        ({"clip_id": 7, "query": "words"}, "clip_id is 7: a string expected"),
        ({"clip_id": "b", "query": ["w"]}, r'query is \["w"\]: a string expected'),
        ({"clip_id": "b", "query": " \t"}, "query is empty: give words, or leave the field out"),
        ({"clip_id": "b", "text": "", "query": "w"}, "text is empty"),
        ({"clip_id": "b"}, "neither text nor query: give a caption, a query, or both"),
        ({"clip_id": "a", "text": "another"}, "the clip a has another text than in line 1: give its text once"),
        ({"clip_id": "b", "query": "w"}, "no line has the text of the clip b: give it once, or leave all texts out"),
        ({"query": "w", "answerable": "no"}, 'answerable is "no": true or false expected'),
        ({"answerable": False}, 'query is missing: a line with "answerable": false needs one'),
        ({"query": "w", "clip_id": "a", "answerable": False}, '"answerable": false has no clip: leave out clip_id'),
        ({"query": "w", "text": "t", "answerable": False}, '"answerable": false has no clip: leave out text'),
        ('{"clip_id": "a", "query": "\\ud83d"}', "query has half a character at 1: repair its"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wrong_and_what_to_do(read, line, message):
    with pytest.raises(ConfigurationError, match=rf"set\.jsonl line 3: {message}") as raised:
        read(GOOD, "", line)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400


@pytest.mark.parametrize("lines", [[], [""], [{"clip_id": "a", "text": "a caption"}]])
def test_a_file_without_a_query_is_named(read, lines):
    with pytest.raises(ConfigurationError, match=r"set\.jsonl: no line has a query: add lines such as {"):
        read(*lines)
