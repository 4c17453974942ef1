"""Test where a text has the words of a query, in several languages, and that a text stays what it is."""

import pytest

from clipdex.index.marking import marked
from clipdex.web.clips.player import with_marks


def shown(text: str, query: str, language: str) -> str:
    pieces = marked(text, query, language)
    assert "".join(piece for piece, _ in pieces) == text
    return "".join(f"[{piece}]" if match else piece for piece, match in pieces)


@pytest.mark.parametrize(
    ("language", "query", "text"),
    [
        ("en", "running cars", "A [car] [runs]; [Cars]' lights. They ran."),
        ("en", "at the café", "[Cafe] and [CAFÉ] at the corner"),
        ("en", "药店", "a sign [药店] PHARMACY"),
        ("de", "Häuser", "Das [Haus] am Hang"),
        ("ru", "красная машина", "[красную] [машину] видно"),
        ("tr", "ışık", "[IŞIK] ve [ışıklar]"),
        ("uk", "п'ять", "[п’ять] машин"),
        ("fa", "می‌روند", "آنها [می‌روند] به خانه"),
        ("zh", "红色汽车", "一辆[红色]的[汽车]"),
        ("zh", "猫", "一只[猫]"),
        ("ja", "赤い車", "[赤い車]が走る"),
        ("th", "รถแดง", "มี[รถแดง]คันหนึ่ง"),
        ("ko", "자동차", "빨간 [자동차]가"),
    ],
)
def test_a_word_is_marked_as_search_matches_it(language, query, text):
    assert shown(text.replace("[", "").replace("]", ""), query, language) == text


@pytest.mark.parametrize("query", ["", "  ", "the of and", "!?", "\x00", "elephant"])
def test_a_query_without_a_word_of_the_text_marks_nothing(query):
    assert marked("The cat sleeps.", query, "en") == [("The cat sleeps.", False)]


def test_a_word_with_an_invisible_character_is_marked_whole():
    assert shown("so\u00adft ice", "soft", "en") == "[so\u00adft] ice"


def test_an_empty_text_has_no_pieces():
    assert marked("", "a cat", "en") == []


@pytest.mark.parametrize("query", ["script alert", "", "b onerror"])
def test_markup_in_a_text_is_shown_and_never_run(query):
    html = str(with_marks("<script>alert('1')</script> & <b onerror=x>", query, "en"))
    for tag in ("<mark>", "</mark>"):
        html = html.replace(tag, "")
    assert html == "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &lt;b onerror=x&gt;"


def test_a_text_of_megabytes_is_read_up_to_a_bound():
    text = "a cat. " * 100_000
    pieces = marked(text, "cat", "en")
    assert "".join(piece for piece, _ in pieces) == text
