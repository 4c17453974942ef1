"""Compare variants on the same clips: figures, gates and failures side by side, on a self-contained page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from clipdex.cli import main
from clipdex.compare import Variant, compare
from clipdex.compare.comparison import Comparison
from clipdex.compare.page import page
from clipdex.errors import ConfigurationError
from tests.support.clips import plain, write_clip
from tests.support.engine import MODEL, StandIn

RED, BLUE = (200, 30, 30), (30, 30, 200)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    colours = {"red.mp4": RED, "<b>blue.mp4": BLUE}
    return [write_clip(folder / name, picture=plain(colour)) for name, colour in colours.items()]


@pytest.fixture
def broken(tmp_path) -> Path:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video at all")
    return path


def on(engine: StandIn, name: str, *changes: str) -> Variant:
    return Variant.parsed(
        f"{name}:" + ",".join(["engine=sglang", f"model={MODEL}", f"base_urls={engine.url}", *changes])
    )


def column(comparison: Comparison, name: str) -> dict:
    [found] = [one for one in comparison.to_json()["variants"] if one["name"] == name]
    return found


def captions(comparison: Comparison, variant: str) -> list[dict]:
    return [one for one in comparison.to_json()["captions"] if one["variant"] == variant]


def test_strategies_are_compared_with_their_cost(clips):
    with StandIn() as engine:
        comparison = compare(clips, [on(engine, "whole"), on(engine, "frames", "strategy=frames-concat")])
    whole, frames = column(comparison, "whole"), column(comparison, "frames")
    assert (whole["strategy"], frames["strategy"]) == ("video", "frames-concat")
    assert whole["captions"] == frames["captions"] == whole["passed"] == len(clips)
    assert min(whole["clips_per_second"], whole["seconds"], whole["completion_tokens"], whole["words"]) > 0


def test_the_detectors_are_compared_with_an_engine(clips):
    with StandIn() as engine:
        comparison = compare(clips[:1], [on(engine, "model"), Variant.parsed("small:engine=detectors")])
    assert [one["variant"] for one in comparison.to_json()["captions"]] == ["model", "small"]
    assert "red" in captions(comparison, "small")[0]["text"]


def test_a_poor_caption_is_shown_with_every_gate_it_fails(clips):
    with StandIn("refusal:9") as engine:
        comparison = compare(clips[:1], [on(engine, "poor", "min_tokens=4000")])
    [poor] = captions(comparison, "poor")
    failed = {gate for gate, problem in poor["gates"].items() if problem}
    assert {"caption_refused", "caption_too_short"} <= failed
    assert poor["text"] in _text_of(page(comparison))
    assert (poor["passed"], column(comparison, "poor")["passed"]) == (False, 0)


def test_attempts_repeated_after_a_failed_gate_are_counted(clips):
    with StandIn("loop") as engine:
        comparison = compare(clips[:1], [on(engine, "again"), on(engine, "once")])
    [again], [once] = captions(comparison, "again"), captions(comparison, "once")
    assert (again["attempts"], once["attempts"]) == (2, 1)
    assert again["prompt_tokens"] == 2 * once["prompt_tokens"]
    assert again["passed"]


def test_a_variant_that_cannot_run_does_not_stop_the_others(clips):
    with StandIn() as engine:
        variants = [on(engine, "other", "model=other/model"), Variant.parsed("none:engine=abacus"), on(engine, "good")]
        comparison = compare(clips, variants)
    assert "wanted other/model" in column(comparison, "other")["error"]
    assert "CLIPDEX_ENGINE__NAME" in column(comparison, "none")["error"]
    assert column(comparison, "good")["captions"] == len(clips)
    assert _text_of(page(comparison)).count("did not run") == 2


def test_a_clip_that_the_engine_rejects_does_not_stop_the_others(clips):
    with StandIn("400:2") as engine:
        comparison = compare(clips, [on(engine, "one", "in_flight=1")])
    first, second = captions(comparison, "one")
    assert "rejected_by_engine" in first["error"]
    assert second["text"]
    assert column(comparison, "one")["passed"] == 1


def test_a_file_that_is_no_clip_is_reported_and_not_sent_to_an_engine(clips, broken):
    with StandIn() as engine:
        comparison = compare([broken, clips[0]], [on(engine, "one")])
        assert len(engine.chats) == 1
    assert [bool(clip["error"]) for clip in comparison.to_json()["clips"]] == [True, False]
    assert column(comparison, "one")["clips"] == 1
    assert "not captioned" in _text_of(page(comparison))


def test_the_page_loads_no_other_resource(clips):
    with StandIn() as engine:
        html = page(compare(clips, [on(engine, "one")]))
    addresses = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?([^"'\s)>]*)""", html)
    assert [address[:23] for address in addresses] == ["data:image/jpeg;base64,"] * len(clips)


