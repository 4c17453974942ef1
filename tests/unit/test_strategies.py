"""Test how a clip becomes requests and the answers one caption: as a video, by frame, in windows, by preset."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipdex.captions.captioner import CaptionDraft
from clipdex.captions.detectors import describe
from clipdex.captions.engines import open_captioner
from clipdex.captions.http.model import ServerModel
from clipdex.captions.paragraphs import read_times
from clipdex.captions.quality import caption_with_gates
from clipdex.captions.strategies import ModelCaptioner
from clipdex.config import Sampling, Settings, Strategy, VideoLimits
from clipdex.errors import ClipRejected, ConfigurationError, EngineUnavailable, Reason
from clipdex.presets import PRESETS
from clipdex.storage.caption import Segment
from clipdex.video import Prepared, prepare, stills
from tests.support.clips import film, write_clip
from tests.support.engine import MODEL, Request, StandIn
from tests.support.pipeline import DAY, Pipeline
from tests.support.prose import sign_of

SMALL = (160, 120)
# Four pictures of six seconds, at 0, 1.5, 3 and 4.5 s.
FOUR = {"fps": 2 / 3, "max_frames": 4}
FRAMES = ["frames-concat", "frames-merge"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Prepared:
    """Prepare a clip of six seconds in which all pictures differ."""
    path = write_clip(tmp_path_factory.mktemp("clips") / "a.mp4", seconds=6, fps=10, size=SMALL, picture=film)
    return prepare(path, VideoLimits(), Sampling(**FOUR))


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "long.mp4", seconds=45, fps=4, size=SMALL, picture=film)


@pytest.fixture
def serve() -> Iterator[Callable[..., StandIn]]:
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(StandIn(*args, **options))


def settings(url: str = "http://gpu-1:30000", *, sampling: dict[str, Any] | None = None, **engine: Any) -> Settings:
    engine = {"name": "sglang", "model": MODEL, "base_urls": [url], **engine}
    return Settings.load(engine=engine, sampling=sampling or {})


def caption(engine: StandIn, *clips: Prepared, gates: bool = False, **wanted: Any) -> list[CaptionDraft]:
    async def work() -> list[CaptionDraft]:
        chosen = settings(engine.url, **wanted)
        captioner = ModelCaptioner(chosen, ServerModel(chosen, backoff_s=0.01))
        try:
            if gates:
                return [await caption_with_gates(captioner, clip) for clip in clips]
            return list(await asyncio.gather(*map(captioner.caption, clips)))
        finally:
            await captioner.aclose()

    return asyncio.run(work())


def media(request: Request) -> str:
    """Return the media type of a request: "video_url", "image_url" or "text"."""
    content = request.body["messages"][-1]["content"]
    return "text" if isinstance(content, str) else next(part["type"] for part in content if part["type"] != "text")


def pictures(clip: Prepared) -> list[str]:
    """Return the sha256 of each picture as sent to an engine."""
    return [sha256(jpeg).hexdigest() for window in clip.windows for jpeg in stills(window.proxy)]


def spans(segments: tuple[Segment, ...]) -> list[tuple[float, float]]:
    return [(segment.start_s, segment.end_s) for segment in segments]


# Frame by frame


@pytest.mark.parametrize("strategy", FRAMES)
def test_each_frame_is_requested_once_and_alone(serve, clip, strategy):
    engine = serve()
    caption(engine, clip, strategy=strategy)
    requests = [request for request in engine.chats if media(request) == "image_url"]
    assert sorted(request.digest for request in requests) == sorted(pictures(clip))


@pytest.mark.parametrize("times", [True, False])
def test_joined_frames_are_segments_and_begin_with_their_times_only_if_times_stay_in_texts(serve, clip, times):
    [reply] = caption(serve(), clip, strategy="frames-concat", times=times)
    assert spans(reply.segments) == [(0, 1.5), (1.5, 3), (3, 4.5), (4.5, 6)]
    assert reply.text == "\n\n".join(segment.text for segment in reply.segments)
    for segment, digest in zip(reply.segments, pictures(clip), strict=True):
        mark = f"{segment.start_s:.1f}-{segment.end_s:.1f} s: "
        assert segment.text.startswith(mark) is not times
        assert sign_of(digest) in segment.text


def test_a_caption_of_frames_costs_what_all_its_requests_cost(serve, clip):
    engine = serve()
    [reply] = caption(engine, clip, strategy="frames-merge")
    assert reply.completion_tokens == sum(request.completion_tokens for request in engine.chats)
    assert reply.text_tokens == engine.chats[-1].completion_tokens
    assert reply.attempts == len(engine.chats) == 5


def test_frames_are_merged_by_a_request_of_text_alone(serve, clip):
    engine = serve()
    [reply] = caption(engine, clip, strategy="frames-merge")
    last = engine.chats[-1]
    system, user = last.body["messages"]
    assert (system["role"], user["role"], media(last)) == ("system", "user", "text")
    assert user["content"] == "\n\n".join(note.text for note in reply.notes)
    assert all(sign_of(digest) in reply.text for digest in pictures(clip))


def test_a_merged_caption_keeps_the_notes_of_its_frames(serve, clip):
    [reply] = caption(serve(), clip, strategy="frames-merge")
    assert spans(reply.notes) == [(0, 1.5), (1.5, 3), (3, 4.5), (4.5, 6)]
    assert spans(reply.segments) == [(0, 3), (3, 6)]
    assert all(note.text not in reply.text for note in reply.notes)


def test_frames_are_requested_concurrently_within_the_limit(serve, clip):
    engine = serve(latency_s=0.05)
    caption(engine, *[clip] * 4, strategy="frames-concat", in_flight=3)
    assert engine.peak_running == 3


def test_the_limit_of_frame_requests_bounds_the_clips_in_flight():
    frames, video = ({"strategy": strategy, "in_flight": 32} for strategy in ("frames-merge", "video"))
    assert open_captioner(settings(**video)).in_flight == 32
    assert open_captioner(settings(**frames)).in_flight == 8


def test_a_frame_without_an_answer_cancels_the_others(serve, clip):
    engine = serve(f"503:digest={pictures(clip)[1]},hang:1.0")
    with pytest.raises(EngineUnavailable):
        caption(engine, clip, strategy="frames-concat", tries=2)


def test_a_frame_that_the_engine_rejects_rejects_the_clip(serve, clip):
    with pytest.raises(ClipRejected) as raised:
        caption(serve(f"400:digest={pictures(clip)[1]}"), clip, strategy="frames-concat")
    assert raised.value.reason is Reason.REJECTED_BY_ENGINE


@pytest.mark.parametrize("fault", ["refusal", "empty"])
def test_a_clip_is_captioned_without_an_empty_or_refused_frame(serve, clip, fault):
    engine = serve(f"{fault}:digest={pictures(clip)[2]}")
    [reply] = caption(engine, clip, strategy="frames-concat", gates=True)
    assert spans(reply.segments) == [(0, 1.5), (1.5, 3), (4.5, 6)]
    assert reply.completion_tokens == sum(request.completion_tokens for request in engine.chats)


def test_a_clip_is_rejected_if_the_model_refuses_most_frames(serve, clip):
    with pytest.raises(ClipRejected) as raised:
        caption(serve("refusal:1.0"), clip, strategy="frames-concat", gates=True)
    assert raised.value.reason is Reason.CAPTION_REFUSED


def test_a_truncated_frame_ends_with_a_whole_sentence(serve, clip):
    [reply] = caption(serve(words=280), clip, strategy="frames-concat", frame_tokens=200, gates=True)
    assert reply.finish_reason == "stop"
    assert all(segment.text.endswith(".") for segment in reply.segments)


def test_a_loop_in_one_frame_is_rejected_and_similar_frames_are_not(serve, clip, tmp_path):
    still = write_clip(
        tmp_path / "still.mp4", seconds=6, size=SMALL, picture=lambda _, size: film(0, size), options={"crf": "0"}
    )
    [reply] = caption(serve(), prepare(still, VideoLimits(), Sampling(**FOUR)), strategy="frames-concat", gates=True)
    assert reply.segments[-1].end_s == 6
    with pytest.raises(ClipRejected) as raised:
        caption(serve("loop:1.0"), clip, strategy="frames-concat", gates=True, frame_tokens=1024)
    assert raised.value.reason is Reason.CAPTION_LOOPING


def test_frames_with_the_same_text_are_one_segment(serve, tmp_path):
    path = write_clip(
        tmp_path / "a.mp4", seconds=6, size=(64, 64), picture=lambda _, size: np.full((size[1], size[0], 3), 90, "u1")
    )
    [reply] = caption(serve(), prepare(path, VideoLimits(), Sampling(**FOUR)), strategy="frames-concat", gates=True)
    assert spans(reply.segments) == [(0, 6)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0-2.0 s: A car.\n\n2.0-6.0 s: It turns.", [(0, 2), (2, 6)]),
        ("**0-2 s:** A car.\n[2 – 6.4 s] It turns.", [(0, 2), (2, 6)]),
        ("A street.\n\n2.0-6.0 s: A car turns.", [(0, 6), (2, 6)]),
        ("A car turns at 3-4 s into the yard.", []),
        ("4.0-6.0 s: It turns.\n\n0.0-2.0 s: A car.", []),
        ("0.0-60.0 s: A car.", []),
        ("5.0-2.0 s: A car.", []),
    ],
)
def test_a_merged_text_with_plausible_times_is_split_into_segments(text, expected):
    segments = read_times(text, 0.0, 6.0, (0.0,)).segments
    assert spans(segments) == expected
    assert all(segment.text in text for segment in segments)


# Clips of several tens of seconds


def test_a_clip_of_45_seconds_is_split_into_windows(long_clip):
    clip = prepare(long_clip, VideoLimits(), Sampling())
    assert [(window.start_s, window.end_s) for window in clip.windows] == [(0, 22.5), (22.5, 45)]
    assert {len(window.times) for window in clip.windows} == {32}
    assert clip.proxy_fps >= Sampling().min_fps


def test_windows_are_requested_concurrently_and_joined_with_their_times(serve, long_clip):
    clip = prepare(long_clip, VideoLimits(), Sampling())
    engine = serve(latency_s=0.2)
    [reply] = caption(engine, clip, gates=True)
    assert engine.peak_running == 2
    assert spans(reply.segments) == [(0, 22.5), (22.5, 45)]
    assert [sign_of(sha256(window.proxy).hexdigest()) in segment.text
            for window, segment in zip(clip.windows, reply.segments, strict=True)] == [True, True]  # fmt: skip
    assert reply.text_tokens == reply.completion_tokens == sum(one.completion_tokens for one in engine.chats)


def test_text_that_differs_between_windows_follows_the_video(serve, long_clip):
    engine = serve()
    caption(engine, prepare(long_clip, VideoLimits(), Sampling()))
    contents = [request.body["messages"][0]["content"] for request in engine.chats]
    assert [[part["type"] for part in content] for content in contents] == [["text", "video_url", "text"]] * 2
    assert len({content[0]["text"] for content in contents}) == 1
    instructions = " ".join(content[2]["text"] for content in contents)
    assert "part 1 of 2 of a clip of 45 s: seconds 0 to 22" in instructions
    assert "part 2 of 2 of a clip of 45 s: seconds 22 to 45" in instructions


def still(number: int, size: tuple[int, int]) -> np.ndarray:
    return np.full((size[1], size[0], 3), 90, np.uint8)


def test_detectors_see_all_windows_as_one_clip(tmp_path):
    path = write_clip(tmp_path / "a.mp4", seconds=4, size=SMALL, picture=still)
    clip = prepare(path, VideoLimits(), Sampling(max_frames=2, min_fps=1))
    assert len(clip.windows) == 2
    assert spans(describe(clip).segments) == [(0, 4)]


# Into the index


def put(pipeline: Pipeline, name: str, seconds: float = 6) -> None:
    folder = pipeline.clips / DAY.replace("-", "/")
    folder.mkdir(parents=True, exist_ok=True)
    write_clip(folder / name, seconds=seconds, fps=4, size=SMALL, picture=film)


@pytest.mark.parametrize(
    ("wanted", "seconds", "expected"),
    [
        ({"strategy": "frames-concat"}, 6, {0.0, 1.5, 3.0, 4.5}),
        ({"strategy": "frames-merge"}, 6, {0.0, 3.0}),
        ({"strategy": "video"}, 45, {0.0, 22.5}),
    ],
    ids=["frames-concat", "frames-merge", "45 seconds"],
)
def test_points_carry_the_times_of_their_text(serve, tmp_path, wanted, seconds, expected):
    sampling = FOUR if "frames" in wanted["strategy"] else {}
    pipeline = Pipeline(
        tmp_path, [serve(words=150).url], engine=wanted, sampling=sampling, chunking={"tokens": 64, "overlap": 0}
    )
    put(pipeline, "a.mp4", seconds)
    pipeline.run()
    payloads = pipeline.points().values()
    assert {payload["start_s"] for payload in payloads} == expected
    assert max(payload["end_s"] for payload in payloads) == seconds
    assert all(payload["end_s"] > payload["start_s"] for payload in payloads)


def test_a_merged_caption_is_stored_with_its_notes_and_never_requested_again(serve, tmp_path):
    engine = serve()
    pipeline = Pipeline(tmp_path, [engine.url], engine={"strategy": "frames-merge"}, sampling=FOUR)
    put(pipeline, "a.mp4")
    pipeline.run()
    sent = len(engine.chats)
    (outcome,) = pipeline.outcomes().values()
    stored = pipeline.store.caption(outcome.caption_key)
    assert stored is not None and spans(stored.notes) == [(0, 1.5), (1.5, 3), (3, 4.5), (4.5, 6)]
    assert outcome.completion_tokens == sum(request.completion_tokens for request in engine.chats)
    put(pipeline, "copy.mp4")
    pipeline.run("r.2")
    assert len(engine.chats) == sent


# Differences between servers


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("name", ["sglang", "vllm", "tensorrt-llm"])
def test_every_strategy_works_with_each_server(serve, clip, name, strategy):
    engine = serve(dialect=name)
    [reply] = caption(engine, clip, name=name, strategy=strategy, gates=True)
    assert {request.status for request in engine.chats} == {200}
    assert max(request.frames for request in engine.chats) == (4 if strategy == "video" else 1)
    assert reply.text


@pytest.mark.parametrize("name", ["sglang", "vllm", "tensorrt-llm"])
def test_a_second_attempt_is_accepted_by_each_server(serve, clip, name):
    engine = serve("loop:1", dialect=name)
    [reply] = caption(engine, clip, name=name, gates=True)
    assert (reply.attempts, [request.status for request in engine.chats]) == (2, [200, 200])


def test_sglang_sees_every_frame_of_a_clip_of_any_length(serve, tmp_path):
    engine = serve()
    lengths = [0.04, 0.4, 1.3, 3.3, 7.3]
    clips = [
        prepare(write_clip(tmp_path / f"{seconds}.mp4", seconds=seconds, size=SMALL), VideoLimits(), Sampling())
        for seconds in lengths
    ]
    caption(engine, *clips, in_flight=1)
    assert [request.frames for request in engine.chats] == [len(clip.times) for clip in clips]


def test_vllm_sees_every_frame_of_a_clip(serve, long_clip):
    engine = serve(dialect="vllm")
    caption(engine, prepare(long_clip, VideoLimits(), Sampling(max_frames=48, min_fps=0.1)), name="vllm")
    assert [request.frames for request in engine.chats] == [48]


# Limits of length


def test_a_caption_of_too_few_tokens_is_rejected(serve, clip):
    with pytest.raises(ClipRejected) as raised:
        caption(serve(words=60), clip, min_tokens=300, gates=True)
    assert raised.value.reason is Reason.CAPTION_TOO_SHORT
    assert "fewer than 300" in raised.value.detail


def test_a_caption_of_too_many_tokens_is_rejected(serve, clip):
    with pytest.raises(ClipRejected) as raised:
        caption(serve("endless:1.0", words=200), clip, max_tokens=100, gates=True)
    assert raised.value.reason is Reason.CAPTION_TOO_LONG
    assert "more than 100" in raised.value.detail


def test_the_token_limit_applies_to_each_window(serve, long_clip):
    clip = prepare(long_clip, VideoLimits(), Sampling())
    [reply] = caption(serve(words=150), clip, max_tokens=220, gates=True)
    assert 220 < reply.text_tokens <= 440


# Presets


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_ready_to_use(name):
    chosen = settings(preset=name)
    assert open_captioner(chosen).fingerprint.strategy == PRESETS[name]["engine"]["strategy"]
    assert chosen.sampling.short_side == PRESETS[name]["sampling"]["short_side"]


def test_explicit_settings_override_a_preset(monkeypatch):
    monkeypatch.setenv("CLIPDEX_SAMPLING__MAX_FRAMES", "3")
    chosen = settings(preset="moondream", strategy="frames-merge", frame_tokens=99, sampling={"short_side": 224})
    assert (chosen.engine.strategy, chosen.engine.frame_tokens) == (Strategy.FRAMES_MERGE, 99)
    assert (chosen.sampling.short_side, chosen.sampling.max_frames) == (224, 3)
    assert (chosen.engine.prompt, chosen.engine.temperature) == ("frame-short", 0.0)


def test_a_preset_can_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CLIPDEX_ENGINE", json.dumps({"preset": "phi-vision"}))
    assert Settings.load().engine.strategy is Strategy.FRAMES_MERGE
    assert Settings.load().sampling.short_side == 336


def test_an_unknown_preset_is_rejected_with_the_known_names():
    with pytest.raises(ConfigurationError, match="moondream"):
        settings(preset="gpt")


def test_fewer_frames_are_sampled_where_each_is_a_request():
    assert settings(strategy="frames-concat").sampling.max_frames < settings().sampling.max_frames
    assert settings(strategy="frames-concat").engine.prompt == "frame"


# Fingerprints


def fingerprint(**wanted: Any) -> str:
    return open_captioner(settings(**wanted)).fingerprint.digest()


def test_every_setting_that_changes_a_caption_changes_its_fingerprint():
    variants: list[dict[str, Any]] = [
        {},
        *({"strategy": strategy} for strategy in FRAMES),
        *({"preset": name} for name in PRESETS),
        {"prompt": "frame-short"},
        {"strategy": "frames-merge", "merge_prompt": "describe"},
        {"strategy": "frames-concat", "frame_tokens": 64},
        {"max_tokens": 300},
        {"sampling": {"visual_tokens": 4096}},
        {"sampling": {"multiple_of": 14}},
        {"sampling": {"min_fps": 0.5}},
    ]
    assert len({fingerprint(**variant) for variant in variants}) == len(variants)


def test_the_name_of_a_preset_does_not_change_the_fingerprint():
    row = PRESETS["qwen-vl"]
    assert fingerprint(preset="qwen-vl") == fingerprint(**row["engine"], sampling=row["sampling"])


# Prompts


def test_a_prompt_may_be_a_file_by_path_and_its_text_is_in_the_fingerprint(serve, clip, tmp_path):
    own = tmp_path / "own.txt"
    digests = []
    for text in ("List all cars, in {language}. Write JSON such as {{}}.", "List all dogs."):
        own.write_text(text)
        engine = serve()
        caption(engine, clip, prompt=str(own))
        assert text.format(language="English") in json.dumps(engine.chats[0].body)
        digests.append(open_captioner(settings(engine.url, prompt=str(own))).fingerprint.digest())
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Describe {everything}.", "write other braces twice"),
        ("Describe {language.x} in {fewest[0]}.", "write other braces twice"),
        (None, "cannot be read"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_is_an_error_with_the_next_step(tmp_path, text, message):
    own = tmp_path / "own.txt"
    if text:
        own.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        open_captioner(settings("http://gpu-1:30000", prompt=str(own)))
