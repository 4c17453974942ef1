"""An engine over HTTP: requests, responses, and retries after failures. Runs against the stand-in engine."""

import asyncio
import logging
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from typing import Any, TypeVar

import pytest

from clipdex.captions.captioner import CaptionDraft
from clipdex.captions.engines import open_captioner
from clipdex.captions.http.model import ServerModel
from clipdex.captions.strategies import ModelCaptioner
from clipdex.config import REPOSITORY, Sampling, Settings, VideoLimits
from clipdex.errors import ClipRejected, ConfigurationError, EngineUnavailable, Reason
from clipdex.video import Prepared, prepare
from tests.support.clips import plain, write_clip
from tests.support.engine import CLIENT_LEFT, MODEL, StandIn, read_log

KEY = "canary-4f1c"
TRANSIENT = ["408", "409", "425", "429", "500", "502", "503", "504", "reset", "cut", "html", "garbage",
             "truncated_json", "empty_choices", "no_finish", "abort"]  # fmt: skip

T = TypeVar("T")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Prepared]:
    """Write four clips of different colours."""
    folder = tmp_path_factory.mktemp("clips")
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    paths = [write_clip(folder / f"{number}.mp4", picture=plain(colour)) for number, colour in enumerate(colours)]
    return [prepare(path, VideoLimits(), Sampling(short_side=64)) for path in paths]


@pytest.fixture
def clip(clips) -> Prepared:
    return clips[0]


@pytest.fixture
def serve() -> Iterator[Callable[..., StandIn]]:
    """Return a function that starts stand-in engines. Stop all of them after the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(StandIn(*args, **options))


@pytest.fixture
def node_down() -> Iterator[str]:
    """Yield the address of a node that is down."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def settings(*urls: str, name: str = "sglang", **engine: Any) -> Settings:
    return Settings.load(engine={"name": name, "model": MODEL, "base_urls": urls, **engine})


def opened(settings: Settings) -> ModelCaptioner:
    return ModelCaptioner(settings, ServerModel(settings, backoff_s=0.01))


def proxy(clip: Prepared) -> bytes:
    (window,) = clip.windows
    return window.proxy


def sending(clip: Prepared, mp4: bytes) -> Prepared:
    return replace(clip, windows=(replace(clip.windows[0], proxy=mp4),))


def using(what: Callable[[ModelCaptioner], Awaitable[T]], *nodes: StandIn | str, **engine: Any) -> T:
    """Call a function with an engine on these nodes, then close the engine."""

    async def work() -> T:
        urls = [node if isinstance(node, str) else node.url for node in nodes]
        captioner = opened(settings(*urls, **engine))
        try:
            return await what(captioner)
        finally:
            await captioner.aclose()

    return asyncio.run(work())


def caption(clip: Prepared, *nodes: StandIn | str, **engine: Any) -> CaptionDraft:
    return using(lambda captioner: captioner.caption(clip), *nodes, **engine)


def caption_all(clips: list[Prepared], *nodes: StandIn | str, **engine: Any) -> list[CaptionDraft]:
    return using(lambda captioner: asyncio.gather(*map(captioner.caption, clips)), *nodes, **engine)


def check(*nodes: StandIn | str, **engine: Any) -> None:
    using(lambda captioner: captioner.check(), *nodes, **engine)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (the engine runs in another thread)
            await asyncio.sleep(0.005)


# Requests


def test_a_caption_comes_with_its_tokens_seconds_and_attempts(serve, clip):
    engine = serve(latency_s=0.05)
    reply = caption(clip, engine)
    assert len(reply.text.split()) >= 60
    assert (reply.finish_reason, reply.attempts) == ("stop", 1)
    assert reply.completion_tokens == engine.chats[0].completion_tokens > 0
    assert reply.prompt_tokens > 0
    assert reply.seconds >= 0.05


def test_the_whole_proxy_arrives_as_one_video(serve, clip):
    engine = serve()
    caption(clip, engine)
    assert engine.chats[0].digest == sha256(proxy(clip)).hexdigest()
    assert engine.chats[0].frames == len(clip.times)


@pytest.mark.parametrize("padding", [0, 1, 2, 600_000])
def test_a_proxy_of_any_size_arrives_unchanged(serve, clip, padding):
    engine = serve()
    box = struct.pack(">I4s", 8 + padding, b"free") + bytes(padding)
    caption(sending(clip, proxy(clip) + box), engine)
    assert engine.chats[0].digest == sha256(proxy(clip) + box).hexdigest()