def test_names_of_clips_and_variants_are_escaped_on_the_page(clips):
    with StandIn() as engine:
        html = page(compare(clips, [on(engine, "<i>sly</i>")]))
    assert {"i", "b"} & _tags_of(html) == set()
    assert "<i>sly</i>" in _text_of(html)
    assert "<b>blue.mp4" in _text_of(html)


def test_an_api_key_is_neither_on_the_page_nor_in_the_json(clips):
    with StandIn(api_key="canary-77") as engine:
        comparison = compare(clips[:1], [on(engine, "closed", "api_key=canary-77"), on(engine, "shut", "api_key=no")])
    assert column(comparison, "closed")["captions"] == 1
    assert "canary-77" not in page(comparison) + json.dumps(comparison.to_json())


def test_two_files_with_the_same_name_are_shown_with_their_folders(clips, tmp_path):
    (tmp_path / "day").mkdir()
    same = [write_clip(tmp_path / name, picture=plain(RED)) for name in ("clip.mp4", "day/clip.mp4")]
    with StandIn() as engine:
        comparison = compare(same, [on(engine, "one")])
    assert [one["clip"] for one in captions(comparison, "one")] == ["clip.mp4", "day/clip.mp4"]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("now", {}),
        ("a:engine=vllm,model=m", {"engine": {"name": "vllm", "model": "m"}}),
        ("a:base_urls=http://x,http://y,prompt=p", {"engine": {"base_urls": ["http://x", "http://y"], "prompt": "p"}}),
        ("a:sampling.fps=1,strategy=frames-merge", {"sampling": {"fps": "1"}, "engine": {"strategy": "frames-merge"}}),
        ('a:server_sampling={"fps": 2, "max_frames": 8}', {"engine": {"server_sampling": {"fps": 2, "max_frames": 8}}}),
    ],
)  # fmt: skip
def test_a_variant_is_parsed_from_one_argument(text, changes):
    assert Variant.parsed(text).changes == changes


@pytest.mark.parametrize("text", ["engine=vllm", ":engine=vllm", "a:vllm", "a:server_sampling={fps}"])
def test_an_invalid_variant_is_rejected_with_the_part_that_is_wrong(text):
    with pytest.raises(ConfigurationError, match=re.escape(text.partition(":")[2][:5] or "--with")):
        Variant.parsed(text)


def test_two_variants_with_the_same_name_are_rejected(clips):
    with pytest.raises(ConfigurationError, match="two variants are called 'a'"):
        compare(clips, [Variant.parsed("a"), Variant.parsed("a:strategy=frames-concat")])


def test_the_command_writes_the_page_and_reports_what_failed(clips, tmp_path, capsys):
    out = tmp_path / "report.html"
    with StandIn() as engine:
        good = f"good:engine=sglang,model={MODEL},base_urls={engine.url}"
        paths = [str(path) for path in clips]
        assert main(["compare", *paths, "--with", good, "--with", "bad:engine=vllm", "--out", str(out)]) == 1
        assert main(["compare", *paths, "--with", good, "--json"]) == 0
    output = capsys.readouterr()
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "bad: settings: " in output.err
    assert len(json.loads(output.out.splitlines()[1])["captions"]) == len(clips)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _parsed(html: str) -> _Page:
    parser = _Page()
    parser.feed(html)
    return parser


def _text_of(html: str) -> str:
    return "".join(_parsed(html).text)


def _tags_of(html: str) -> set[str]:
    return _parsed(html).tags
