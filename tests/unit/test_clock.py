"""The engine's clock: temporal positions are those of the frames that clipdex sends, at every rate it samples."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from clipdex.captions.http.clock import sglang_clock, vllm_clock
from clipdex.captions.local.positions import keep_frame_times
from clipdex.captions.local.processors import open_processor
from clipdex.captions.model import Generation, ModelRequest, Video
from clipdex.config import Sampling, VideoLimits
from clipdex.video import Prepared, prepare
from tests.support import sglang
from tests.support.clips import write_clip
from tests.support.tiny_model import write_tiny_model

SECONDS = (1.0, 1.2, 4.0, 9.3, 10.0, 30.0, 45.0)
SERVED = {"fps": 2, "max_frames": 32}
PROCESSORS = "clipdex_clock"  # what docker/sglang/serve names (test_serve.py)


@pytest.fixture(scope="module", params=SECONDS)
def clip(request, tmp_path_factory) -> Prepared:
    path = write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=request.param, size=(168, 112))
    return prepare(path, VideoLimits(), Sampling(short_side=112, multiple_of=28))


def assert_follows(positions: list[int], times_s: tuple[float, ...]) -> None:
    """Each pair of frames stands at the time of its first frame, within half a token, and no two at one moment."""
    wanted = [sglang.TOKENS_PER_SECOND * (time_s - times_s[0]) for time_s in times_s[::2]]
    assert len(positions) == len(wanted)
    assert max(abs(position - want) for position, want in zip(positions, wanted, strict=True)) <= 0.5
    assert all(before < after for before, after in pairwise(positions))


def test_sglang_gives_frames_their_times(clip):
    for window in clip.windows:
        assert_follows(sglang.temporal_positions(window.proxy, SERVED, PROCESSORS), window.times)


def test_sglang_gives_frames_their_times_when_it_leaves_some_out(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", seconds=8, size=(168, 112))
    (window,) = prepare(path, VideoLimits(), Sampling(short_side=112, multiple_of=28)).windows
    assert len(window.times) == 16
    assert sglang.temporal_positions(window.proxy, {"fps": 1, "max_frames": 32}, PROCESSORS) == [0, 4, 8, 12]


def test_sglang_as_it_comes_shows_ten_seconds_as_two_moments(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", seconds=10, size=(168, 112))
    (window,) = prepare(path, VideoLimits(), Sampling(short_side=112, multiple_of=28)).windows
    assert sglang.temporal_positions(window.proxy, SERVED) == [0, 1]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[Path, Qwen2_5_VLForConditionalGeneration]:
    folder = write_tiny_model(tmp_path_factory.mktemp("model"))
    loaded = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    keep_frame_times(loaded)
    return folder, loaded


def test_transformers_gives_frames_their_times(clip, model):
    folder, loaded = model
    for window in clip.windows:
        request = ModelRequest("What?", Generation(8), Video(window.proxy, clip.proxy_fps))
        inputs = open_processor(folder).inputs([request])
        given = ("input_ids", "mm_token_type_ids", "video_grid_thw", "second_per_grid_ts", "attention_mask")
        positions, _ = loaded.model.get_rope_index(**{name: inputs[name] for name in given})
        times = positions[0, 0][inputs["mm_token_type_ids"][0] == 2]
        assert_follows([int(time) for time in torch.unique_consecutive(times - times[0])], window.times)


def test_transformers_places_the_text_after_the_video(model):
    """Ten pairs of frames, each of one row and three columns, four seconds apart; two words before, one after."""
    _, loaded = model
    kinds = torch.tensor([[0] * 2 + [2] * 30 + [0]])
    grid, seconds = torch.tensor([[10, 2, 6]]), torch.tensor([4.0])
    positions, delta = loaded.model.get_rope_index(
        kinds, kinds, video_grid_thw=grid, second_per_grid_ts=seconds, attention_mask=torch.ones_like(kinds)
    )
    assert positions[:, 0, :3].tolist() == [[0, 1, 2]] * 3
    assert positions[:, 0, -2].tolist() == [2 + 9 * 8, 2, 4]
    assert positions[:, 0, -1].tolist() == [75] * 3
    assert delta.tolist() == [[76 - 33]]


@pytest.mark.parametrize(
    ("server", "model", "certain"),
    [
        ({"version": "0.5.17", "mm_process_config": {"clock": {"positions": "frames"}}}, "qwen2_5_vl", None),
        ({"version": "0.5.17", "mm_process_config": {}}, "qwen3_vl", None),
        ({"version": "0.5.17", "mm_process_config": {}}, "qwen2_5_vl", True),
        ({"version": "0.5.9.post1"}, "qwen2_5_vl", False),
        ({"version": "0.5.10"}, "qwen2_5_vl", True),
        ({"version": "0.0.0.dev1+g12"}, "qwen2_5_vl", False),
        ({"version": "0.5.17", "mm_process_config": "{}"}, "qwen2_5_vl", True),
        ({"version": "0.5.24"}, "qwen2_5_vl", False),
        ({"version": "nightly"}, "qwen2_5_vl", False),
        ({"version": "0.5.17"}, None, False),
        ({}, None, False),
    ],
)
def test_an_sglang_node_is_judged_by_what_it_reports(server, model, certain):
    finding = sglang_clock(server, {"model_type": model} if model else {})
    assert (finding.certain if finding else None) is certain


@pytest.mark.parametrize(
    ("version", "root", "certain"),
    [
        ("0.31.0", "Qwen/Qwen2.5-VL-7B-Instruct", None),
        ("0.33.0.dev1+g12", "/models/a", None),
        ("0.30.0", "Qwen/Qwen2.5-VL-7B-Instruct", True),
        ("0.24.0", "/models/qwen2_5_vl_3b", True),
        ("0.24.0", "Qwen/Qwen3-VL-8B-Instruct", None),
        ("0.24.0", "/models/a", False),
        ("0.24.0", "/home/philip/models/captioner", False),
        ("0.24.0", "/models/qwen-3b", False),
        ("0.1.dev12345+g12", "Qwen/Qwen2.5-VL-7B-Instruct", False),
        (None, "Qwen/Qwen2.5-VL-7B-Instruct", False),
        (None, "/models/a", False),
    ],
)
def test_a_vllm_node_is_judged_by_its_version_and_model(version, root, certain):
    finding = vllm_clock({"version": version} if version else {}, {"root": root})
    assert (finding.certain if finding else None) is certain