@pytest.mark.parametrize("name", ["sglang", "vllm", "tensorrt-llm"])
def test_the_fixed_text_comes_before_the_video(serve, clip, name):
    engine = serve()
    caption(clip, engine, name=name)
    [message] = engine.chats[0].body["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "video_url"]


def test_each_server_receives_only_the_options_it_supports(serve, clip):
    common = {"model", "max_tokens", "temperature", "messages"}
    own = {"sglang": {"seed"}, "vllm": {"media_io_kwargs"}, "tensorrt-llm": {"seed"}}
    engine = serve()
    for name in own:
        caption(clip, engine, name=name)
    assert [set(request.body) for request in engine.chats] == [common | options for options in own.values()]


def test_options_are_part_of_every_request_and_of_the_fingerprint(serve, clip):
    engine = serve()
    caption(clip, engine, options={"top_k": 20})
    assert engine.chats[0].body["top_k"] == 20
    plain, with_option = (opened(settings(engine.url, options=options)) for options in ({}, {"top_k": 20}))
    assert plain.fingerprint.digest() != with_option.fingerprint.digest()


def test_a_second_attempt_uses_other_sampling(serve, clip):
    engine = serve()
    using(lambda captioner: captioner.caption(clip, attempt=2), engine)
    caption(clip, engine)
    second, first = (request.body for request in engine.chats)
    assert second["temperature"] > first["temperature"]
    assert second["seed"] != first["seed"]
    assert second["frequency_penalty"] > 0


def test_a_base_url_may_end_in_v1(serve, clip):
    engine = serve()
    assert caption(clip, engine.url + "/v1/").attempts == 1


def test_the_key_is_sent(serve, clip):
    engine = serve(api_key=KEY)
    assert caption(clip, engine, api_key=KEY + "\n").attempts == 1


# Transient errors


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_transient_error_is_retried(serve, clip, fault):
    engine = serve(f"{fault}:1")
    assert caption(clip, engine).attempts == 2


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_lasting_error_is_raised_after_the_last_try(serve, clip, fault):
    engine = serve(f"{fault}:1.0")
    with pytest.raises(EngineUnavailable, match=engine.url.removeprefix("http://")):
        caption(clip, engine, tries=3)
    assert len(engine.chats) == 3


def test_the_error_names_an_engine_that_is_down(clip, node_down):
    with pytest.raises(EngineUnavailable, match=node_down):
        caption(clip, node_down, tries=2)


def test_a_hung_request_times_out_and_frees_the_engine(serve, clip):
    engine = serve("hang:1")
    assert caption(clip, engine, request_timeout_s=0.3).attempts == 2
    assert [request.status for request in engine.chats] == [CLIENT_LEFT, 200]


def test_a_response_that_never_ends_times_out(serve, clip):
    engine = serve("drip:1.0:seconds=0.02")
    with pytest.raises(EngineUnavailable, match=r"no complete answer within 0\.2 s"):
        caption(clip, engine, request_timeout_s=0.2, tries=2)


def test_a_clip_has_one_deadline_for_all_its_tries(serve, clip):
    engine = serve("503:1.0")
    with pytest.raises(EngineUnavailable):
        caption(clip, engine, tries=10_000, deadline_s=0.5)
    assert len(engine.chats) < 10_000


@pytest.mark.parametrize(
    ("header", "least_s"), [("retry_after=1", 1.0), ("retry_after=0.4", 0.4), ("retry_date=2", 0.9)]
)
def test_a_retry_waits_as_long_as_retry_after(serve, clip, header, least_s):
    engine = serve(f"429:1:{header}")
    caption(clip, engine)
    first, second = engine.chats
    assert second.at - first.end >= least_s - 0.01


def test_one_response_with_retry_after_delays_every_clip(serve, clips):
    engine = serve("503:1:retry_after=0.5")

    async def work(captioner: ModelCaptioner) -> None:
        with pytest.raises(EngineUnavailable):
            await captioner.caption(clips[0])
        await asyncio.gather(*map(captioner.caption, clips))

    using(work, engine, tries=1)
    first, *later = engine.chats
    assert min(request.at for request in later) - first.end >= 0.45


def test_a_retry_after_beyond_the_deadline_is_raised_without_waiting(serve, clip):
    engine = serve("503:1.0:retry_after=86400")
    with pytest.raises(EngineUnavailable, match="after the deadline") as raised:
        caption(clip, engine, deadline_s=5)
    assert len(engine.chats) == 1
    assert 0 < raised.value.retry_after_s <= 120


def test_a_full_queue_loses_no_clip(serve, clips):
    engine = serve(capacity=1, queue=1, latency_s=0.02)
    replies = caption_all(clips * 3, engine, in_flight=12, tries=1000)
    assert len(replies) == 12
    assert engine.peak_running == 1


# Rejections


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_clip_is_rejected_only_after_a_confirmed_rejection(serve, clip, status):
    engine = serve(f"{status}:1.0:say=frames beyond repair")
    with pytest.raises(ClipRejected) as raised:
        caption(clip, engine)
    assert raised.value.reason is Reason.REJECTED_BY_ENGINE
    assert f"{status} frames beyond repair" in raised.value.detail
    assert len(engine.chats) == 2


def test_a_clip_is_captioned_after_an_unconfirmed_rejection(serve, clip):
    engine = serve("400:1")
    assert caption(clip, engine).attempts == 2


def test_a_node_that_rejects_everything_loses_no_clip(serve, clips):
    bad, good = serve("400:1.0"), serve(latency_s=0.01)
    assert len(caption_all(clips * 4, bad, good)) == 16
    assert {request.status for request in good.chats} == {200}


def test_a_rejection_is_confirmed_by_another_node(serve, clip):
    nodes = [serve("400:1.0"), serve("400:1.0")]
    with pytest.raises(ClipRejected):
        caption(clip, *nodes)
    assert [len(node.chats) for node in nodes] == [1, 1]


def test_a_rejection_is_confirmed_by_the_same_node_while_the_other_is_down(serve, clip, node_down):
    engine = serve("400:1.0")
    with pytest.raises(ClipRejected):
        caption(clip, engine, node_down, tries=10)


def test_a_video_that_the_engine_cannot_decode_is_rejected(serve, clip):
    engine = serve()
    with pytest.raises(ClipRejected, match="Could not decode video"):
        caption(sending(clip, b"not a video at all" * 20), engine)


# Configuration errors


@pytest.mark.parametrize(
    ("fault", "advice"),
    [("401", "key"), ("403", "key"), ("404", "base_urls"), ("redirect", "login.example"), ("wrong_model", "MODEL")],
)
def test_a_wrong_configuration_is_not_retried(serve, clip, fault, advice):
    engine = serve(f"{fault}:1.0")
    with pytest.raises(ConfigurationError, match=advice):
        caption(clip, engine)
    assert len(engine.chats) == 1


def test_the_target_of_a_redirect_is_reported_without_its_secrets(serve, clip):
    with pytest.raises(ConfigurationError) as raised:
        caption(clip, serve("redirect:1.0"))
    assert "secret" not in str(raised.value)


def test_a_model_that_a_gateway_never_served_is_a_configuration_error(serve, clip):
    with pytest.raises(ConfigurationError, match="model_not_found"):
        caption(clip, serve("404:1.0:code=model_not_found:say=model_not_found"))


def test_a_gateway_that_lost_its_nodes_is_retried(serve, clip):
    engine = serve("404:1:code=model_not_found", gateway=True)

    async def work(captioner: ModelCaptioner) -> CaptionDraft:
        await captioner.check()
        return await captioner.caption(clip)

    assert using(work, engine).attempts == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompt": "sing"}, "describe"),
        ({"language": "tlh"}, "en, "),
        ({"base_urls": ["gpu-1:30000"]}, "http://gpu-1:30000"),
        ({"base_urls": [f"http://user:{KEY}@gpu-1:30000"]}, "without query, user or password"),
        ({"base_urls": ["http://gpu-1:300000"]}, "expected a base URL such as http://gpu-1:30000"),
        ({"api_key": f"{KEY}\x00"}, "characters"),
    ],
)
def test_invalid_settings_are_rejected_before_any_request(wrong, message):
    engine = {"name": "sglang", "model": MODEL, "base_urls": ["http://gpu-1:30000"], **wrong}
    with pytest.raises(ConfigurationError, match=message) as raised:
        open_captioner(Settings.load(engine=engine))
    assert KEY not in str(raised.value)


