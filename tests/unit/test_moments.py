"""Hits lead to the moment: times that a model writes before its paragraphs, from its text to the hits of a search."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from clipdex import cli
from clipdex.captions.captioner import CaptionDraft
from clipdex.captions.engines import open_captioner
from clipdex.captions.paragraphs import read_times
from clipdex.captions.quality import verdicts
from clipdex.captions.strategies import prompt_text
from clipdex.config import Settings
from clipdex.runs.report import RunReport, load_report, report_path
from clipdex.storage.caption import Caption, Segment
from clipdex.web.app import create_app
from tests.support.clips import film, write_clip
from tests.support.engine import MODEL, StandIn
from tests.support.pipeline import DAY, Pipeline
from tests.support.qdrant import QdrantServer

CLOCK = "[{start}-{end}] "


def spans(segments: tuple[Segment, ...]) -> list[tuple[float, float]]:
    return [(round(one.start_s, 3), round(one.end_s, 3)) for one in segments]


# The forms that models write


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("[0:03-0:07] A man runs.", "A man runs."),
        ("[00:03–00:07] A man runs.", "A man runs."),
        ("[0:03 - 0:07]: A man runs.", "A man runs."),
        ("[0:03 to 0:07] A man runs.", "A man runs."),
        ("[00:00:03-00:00:07] A man runs.", "A man runs."),
        ("[0:03.0-0:07.0] A man runs.", "A man runs."),
        ("[00:03.000 → 00:07.000] A man runs.", "A man runs."),
        ("[3.0, 7.0] A man runs.", "A man runs."),
        ("[3 s, 7 s] A man runs.", "A man runs."),
        ("[3-7] A man runs.", "A man runs."),
        ("[3s-7s] A man runs.", "A man runs."),
        ("[Time: 0:03-0:07] A man runs.", "A man runs."),
        ("(3s-7s) A man runs.", "A man runs."),
        ("(3-7 seconds) A man runs.", "A man runs."),
        ("(0:03—0:07) A man runs.", "A man runs."),
        ("<3.0s> … <7.0s> A man runs.", "A man runs."),
        ("<3.0 seconds> - <7.0 seconds> A man runs.", "A man runs."),
        ("<3.0s> A man runs. <7.0s>", "A man runs."),
        ("<0:03>-<0:07> A man runs.", "A man runs."),
        ("0:03 - 0:07: A man runs.", "A man runs."),
        ("0:03-0:07 A man runs.", "A man runs."),
        ("0:03–0:07 — A man runs.", "A man runs."),
        ("0:03-0:07\nA man runs.", "A man runs."),
        ("0:03-0:07\n\nA man runs.", "A man runs."),
        ("- 0:03 to 0:07 - A man runs.", "A man runs."),
        ("1. [0:03-0:07] A man runs.", "A man runs."),
        ("> [0:03-0:07] A man runs.", "A man runs."),
        ("**0:03-0:07** A man runs.", "A man runs."),
        ("**0:03-0:07:** A man runs.", "A man runs."),
        ("**[0:03-0:07]**: A man runs.", "A man runs."),
        ("`0:03-0:07` A man runs.", "A man runs."),
        ("### 0:03-0:07\n\nA man runs.", "A man runs."),
        ("**Scene 1 (0:03-0:07):** A man runs.", "A man runs."),
        ("Scene 1: [0:03-0:07] A man runs.", "A man runs."),
        ("Timestamp 0:03-0:07: A man runs.", "A man runs."),
        ("Time: 0:03–0:07\nA man runs.", "A man runs."),
        ("Seconds 3-7: A man runs.", "A man runs."),
        ("3.0-7.0 s: A man runs.", "A man runs."),
        ("3.0-7.0: A man runs.", "A man runs."),
        ("3s - 7s: A man runs.", "A man runs."),
        ("From 3 to 7 seconds, a man runs.", "a man runs."),
        ("From second 3 to second 7, a man runs.", "a man runs."),
        ("From 0:03 to 0:07 a man runs.", "a man runs."),
        ("Between 0:03 and 0:07, a man runs.", "a man runs."),
        ("1\n00:00:03,000 --> 00:00:07,000\nA man runs.", "A man runs."),
        ("[٠:٠٣-٠:٠٧] رجل يجري.", "رجل يجري."),
        ("\u200f[٠:٠٣\u200e – ٠:٠٧] رجل يجري.", "رجل يجري."),
        ("من 3 إلى 7 ثوان، رجل يجري.", "رجل يجري."),
        ("[۰:۰۳ تا ۰:۰۷] مردی می‌دود.", "مردی می‌دود."),
        ("[०:०३-०:०७] आदमी दौड़ता है।", "आदमी दौड़ता है।"),
        ("०:०३ - ०:०७: आदमी दौड़ता है।", "आदमी दौड़ता है।"),
        ("3 से 7 सेकंड तक, आदमी दौड़ता है।", "आदमी दौड़ता है।"),
        ("[0：03－0：07] 一个男人在跑。", "一个男人在跑。"),
        ("【０：０３～０：０７】男が走る。", "男が走る。"),
        ("３秒～７秒：男が走る。", "男が走る。"),
        ("3秒から7秒まで、男が走る。", "男が走る。"),
        ("从3秒到7秒，一个男人在跑。", "一个男人在跑。"),
        ("第3秒到第7秒：一个男人在跑。", "一个男人在跑。"),
        ("0分03秒-0分07秒：一个男人在跑。", "一个男人在跑。"),
        ("3초부터 7초까지, 남자가 달린다.", "남자가 달린다."),
        ("С 3 по 7 секунду, мужчина бежит.", "мужчина бежит."),
        ("3,0–7,0 с: Мужчина бежит.", "Мужчина бежит."),
        ("Von 3 bis 7 Sekunden läuft er.", "läuft er."),
        ("De 3 à 7 secondes, un homme court.", "un homme court."),
        ("[๐:๐๓-๐:๐๗] ชายวิ่ง", "ชายวิ่ง"),
    ],
)
def test_times_before_a_paragraph_are_read_and_leave_its_text(written, text):
    read = read_times(written, 0.0, 10.0)
    assert (spans(read.segments), read.text) == ([(3, 7)], text)
    assert [one.text for one in read.segments] == [text]
    assert (read.paragraphs, read.usable) == (1, 1)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("[0:03-0:07] **A man walks.** He stops.", "**A man walks.** He stops."),
        ("[0:03-0:07]**A man walks.** He stops.", "**A man walks.** He stops."),
        ("0:03-0:07: **Opening:** A car.", "**Opening:** A car."),
        ("0:03-0:07 —**Opening:** A car.", "**Opening:** A car."),
        ("0:03-0:07 _Later_ it stops.", "_Later_ it stops."),
        ("0:03-0:07 `STOP` is on a sign.", "`STOP` is on a sign."),
        ("**0:03-0:07** **A man** walks.", "**A man** walks."),
        ("| **0:03-0:07** | *A man* walks.", "*A man* walks."),
        ("**[0:03-0:07]:** text", "text"),
        ("**0:03-0:07:** text", "text"),
        ("**[0:03-0:07] —** A man runs.", "A man runs."),
        ("**[0:03-0:07] ** A man runs.", "A man runs."),
        ("**0:03-0:07**男が走る。", "男が走る。"),
        ("**[0:03-0:07]：**男が走る。", "男が走る。"),
        ("[0:03-0:07] **男が走る。**", "**男が走る。**"),
    ],
)
def test_emphasis_around_a_mark_is_removed_and_that_of_the_text_is_kept(written, text):
    read = read_times(written, 0.0, 10.0)
    assert (spans(read.segments), read.text) == ([(3, 7)], text)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("[0:00-0:04] A man walks.\n\n[0:04-0:10] A dog runs.", [(0, 4), (4, 10)]),
        ("[0:00-0:04] A man walks.\n[0:04-0:10] A dog runs.", [(0, 4), (4, 10)]),
        ("[0:00-0:04] A man walks. [0:04-0:10] A dog runs.", [(0, 4), (4, 10)]),
        ("[0:00] A man walks.\n\n[0:04] A dog runs.", [(0, 4), (4, 10)]),
        ("<0.0s> A man walks. <4.0s>\n\n<4.0s> A dog runs. <10.0s>", [(0, 4), (4, 10)]),
        ("**[0:00-0:04]**\n\nA man walks.\n\n**[0:04-0:10]**\n\nA dog runs.", [(0, 4), (4, 10)]),
        ("0:00 - A man walks.\n\n0:04 - A dog runs.", [(0, 4), (4, 10)]),
        ("[0:00-0:06] A man walks.\n\n[0:04-0:10] A dog runs.", [(0, 6), (4, 10)]),
        ("[0:00-0:04] A man walks.\n\n[0:09-0:11] A dog runs.", [(0, 4), (9, 10)]),
        ("[0:00-0:10] A man walks.\n\n[0:04-0:04] A dog runs.", [(0, 10), (4, 5)]),
        ("[0:04-0:06] A man walks.\n\n[0:00-0:10] A dog runs.", [(4, 6), (0, 10)]),
    ],
)
def test_each_paragraph_gets_its_own_times(written, expected):
    read = read_times(written, 0.0, 10.0)
    assert spans(read.segments) == expected
    assert read.text == "A man walks.\n\nA dog runs."


# Clocks that are words


@pytest.mark.parametrize(
    "text",
    [
        "A sign says 10:30.",
        "10:30 is on the station clock.",
        "At 10:30, the bell rings.",
        "[10:30] is what the sign reads.",
        "9:00-17:00 is written on the door.",
        "9:00-17:00 **is** written on the door.",
        "From 9:00 to 17:00 the shop is open, a sign says.",
        'A timer runs "0:03-0:07" beside a man.',
        "The shop is closed. (9:00-17:00) is on its door.",
        "2026-11-03: this date is on a newspaper.",
        "3-7 people walk in the street.",
        "5 to 10 men carry boxes.",
        "(3-7) is the score on the board.",
        "2:1 is the score on the board.",
        "1984-1990: these years are on a poster.",
        "24/7 is written above the shop.",
        "3 - 7 s pass before a man runs.",
        "100% of the picture is blue.",
        "[nan-inf] is on a screen.",
        "A man runs at 3 s, and from 4 to 5 s he jumps.",
        "A car. Its plate (AB 12-34) is white.",
    ],
)
def test_a_caption_that_mentions_a_clock_or_numbers_keeps_its_words(text):
    read = read_times(text, 0.0, 10.0)
    assert (read.text, read.segments, read.usable) == (text, (), 0)


def test_a_text_without_times_is_not_changed():
    text = "  A man.\n \n\n* A dog\n* A cat \n"
    assert read_times(text, 0.0, 10.0).text == text


# Times that cannot be


@pytest.mark.parametrize(
    "written",
    [
        "[0:07-0:03] A man runs.",
        "[0:40-0:50] A man runs.",
        "[0:05-0:12] A man runs.",
        "[0:10-0:10] A man runs.",
        "[0:00-0:00] A man runs.",
        "[0:00-0:10] A man runs.",
        "[0:00-0:11] A man runs.",
        "[00:03:00-00:07:00] A man runs.",
        "[1:00:03-1:00:07] A man runs.",
        "[0:75-0:80] A man runs.",
        "[00:00:03:12-00:00:07:01] A man runs.",
        "[999999999:59-999999999:59] A man runs.",
        "[1:03-1:07] A man runs.",
    ],
)
def test_nonsense_covers_the_whole_clip_and_is_not_embedded(written):
    read = read_times(written, 0.0, 10.0)
    assert (read.text, read.segments, read.paragraphs, read.usable) == ("A man runs.", (), 1, 0)


@pytest.mark.parametrize(
    "marks",
    [
        ["0:00-0:10", "0:00-0:10", "0:00-0:10"],
        ["0:00-0:04", "0:00-0:04", "0:00-0:04"],
        ["0:00-0:00", "0:00-0:00", "0:00-0:00"],
        ["0:06-0:10", "0:03-0:06", "0:00-0:03"],
        ["0:00-0:03", "0:06-0:10", "0:03-0:06"],
        ["0:00-0:07", "0:07-0:14", "0:14-0:20"],
        ["0:03-0:00", "0:06-0:03", "0:06-0:10"],
    ],
)
def test_times_that_contradict_each_other_cover_the_whole_clip(marks):
    words = ["A man runs.", "A dog barks.", "A cat sleeps."]
    read = read_times("\n\n".join(f"[{mark}] {text}" for mark, text in zip(marks, words, strict=True)), 0.0, 10.0)
    assert (read.text, read.segments, read.paragraphs, read.usable) == ("\n\n".join(words), (), 3, 0)


def test_one_wrong_time_of_several_costs_its_own_paragraph_alone():
    read = read_times("A street.\n\n[0:00-0:03] A man.\n\n[0:03-0:20] A dog.\n\n[0:05-0:09] A cat.", 0.0, 10.0)
    assert spans(read.segments) == [(0, 10), (0, 3), (0, 10), (5, 9)]
    assert (read.paragraphs, read.usable) == (4, 2)


def test_a_paragraph_without_times_covers_the_whole_clip():
    read = read_times("[0:00-0:04] A man.\nHe runs.\n\nA film in colour.\n\n[0:04-0:10] A dog.", 0.0, 10.0)
    assert [(one.text, one.start_s, one.end_s) for one in read.segments] == [
        ("A man.\nHe runs.", 0, 4),
        ("A film in colour.", 0, 10),
        ("A dog.", 4, 10),
    ]


# Whose clock


def test_times_count_from_the_first_picture_that_the_model_saw():
    read = read_times("[0:00-0:04] A man.\n\n[0:04-0:10] A dog.", 3.0, 13.0)
    assert spans(read.segments) == [(3, 7), (7, 13)]


@pytest.mark.parametrize("marks", [("0:00-0:10", "0:10-0:22"), ("0:22-0:32", "0:32-0:45")], ids=["window", "clip"])
def test_times_of_a_window_may_count_from_its_start_or_from_that_of_the_clip(marks):
    text = "[{}] A man.\n\n[{}] A dog.".format(*marks)
    first, second = read_times(text, 22.5, 45.0, (22.5, 0.0)).segments
    assert (first.start_s, first.end_s) == pytest.approx((22.5, 32.25), abs=0.3)
    assert (second.start_s, second.end_s) == pytest.approx((32.25, 44.75), abs=0.3)


def test_times_of_a_merged_text_are_those_of_its_notes():
    read = read_times("3.0-8.0 s: A man.\n\n8.0-13.0 s: A dog.", 3.0, 13.0, (0.0,))
    assert spans(read.segments) == [(3, 8), (8, 13)]


# Hostile texts


def _hostile() -> dict[str, str]:
    million = 1_000_000
    return {
        "spaces": " " * million,
        "digits": "1" * million,
        "colons": "0:" * (million // 2),
        "dashes": "0-" * (million // 2),
        "brackets": "[" * million,
        "sentences": ". [" * (million // 3),
        "lines": "\n" * million,
        "words": "from " * (million // 5),
        "half": ". [0:03 - 0:0" * (million // 13),
        "decorations": (". [ * _ " * 60 + "1\n") * (million // 482),
        "emphasis": ("**`0:03-0:07" + "*_`" * 37 + "\n") * (million // 124),
        "invisible": ("\u200f" * 40 + "1\n") * (million // 42),
        "unequal": "[0:03-0:07] " * (million // 12),
        "paragraphs": "[0:03-0:07] A man.\n\n" * (million // 20),
    }


@pytest.mark.parametrize("name", _hostile())
def test_a_megabyte_that_is_made_to_be_slow_is_read(name):
    """A time that grows with the square of the length would be hours."""
    text = _hostile()[name]
    read = read_times(text, 0.0, 10.0)
    assert len(read.text) <= len(text)
    assert read.usable == 0


def test_what_is_read_of_any_text_is_within_the_clip_and_in_the_text():
    chance = random.Random(7)
    pieces = [
        "[0:03-0:07] ", "[0:0", "0:09", "-", "–", "\n", "\n\n", " ", "A man runs. ", "[", "]", "<3.0s>", "12:61", "**",
        "(3s-7s)", "99999999999999", "０：０３", "٣", "From ", " to ", " seconds, ", "\u200f", "\x00", "秒", "[0:00] ",
        "[0:07-0:03] ", "Scene 1: ", ".", ":", "1. ",
    ]  # fmt: skip
    for _ in range(3000):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 14)))
        start_s, length = chance.choice([(0.0, 10.0), (3.0, 0.4), (600.0, 33.3)])
        read = read_times(text, start_s, start_s + length, chance.choice([None, (start_s, 0.0), (0.0,)]))
        place = 0
        for one in read.segments:
            assert start_s <= one.start_s < one.end_s <= start_s + length
            place = read.text.index(one.text, place) + len(one.text)
        assert 0 <= read.usable <= read.paragraphs
        kept = read_times(text, start_s, start_s + length, (start_s,), keep_marks=True)
        assert kept.text == text
        assert all(one.text in text for one in kept.segments)


# Gates


def gates_of(draft: CaptionDraft) -> dict[str, str]:
    captioner = open_captioner(settings())
    return {str(gate): wrong for gate, wrong in verdicts(draft, captioner.gates, captioner.fingerprint.prompt).items()}


def settings(url: str = "http://gpu-1:30000", **engine) -> Settings:
    return Settings.load(engine={"name": "sglang", "model": MODEL, "base_urls": [url], **engine})


def test_times_are_no_repetition_and_no_foreign_script():
    things = random.Random(3).sample([f"{a}{b}" for a in "БВГДЖЗКЛМН" for b in ("авар", "отир", "унец", "ыкол")], 40)
    text = "\n\n".join(f"**Timestamp (from 0:0{n // 5} to 0:09 seconds):** {thing}." for n, thing in enumerate(things))
    gates = open_captioner(settings(language="ru")).gates
    before = verdicts(CaptionDraft(text), gates)
    assert before["caption_looping"] and before["caption_language"]
    read = read_times(text, 0.0, 10.0)
    assert read.usable == 40
    assert not any(verdicts(CaptionDraft(read.text), gates).values())


def test_a_caption_of_marks_alone_is_empty():
    text = read_times("[0:00-0:04]\n\n[0:04-0:10]", 0.0, 10.0).text
    assert gates_of(CaptionDraft(text))["caption_empty"]


# Through the stages


@pytest.fixture
def serve() -> Iterator[Callable[..., StandIn]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(StandIn(**{"words": 150, "marks": CLOCK, **options}))


SMALL_CHUNKS = {"tokens": 48, "overlap": 0}


def opened(home: Path, node: StandIn, **more) -> Pipeline:
    return Pipeline(home, [node.url], chunking=SMALL_CHUNKS, **more)


def put(pipeline: Pipeline, name: str = "a.mp4", **clip) -> Path:
    folder = pipeline.clips / DAY.replace("-", "/")
    folder.mkdir(parents=True, exist_ok=True)
    return write_clip(folder / name, **{"seconds": 9, "fps": 4, "size": (160, 120), "picture": film, **clip})


def caption_of(pipeline: Pipeline, run: str = "r.1") -> Caption:
    (key,) = {one.caption_key for one in pipeline.outcomes(run).values()}
    stored = pipeline.store.caption(key)
    assert stored is not None
    return stored


@pytest.mark.parametrize("backend", ["edge", "server"])
def test_a_hit_leads_to_the_moment_of_a_clip_described_as_a_whole(serve, tmp_path, backend):
    with ExitStack() as stack:
        index = {"url": stack.enter_context(QdrantServer()).url} if backend == "server" else {}
        pipeline = opened(tmp_path, serve(), index=index)
        put(pipeline)
        assert pipeline.run().total("indexed") == 1
        stored = caption_of(pipeline)
        assert spans(stored.segments) == [(0, 3), (3, 6), (6, 9)]
        assert "0:03" not in stored.text and "[" not in stored.text
        points = list(pipeline.points().values())
        assert {one["start_s"] for one in points} <= {0, 3, 6} and {one["end_s"] for one in points} <= {3, 6, 9}
        assert all(one["end_s"] - one["start_s"] < 9 for one in points)  # short paragraphs may share a chunk
        assert not any("0:0" in one["text"] for one in points)
        for segment in stored.segments:
            [hit] = pipeline.search(segment.text, limit=1)
            assert (hit.start_s, hit.end_s) != (0, 9)
            assert hit.start_s <= segment.end_s and hit.end_s >= segment.start_s


def test_the_command_line_shows_the_moment(serve, tmp_path, monkeypatch, capsys):
    pipeline = opened(tmp_path, serve())
    put(pipeline)
    pipeline.run()
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    last = caption_of(pipeline).segments[-1].text
    assert cli.main(["search", last, "--limit", "1", "--json"]) == 0
    [hit] = json.loads(capsys.readouterr().out)
    assert (hit["start_s"], hit["end_s"]) == (6, 9)
    assert cli.main(["search", last, "--limit", "1"]) == 0
    assert "[6.0-9.0 s]" in capsys.readouterr().out
    assert cli.main(["caption", str(next(pipeline.clips.rglob("*.mp4")))]) == 0
    assert f"[6.0-9.0 s] {last}" in capsys.readouterr().out


def test_moments_of_a_late_video_are_on_a_players_clock(serve, tmp_path):
    pipeline = opened(tmp_path, serve())
    put(pipeline, times=[3 + k / 10 for k in range(90)], fps=10, audio_seconds=12)
    pipeline.run()
    starts = [one.start_s for one in caption_of(pipeline).segments]
    assert starts == pytest.approx([3, 6, 9], abs=0.05)


def test_moments_of_windows_are_offset_by_their_window(serve, tmp_path):
    engine = serve()
    pipeline = opened(tmp_path, engine, sampling={"max_frames": 8, "min_fps": 1.0})
    put(pipeline, seconds=12)
    pipeline.run()
    stored = caption_of(pipeline)
    assert len(engine.chats) == 2
    assert spans(stored.segments) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12)]
    assert stored.text == "\n\n".join(one.text for one in stored.segments)
    remarks = [request.body["messages"][0]["content"][-1]["text"] for request in engine.chats]
    assert all(remark.endswith("Count its times from its own beginning, 0:00.") for remark in remarks)


def test_moments_of_the_parts_of_a_long_file_are_on_the_clock_of_the_file(serve, tmp_path):
    video = {"max_duration_s": 6.0, "split": "fixed", "part_s": 6.0, "min_part_s": 3.0}
    pipeline = opened(tmp_path, serve(), video=video)
    put(pipeline, seconds=12)
    pipeline.run()
    points = pipeline.points().values()
    assert {one["clip_start_s"] for one in points} == {0, 6}
    assert {one["start_s"] for one in points} == {0, 2, 4, 6, 8, 10}
    assert all(one["clip_start_s"] <= one["start_s"] < one["end_s"] <= one["clip_start_s"] + 6 for one in points)


@pytest.mark.parametrize(
    ("marks", "expected", "share"),
    [
        (CLOCK, [(0, 3), (3, 6), (6, 9)], 1.0),
        ("**{start} – {end}:** ", [(0, 3), (3, 6), (6, 9)], 1.0),
        ("[0:40-0:50] ", [], 0.0),
        ("[0:00-0:09] ", [], 0.0),
        ("", [], 0.0),
    ],
)
def test_the_share_of_usable_times_stands_in_the_report(serve, tmp_path, marks, expected, share):
    pipeline = opened(tmp_path, serve(marks=marks))
    put(pipeline)
    report = pipeline.run()
    stored = caption_of(pipeline)
    assert spans(stored.segments) == expected
    assert "0:0" not in stored.text and "0:4" not in stored.text
    (day,) = report.days
    paragraphs = 3 if marks else 1
    assert (day.paragraphs, day.timed, day.timed_share) == (paragraphs, paragraphs * share, share)
    assert f"({100 * share:.0f} %) have usable times" in report.times
    record = pipeline.store.read_json(report_path("r.1"))
    assert record["days"][0]["timed_share"] == share
    assert load_report(pipeline.store, "r.1") == report
    del record["days"][0]["timed_share"], record["days"][0]["paragraphs"], record["days"][0]["timed"]
    assert RunReport.from_json(record).times == ""


def test_the_share_stands_on_the_page_of_a_batch_and_in_the_summary_of_the_command(
    serve, tmp_path, monkeypatch, capsys
):
    pipeline = opened(tmp_path, serve())
    path = put(pipeline)
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    (batch,) = pipeline.plan("r.1").batches
    pipeline.caption(batch)
    pipeline.index(batch)
    pipeline.report("r.1")
    with TestClient(create_app(lambda: pipeline.settings, lambda: None, lambda request: "/login")) as browser:
        address = f"/batches/{batch.run}/{batch.day}/{batch.batch}"
        assert "<b>3</b> of 3 paragraphs with times" in browser.get(address).text
        assert browser.get(f"/api{address}").json()["rows"][0]["timed"] == 3
    assert cli.main(["ingest", str(path.parent), "--recaption"]) == 0
    assert "3 of 3 paragraphs of the new captions (100 %) have usable times" in capsys.readouterr().out
    assert cli.main(["ingest", str(path.parent), "--recaption", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["timed_share"] == 1.0


def test_without_the_setting_nothing_is_requested_or_read(serve, tmp_path):
    engine = serve()
    pipeline = opened(tmp_path, engine, engine={"times": False})
    put(pipeline)
    report = pipeline.run()
    assert "0:00-0:04" not in json.dumps(engine.chats[0].body)
    assert caption_of(pipeline).segments == ()
    assert {(one["start_s"], one["end_s"]) for one in pipeline.points().values()} == {(0, 9)}
    assert (report.times, report.days[0].timed_share) == ("", None)


def test_times_that_a_prompt_of_ones_own_brings_are_read(serve, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("Describe it. begin each paragraph, the first one too, with the times of it.")
    engine = serve()
    pipeline = opened(tmp_path, engine, engine={"prompt": str(own)})
    put(pipeline)
    assert pipeline.run().total("timed") == 3
    assert engine.chats[0].body["messages"][0]["content"][0]["text"] == own.read_text()


# Upgrades


FORMER = "60a04c735feeeed1"  # of the text in release 0.1


def test_the_prompt_without_times_is_that_of_earlier_releases():
    """Captions under it count as done. A prompt that says something else needs a list of former ones."""
    text = prompt_text("describe", "en", 1024)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == FORMER
    assert prompt_text("describe", "en", 1024, times=True).startswith(text)


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)], ids=["upgrade", "switched off"])
def test_a_prompt_with_times_alone_captions_and_embeds_nothing_again(serve, tmp_path, before, after):
    engine = serve()
    former = opened(tmp_path, engine, engine={"times": before})
    former.put(3)
    former.run("r.1")
    points, asked = former.points(), len(engine.requests)

    now = opened(tmp_path, engine, engine={"times": after})
    assert now.run("r.2").total("planned") == 0
    assert len(engine.requests) == asked
    path = next(now.clips.rglob("*.mp4"))
    path.with_name("copy.mp4").write_bytes(path.read_bytes())
    assert now.run("r.3").total("stored") == 1
    assert len(engine.chats) == 3
    assert points.items() <= now.points().items()

    report = now.run("r.4", recaption=True)
    assert (report.total("asked"), report.total("copies")) == (3, 1)
    assert len(engine.chats) == 6
    keys = {one["caption_key"] for one in now.points().values()}
    assert not keys & {one["caption_key"] for one in points.values()}
    assert now.run("r.5").total("planned") == 0


def test_captions_that_were_not_indexed_before_an_upgrade_are_indexed_after_it(serve, tmp_path):
    engine = serve()
    former = opened(tmp_path, engine, engine={"times": False})
    former.put(2)
    (batch,) = former.plan("r.1").batches
    former.caption(batch)
    former.report("r.1")
    now = opened(tmp_path, engine)
    assert now.run("r.2").total("stored") == 2
    assert len(engine.chats) == 2
    assert now.plan("r.3").to_do == 0


def test_captions_count_as_current_under_either_prompt(serve, tmp_path, monkeypatch, capsys):
    engine = serve()
    opened(tmp_path, engine, engine={"times": False}).put(2)
    opened(tmp_path, engine, engine={"times": False}).run("r.1")
    for name, value in opened(tmp_path, engine).environment().items():
        monkeypatch.setenv(name, value)
    assert cli.main(["captions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"day": DAY, "current": 2, "flawed": {}, "other": 0}]


def test_a_clip_that_was_quarantined_under_the_former_prompt_stays_there(serve, tmp_path):
    engine = serve()
    former = opened(tmp_path, engine, engine={"times": False})
    former.put(2)
    (former.clips / DAY.replace("-", "/") / "empty.mp4").touch()
    former.run("r.1")
    plan = opened(tmp_path, engine).plan("r.2")
    assert (plan.quarantined, plan.to_do) == (1, 0)


@pytest.mark.parametrize("change", [{"prompt": "frame-short"}, {"language": "de"}, {"max_tokens": 512}])
def test_any_other_change_of_the_prompt_captions_again(serve, tmp_path, change):
    engine = serve()
    former = opened(tmp_path, engine, engine={"times": False})
    former.put(1)
    former.run("r.1")
    assert opened(tmp_path, engine, engine=change).plan("r.2").to_do == 1


def test_strategies_of_frames_have_one_prompt_under_either_setting():
    for strategy in ("frames-concat", "frames-merge"):
        on, off = (open_captioner(settings(strategy=strategy, times=times)).fingerprint for times in (True, False))
        assert on.digest() == off.digest()
