"""Test the engine in this process with a tiny Qwen2.5-VL with random weights, on the CPU."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from clipdex.captions.captioner import CaptionDraft
from clipdex.captions.engines import open_captioner
from clipdex.captions.local.model import TransformersModel, identity
from clipdex.captions.local.processors import open_processor
from clipdex.captions.model import Completion, Generation, Image, ModelRequest, Video
from clipdex.config import Sampling, Settings, VideoLimits
from clipdex.errors import ClipRejected, ConfigurationError, EngineUnavailable, Reason
from clipdex.video import Prepared, prepare, stills
from tests.support.clips import write_clip
from tests.support.tiny_model import LONGEST, write_tiny_model

GREEDY = Generation(max_tokens=16)
PROMPT = "What is to be seen?"

T = TypeVar("T")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Prepared]:
    """Prepare clips of one, two and three seconds."""
    made = tmp_path_factory.mktemp("clips")
    paths = [write_clip(made / f"{seconds}.mp4", seconds=seconds, size=(168, 112)) for seconds in (1, 2, 3)]
    return [prepare(path, VideoLimits(), Sampling(short_side=112)) for path in paths]


@pytest.fixture(scope="module")
def videos(clips) -> list[Video]:
    return [Video(clip.windows[0].proxy, clip.proxy_fps) for clip in clips]


def settings(folder: Path | str, **engine: Any) -> Settings:
    defaults = {"name": "transformers", "model": str(folder), "max_tokens": 16, "frame_tokens": 8, "temperature": 0}
    return Settings.load(engine=defaults | engine)


def using(what: Callable[[TransformersModel], Awaitable[T]], folder: Path | str, **engine: Any) -> T:
    """Call a function with the model in this folder, and close the model."""

    async def work() -> T:
        model = TransformersModel(settings(folder, **engine))
        try:
            return await what(model)
        finally:
            await model.aclose()

    return asyncio.run(work())


def answers(folder: Path, *requests: ModelRequest, **engine: Any) -> list[Completion]:
    """Send all requests at once, and return the completions."""

    async def send(model: TransformersModel) -> list[Completion]:
        return await asyncio.gather(*map(model.complete, requests))

    return using(send, folder, **engine)


def captioned(folder: Path, clip: Prepared, strategy: str) -> CaptionDraft:
    async def work() -> CaptionDraft:
        captioner = open_captioner(settings(folder, strategy=strategy))
        try:
            await captioner.check()
            return await captioner.caption(clip)
        finally:
            await captioner.aclose()

    return asyncio.run(work())


def test_a_clip_is_captioned_as_a_video(folder, clips):
    reply = captioned(folder, clips[1], "video")
    assert reply.text
    assert (reply.finish_reason, reply.completion_tokens, reply.attempts) == ("length", 16, 1)


def test_a_clip_is_captioned_frame_by_frame(folder, clips):
    reply = captioned(folder, clips[1], "frames-concat")
    assert reply.completion_tokens == 8 * len(clips[1].times)
    assert reply.segments[0].start_s == 0
    assert reply.segments[-1].end_s == clips[1].info.duration_s


def test_frames_are_merged_by_a_request_without_a_picture(folder, clips):
    reply = captioned(folder, clips[1], "frames-merge")
    assert reply.completion_tokens == 8 * len(clips[1].times) + 16
    assert reply.notes


def test_every_frame_of_the_proxy_is_seen_and_counted(folder, clips, videos):
    seen, blind = answers(folder, ModelRequest(PROMPT, GREEDY, videos[1]), ModelRequest(PROMPT, GREEDY))
    pairs = len(clips[1].times) // 2
    a_pair = (clips[1].width // 28) * (clips[1].height // 28)
    marks = 2
    assert seen.prompt_tokens - blind.prompt_tokens == pairs * a_pair + marks


def test_the_model_gets_the_times_of_the_clip(folder, videos):
    requests = [ModelRequest(PROMPT, GREEDY, Video(videos[0].mp4, fps)) for fps in (2.0, 0.5)]
    seconds_a_pair = open_processor(folder).inputs(requests)["second_per_grid_ts"].tolist()
    assert seconds_a_pair == [1.0, 4.0]


def test_the_video_changes_the_answer(folder, videos):
    one, other = answers(folder, *(ModelRequest(PROMPT, GREEDY, video) for video in videos[1:]))
    assert one.text != other.text


@pytest.mark.parametrize("media", ["video", "image", "none"])
def test_a_batch_gives_the_same_answers_as_single_requests(folder, clips, videos, media):
    seen = {
        "video": videos,
        "image": [Image(stills(clip.windows[0].proxy)[-1]) for clip in clips],
        "none": [None, None, None],
    }[media]
    requests = [ModelRequest(PROMPT + " Say it." * n, GREEDY, one) for n, one in enumerate(seen)]
    together = answers(folder, *requests, batch_size=3)
    alone = [answers(folder, request)[0] for request in requests]
    assert len({reply.seconds for reply in together}) == 1
    assert [(one.text, one.prompt_tokens) for one in together] == [(one.text, one.prompt_tokens) for one in alone]


def test_no_more_requests_run_at_once_than_the_batch_size(folder):
    replies = answers(folder, *[ModelRequest(PROMPT, GREEDY)] * 5, batch_size=2)
    assert len({reply.seconds for reply in replies}) == 3


def test_requests_of_each_kind_are_answered_concurrently(folder, clips, videos):
    picture = Image(stills(clips[0].windows[0].proxy)[0])
    requests = [ModelRequest(PROMPT, GREEDY, media) for media in (videos[0], None, picture, videos[1], None)]
    replies = answers(folder, *requests)
    assert [reply.text for reply in replies] == [answers(folder, request)[0].text for request in requests]


def test_a_completion_ends_at_the_stop_token(folder, tmp_path):
    [endless] = answers(folder, ModelRequest(PROMPT, GREEDY))
    last = next(letter for letter in endless.text if letter.isascii())
    [token] = open_processor(folder).tokenizer.encode(last)
    [ended] = answers(write_tiny_model(tmp_path, stop=token), ModelRequest(PROMPT, GREEDY))
    assert (ended.finish_reason, ended.text) == ("stop", endless.text.partition(last)[0] + last)
    assert ended.completion_tokens < endless.completion_tokens


def test_a_seed_gives_the_same_answer_and_another_seed_another(folder):
    warm = [Generation(max_tokens=16, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    one, again, other = (answers(folder, ModelRequest(PROMPT, generation))[0].text for generation in warm)
    assert one == again != other


@pytest.mark.parametrize("penalty", [{"frequency_penalty": 50.0}, {"repetition_penalty": 50.0}])
def test_penalties_reduce_repetition(folder, penalty):
    [free] = answers(folder, ModelRequest(PROMPT, Generation(max_tokens=80)))
    [dear] = answers(folder, ModelRequest(PROMPT, Generation(max_tokens=80, **penalty)))
    assert len(set(dear.text)) > len(set(free.text))


def test_a_request_longer_than_the_context_fails_alone(folder):
    async def send(model: TransformersModel) -> list[Any]:
        requests = [ModelRequest(PROMPT, GREEDY), ModelRequest(PROMPT * LONGEST, GREEDY), ModelRequest(PROMPT, GREEDY)]
        return await asyncio.gather(*map(model.complete, requests), return_exceptions=True)

    first, long, last = using(send, folder)
    assert isinstance(long, ClipRejected)
    assert long.reason is Reason.REJECTED_BY_ENGINE
    assert f"takes {LONGEST}" in str(long)
    assert first.text == last.text != ""


def test_a_batch_too_large_for_the_gpu_is_halved(folder, monkeypatch):
    sizes = _limit_batch_size(2, monkeypatch)
    replies = answers(folder, *[ModelRequest(PROMPT, GREEDY)] * 8, batch_size=4)
    assert len({reply.text for reply in replies}) == 1
    assert sizes == [4, 2, 2, 2, 2]


def test_a_clip_that_exceeds_gpu_memory_is_not_rejected(folder, monkeypatch):
    _limit_batch_size(0, monkeypatch)
    with pytest.raises(EngineUnavailable, match="one clip exceeds GPU memory"):
        answers(folder, ModelRequest(PROMPT, GREEDY))


def test_other_coroutines_run_while_the_model_generates(folder, videos):
    async def send(model: TransformersModel) -> int:
        await model.check()
        answer = asyncio.create_task(model.complete(ModelRequest(PROMPT, Generation(max_tokens=200), videos[2])))
        turns = 0
        while not answer.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns

    assert using(send, folder) > 3


def test_a_cancelled_request_stops_generating(folder, monkeypatch):
    began, rows = threading.Event(), []
    generate = Qwen2_5_VLForConditionalGeneration.generate

    def watched(model: Any, **inputs: Any) -> Any:
        began.set()
        rows.append(generate(model, **inputs))
        return rows[-1]

    monkeypatch.setattr(Qwen2_5_VLForConditionalGeneration, "generate", watched)

    async def send(model: TransformersModel) -> Completion:
        long = asyncio.create_task(model.complete(ModelRequest(PROMPT, Generation(max_tokens=LONGEST - 200))))
        await asyncio.to_thread(began.wait, 60)
        long.cancel()
        return await model.complete(ModelRequest(PROMPT, GREEDY))

    assert using(send, folder).completion_tokens == 16
    cancelled, _ = rows
    assert cancelled.shape[1] < LONGEST / 2


def test_other_weights_are_another_fingerprint(folder, tmp_path):
    same, other = (open_captioner(settings(one)).fingerprint for one in (folder, write_tiny_model(tmp_path, seed=1)))
    assert identity(folder) in json.dumps(same.sampling)
    assert same.sampling["weights"] != other.sampling["weights"]


def test_a_revision_from_the_cache_of_models_is_its_identity(folder, tmp_path):
    revision = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "snapshots" / revision
    cached.parent.mkdir()
    cached.symlink_to(folder, target_is_directory=True)
    assert identity(cached) == revision[:16]


def test_nothing_is_loaded_before_the_first_request(folder):
    script = (
        "import sys; from clipdex.captions.engines import open_captioner; from clipdex.config import Settings;"
        f"open_captioner(Settings.load(engine={{'name': 'transformers', 'model': {str(folder)!r}}})).fingerprint;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"model": "nobody/nothing"}, "hf download nobody/nothing"),
        ({"device": "abacus"}, "CLIPDEX_ENGINE__DEVICE is 'abacus'"),
        ({"dtype": "float3"}, "found 'float3'"),
    ],
)
def test_a_wrong_setting_is_reported(folder, engine, message):
    with pytest.raises(ConfigurationError, match=message):
        using(lambda model: model.check(), **{"folder": folder, **engine})


def test_a_checkpoint_without_weights_is_reported(folder, tmp_path):
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigurationError, match="must name a complete checkpoint"):
        using(lambda model: model.check(), tmp_path)


def _limit_batch_size(most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Raise OutOfMemoryError for larger batches; return the list that collects the size of each batch tried."""
    sizes: list[int] = []
    generate = Qwen2_5_VLForConditionalGeneration.generate

    def scarce(model: Any, **inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(model, **inputs)

    monkeypatch.setattr(Qwen2_5_VLForConditionalGeneration, "generate", scarce)
    return sizes