# The check of the declared engine


def test_a_declared_engine_passes_the_check(serve):
    check(serve(video={"fps": 2, "max_frames": 32}), server_sampling={"fps": 2, "max_frames": 32})


def test_another_model_is_reported_with_its_name(serve):
    with pytest.raises(ConfigurationError, match=f"serves other/model, wanted {MODEL}"):
        check(serve(model="other/model"))


@pytest.mark.parametrize(
    ("declared", "served"),
    [
        ({"fps": 2}, {"fps": 1}),
        ({"fps": 2}, {}),
        ({}, {"max_pixels": 100352}),
        ({"fps": 2}, {"fps": 2, "max_frames": 8}),
    ],
)
def test_different_sampling_is_reported_with_both_values(serve, declared, served):
    with pytest.raises(ConfigurationError) as raised:
        check(serve(video=served), server_sampling=declared)
    text = str(raised.value)
    assert all(str(value) in text for value in [*declared.values(), *served.values()])
    assert "CLIPDEX_ENGINE__SERVER_SAMPLING" in text
    assert "--mm-process-config" in text


def test_the_check_fails_if_one_node_of_two_differs(serve):
    with pytest.raises(ConfigurationError):
        check(serve(video={"fps": 2}), serve(video={"fps": 4}), server_sampling={"fps": 2})


def test_a_gateway_that_does_not_report_its_settings_is_logged_once(serve, caplog):
    engine = serve(gateway=True)

    async def work(captioner: ModelCaptioner) -> None:
        await captioner.check()
        await captioner.check()

    using(work, engine, server_sampling={"fps": 2})
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2 and all("unchecked" in warning for warning in warnings)


@pytest.mark.parametrize("video", ["fps=2", ["fps", 2], 2])
def test_sampling_in_an_unexpected_format_counts_as_not_reported(serve, caplog, video):
    check(serve(video=video), server_sampling={"fps": 2})
    assert "does not report the frame sampling" in caplog.text


def test_a_node_that_loses_frame_times_fails_the_check_before_any_clip_is_sent(serve, clip):
    engine = serve(clocked=False)
    with pytest.raises(ConfigurationError, match=r"qwen2_5_vl no frame times.*docker/sglang/serve"):
        check(engine)
    assert not engine.chats


@pytest.mark.parametrize(
    ("node", "options"),
    [
        ({"clocked": False}, {"clock": "engine"}),
        ({"clocked": False}, {"strategy": "frames-concat"}),
        ({"clocked": False, "model_type": "qwen3_vl"}, {}),
        ({"dialect": "vllm", "version": "0.31.0"}, {"name": "vllm"}),
    ],
)
def test_the_check_passes_where_no_frame_times_can_be_lost(serve, node, options, caplog):
    check(serve(**node), **options)
    assert not caplog.records


def test_an_untested_version_is_logged_once(serve, caplog):
    check(serve(clocked=False, version="0.6.1"), serve(clocked=False, version="0.6.1"))
    [record] = caplog.records
    assert "SGLang 0.6.1 was not checked" in record.getMessage()


def test_an_old_vllm_fails_the_check_for_a_model_that_uses_frame_times(serve):
    with pytest.raises(ConfigurationError, match=r"use vLLM 0\.31\.0 or newer"):
        check(serve(dialect="vllm", version="0.24.0", model="Qwen/Qwen2.5-VL-7B-Instruct"), name="vllm",
              model="Qwen/Qwen2.5-VL-7B-Instruct")  # fmt: skip


@pytest.mark.parametrize(("name", "pages"), [("vllm", ["/v1/models", "/version"]), ("tensorrt-llm", ["/v1/models"])])
def test_the_check_requests_only_model_and_version_from_servers_without_settings(serve, name, pages):
    engine = serve(dialect=name)
    check(engine, name=name, server_sampling={"fps": 2})
    assert [request.path for request in engine.requests] == pages


def test_a_check_retries_transient_errors(serve):
    check(serve("503:1:at=models,reset:1:at=info"))


def test_a_check_fails_when_no_node_answers(serve, node_down):
    with pytest.raises(EngineUnavailable):
        check(node_down, serve("503:1.0:at=models"), tries=2)


def test_a_check_with_a_wrong_key_is_a_configuration_error(serve):
    with pytest.raises(ConfigurationError, match="401 Unauthorized"):
        check(serve(api_key=KEY), api_key="another")


def test_a_node_that_missed_the_check_receives_no_clip(serve, clips, caplog):
    away, good = serve("503:1.0:at=models"), serve()

    async def work(captioner: ModelCaptioner) -> None:
        await captioner.check()
        await asyncio.gather(*map(captioner.caption, clips))

    using(work, away, good, tries=2)
    assert (len(away.chats), len(good.chats)) == (0, 4)
    assert "continuing without this node" in caplog.text


# Many clips, several nodes


@pytest.mark.parametrize(("in_flight", "expected"), [(0, 3 * 32), (48, 48)])
def test_the_default_limit_of_requests_in_flight_grows_with_the_nodes(in_flight, expected):
    urls = [f"http://gpu-{number}:30000" for number in range(3)]
    assert opened(settings(*urls, in_flight=in_flight)).in_flight == expected


def test_requests_in_flight_are_bounded(serve, clips):
    engine = serve(latency_s=0.03)
    caption_all(clips * 4, engine, in_flight=3)
    assert engine.peak_running == 3


def test_connections_are_reused(serve, clips):
    engine = serve()
    caption_all(clips * 5, engine, in_flight=2)
    assert len({request.connection for request in engine.chats}) <= 2


def test_each_clip_goes_to_the_node_with_the_fewest_requests_in_flight(serve, clips):
    slow, fast = serve(latency_s=0.5), serve(latency_s=0.01)
    caption_all(clips * 4, slow, fast, in_flight=4)
    assert len(slow.chats) < len(fast.chats)
    assert slow.peak_running <= 3


def test_a_node_that_is_down_loses_no_clip(serve, clips, node_down):
    engine = serve(latency_s=0.01)
    replies = caption_all(clips * 5, node_down, engine, in_flight=4)
    assert len(engine.chats) == len(replies) == 20


def test_clips_move_from_a_hung_node_to_the_other(serve, clips):
    hung, good = serve("hang:1.0"), serve(latency_s=0.01)
    replies = caption_all(clips * 5, hung, good, in_flight=4, request_timeout_s=0.3)
    assert len(replies) == 20
    assert len(hung.chats) <= 4


def test_cancelling_a_caption_frees_the_engine(serve, clip):
    engine = serve("hang:1.0")

    async def work(captioner: ModelCaptioner) -> None:
        request = asyncio.create_task(captioner.caption(clip))
        await wait_until(lambda: bool(engine.chats and engine.chats[0].fault))
        request.cancel()
        await wait_until(lambda: engine.chats[0].status == CLIENT_LEFT)

    using(work, engine)
    assert len(engine.chats) == 1


# Fingerprint and secrets


def fingerprint(**engine: Any) -> str:
    return opened(settings(*engine.pop("urls", ["http://gpu-1:30000"]), **engine)).fingerprint.digest()


@pytest.mark.parametrize(
    "changed",
    [{"name": "vllm"}, {"model": "other"}, {"language": "de"}, {"max_tokens": 512}, {"temperature": 0.9},
     {"server_sampling": {"fps": 1}}],
)  # fmt: skip
def test_a_setting_that_changes_captions_changes_the_fingerprint(changed):
    assert fingerprint(**changed) != fingerprint()


@pytest.mark.parametrize(
    "changed",
    [{"urls": ["http://gpu-2:30000", "http://gpu-3:30000"]}, {"api_key": KEY}, {"in_flight": 7}, {"tries": 9},
     {"request_timeout_s": 9}],
)  # fmt: skip
def test_a_setting_that_changes_only_requests_keeps_the_fingerprint(changed):
    assert fingerprint(**changed) == fingerprint()


def test_the_prompt_requests_fewer_words_than_max_tokens_allow():
    for tokens in (64, 512, 1024, 4096):
        prompt = opened(settings("http://gpu-1:30000", max_tokens=tokens)).fingerprint.prompt
        fewest, most = (int(word) for word in prompt.split("Write ")[1].split(" words")[0].split(" to "))
        assert fewest < most
        assert most * 1.35 < tokens or most == 1400


@pytest.mark.parametrize("fault", ["401:1.0", "400:1.0", "503:1.0", "404:1.0"])
def test_the_api_key_is_neither_logged_nor_shown_in_errors(serve, clip, fault, caplog):
    caplog.set_level(logging.DEBUG)
    engine = serve(f"{fault}:say=no entry for {KEY}")

    async def work(captioner: ModelCaptioner) -> str:
        with pytest.raises((ConfigurationError, ClipRejected, EngineUnavailable)) as raised:
            await captioner.caption(clip)
        return f"{raised.getrepr(showlocals=True)} {captioner!r} {vars(captioner)} {captioner.fingerprint}"

    shown = using(work, engine, api_key=KEY)
    assert engine.chats[0].authorization == f"Bearer {KEY}"
    assert KEY not in shown
    assert KEY not in caplog.text


# The stand-in engine as a process


def test_an_engine_process_logs_every_request(clip, tmp_path):
    log = tmp_path / "requests.jsonl"
    command = [sys.executable, "-m", "tests.support.engine", "--log", str(log), "--faults", "503:1", "--words", "100"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        reply = caption(clip, process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait(10)
    assert len(reply.text.split()) >= 100
    assert [(one.status, one.fault) for one in read_log(log)] == [(503, "503"), (200, "")]
    assert {one.digest for one in read_log(log)} == {sha256(proxy(clip)).hexdigest()}
