"""Test the arithmetic of families against the processors of transformers, and the budget of frames that follows."""

import importlib
import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.engines.configs import write_qwen3_vl
from clipdex import presets
from clipdex.config import Sampling, Settings
from clipdex.errors import ConfigurationError
from clipdex.families import FAMILIES, Times, by_name, by_type
from clipdex.video import schedule, visual_tokens
from tests.support.tiny_families import CONFIGS, write_config

SIZES = [(448, 252), (476, 280), (796, 448), (448, 448), (114, 64), (280, 476), (1920, 1080), (336, 196)]
FRAMES = [2, 8, 20, 32]
TOKEN = re.compile(r"<\|?[\w/]+\|?>|\d| ?[A-Za-z]+|[^\sA-Za-z\d]|\n")


def of_transformers(module: str) -> Any:
    return importlib.import_module(f"transformers.models.{module}")


def words(text: str, picture: str) -> int:
    """Return the tokens of a text without those of pictures, as tokenizers that split digits count them."""
    return len(TOKEN.findall(text.replace(picture, "")))


def metadata(frames: int, fps: float) -> SimpleNamespace:
    times = [k / fps for k in range(frames)]
    return SimpleNamespace(fps=fps, frames_indices=list(range(frames)), timestamps=times, duration=frames / fps)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frames", FRAMES)
def test_qwen2_5_vl_counts_as_its_processor(size, frames):
    resize = of_transformers("qwen2_vl.image_processing_pil_qwen2_vl").smart_resize
    height, width = resize(size[1], size[0], 28, 3136, 12_845_056)
    assert FAMILIES["qwen2.5-vl"].visual(frames, size) == frames // 2 * (height // 28) * (width // 28)


@pytest.mark.parametrize("family", ["qwen3-vl", "qwen3.5-vl", "cosmos-reason2"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frames", FRAMES)
def test_qwen3_vl_counts_as_its_processor(family, size, frames):
    module = of_transformers("qwen3_vl.video_processing_qwen3_vl")
    height, width = module.smart_resize(frames, size[1], size[0], 2, 32, 4096, 25_165_824)
    grid = np.array([[frames // 2, height // 16, width // 16]])
    processor = of_transformers("qwen3_vl.processing_qwen3_vl").Qwen3VLProcessor
    fake = SimpleNamespace(
        video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2), vision_start_token="<|start|>",
        vision_end_token="<|end|>", video_token="<|pad|>",
    )  # fmt: skip
    fake._calculate_timestamps = lambda *given: processor._calculate_timestamps(fake, *given)
    inputs = {"video_grid_thw": grid, "video_metadata": [metadata(frames, 2.0)]}
    text = processor.replace_video_token(fake, inputs, 0)
    assert FAMILIES[family].visual(frames, size) == text.count("<|pad|>")
    text = re.sub(r"<([\d.]+) seconds>", r"[\1 seconds]", text)
    assert abs(FAMILIES[family].counting.text(frames, 2.0) - words(text, "<|pad|>")) <= 2


def test_internvl_counts_as_its_processor():
    processor = of_transformers("internvl.processing_internvl").InternVLProcessor
    fake = SimpleNamespace(
        start_image_token="<img>", end_image_token="</img>", image_token="<ctx>", image_seq_length=256
    )
    text = processor.replace_video_token(fake, {"pixel_values_videos": [np.zeros((16, 1))]}, 0)
    family = FAMILIES["internvl3.5"]
    assert family.visual(16, (448, 252)) == text.count("<ctx>")
    assert abs(family.counting.text(16, 1.0) - words(text, "<ctx>")) <= family.tolerance(16)


@pytest.mark.parametrize("size", SIZES)
def test_gemma_4_counts_as_its_processor(size):
    module = of_transformers("gemma4.processing_gemma4")
    height, width = module.get_aspect_ratio_preserving_size(size[1], size[0], 16, 70 * 9, 3)
    fake = SimpleNamespace(boi_token="<boi>", eoi_token="<eoi>", video_token="<pad>")
    inputs = {
        "num_soft_tokens_per_video": [(height // 16) * (width // 16) // 9], "video_metadata": [metadata(16, 1.0)]
    }  # fmt: skip
    text = module.Gemma4Processor.replace_video_token(fake, inputs, 0)
    family = FAMILIES["gemma-4"]
    assert family.visual(16, size) == text.count("<pad>")
    assert abs(family.counting.text(16, 1.0) - words(text, "<pad>")) <= family.tolerance(16)


@pytest.mark.parametrize(("family", "length"), [("smolvlm2", 81), ("smolvlm2-small", 64)])
def test_smolvlm_counts_as_its_processor(family, length, monkeypatch):
    module = of_transformers("smolvlm.processing_smolvlm")
    monkeypatch.setattr(module, "num2words", str)  # an optional package
    fake = SimpleNamespace(
        image_seq_len=length, image_token="<pad>", fake_image_token="<fake>", global_image_token="<global>"
    )
    inputs = {"pixel_values": np.zeros((1, 16)), "video_metadata": [metadata(16, 1.0)]}
    text = module.SmolVLMProcessor.replace_video_token(fake, inputs, 0)
    assert FAMILIES[family].visual(16, (448, 252)) == text.count("<pad>")
    assert abs(FAMILIES[family].counting.text(16, 1.0) - words(text, "<pad>")) <= FAMILIES[family].tolerance(16)


@pytest.mark.parametrize("size", SIZES)
def test_nemotron_counts_as_its_processor(size):
    module = of_transformers("nemotron_h_omni.video_processing_nemotron_h_omni")
    fake = SimpleNamespace(video_target_num_patches=1024, _downsample_factor=2, video_maintain_aspect_ratio=True)
    columns, rows = module.NemotronH_Omni_Reasoning_V3VideoProcessor._compute_target_patches(fake, size[1], size[0])
    processor = of_transformers("nemotron_h_omni.processing_nemotron_h_omni").NemotronH_Omni_Reasoning_V3Processor
    fake = SimpleNamespace(
        image_start_token="<img>", image_end_token="</img>", image_token="<pad>", video_temporal_patch_dim=2
    )
    text = processor.replace_video_token(
        fake, {"num_tokens": [rows * columns // 4]}, 0, num_frames=16, video_metadata=metadata(16, 2.0)
    )
    family = FAMILIES["nemotron-vl"]
    assert family.visual(16, size) == text.count("<pad>")
    assert abs(family.counting.text(16, 2.0) - words(text, "<pad>")) <= family.tolerance(16)


def test_gemma_3_counts_as_its_processor():
    import inspect

    processor = of_transformers("gemma3.processing_gemma3").Gemma3Processor
    length = inspect.signature(processor.__init__).parameters["image_seq_length"].default
    assert FAMILIES["gemma-3"].visual(3, (448, 252)) == 3 * length


def test_measured_tokens_are_expected():
    """20 frames of 476x280 were 1,752 prompt tokens with their text on SGLang and vLLM (docs/benchmarks.md)."""
    for engine in ("sglang", "vllm"):
        assert FAMILIES["qwen2.5-vl"].visual(20, (476, 280), engine) == 1700


def test_sglang_enlarges_small_frames():
    family = FAMILIES["qwen2.5-vl"]
    width, height = family.shown((114, 64), "sglang")
    assert width * height >= 128 * 28 * 28
    assert family.shown((114, 64), "vllm") == (114, 64)


def test_a_lost_pair_of_frames_is_more_than_the_tolerance():
    for family in FAMILIES.values():
        whole, less = (family.expected(frames, (796, 448), 2.0) for frames in (32, 30))
        if family.video:
            assert whole - less > 2 * family.tolerance(32) - family.tolerance(30) or family.counting.unit == 1


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl"), ("/models/qwen2_5_vl_7b", "qwen2.5-vl"),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct-FP8", "qwen3-vl"), ("Qwen/Qwen3.5-9B", "qwen3.5-vl"),
        ("OpenGVLab/InternVL3_5-8B", "internvl3.5"), ("openbmb/MiniCPM-V-4_5", "minicpm-v-4.5"),
        ("google/gemma-3-12b-it", "gemma-3"), ("google/gemma-4-31b-it", "gemma-4"), ("google/gemma-3n-E4B-it", ""),
        ("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "smolvlm2"),
        ("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "smolvlm2-small"),
        ("nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16", "nemotron-vl"),
        ("nvidia/Cosmos-Reason1-7B", "cosmos-reason1"), ("nvidia/Cosmos-Reason2-8B", "cosmos-reason2"),
        ("vikhyatk/moondream2", ""), ("Qwen/Qwen2-VL-7B-Instruct", ""),
    ],
)  # fmt: skip
def test_a_family_is_known_by_the_name_of_a_checkpoint(name, family):
    found = by_name(name)
    assert (found.name if found else "") == family


def test_a_family_is_known_by_the_type_in_its_config():
    assert by_type("qwen3_vl_moe") is FAMILIES["qwen3-vl"]
    assert by_type("llava") is None


def test_without_a_family_tokens_are_counted_as_before():
    assert visual_tokens((1920, 1080), Sampling(short_side=280, multiple_of=28)) == 18 * 10 / 2
    assert Sampling().fingerprint().keys() == {
        "fps", "min_fps", "max_frames", "visual_tokens", "short_side", "multiple_of"
    }  # fmt: skip
    assert Sampling(family="qwen3-vl").fingerprint()["family"] == "qwen3-vl"


def test_more_frames_fit_if_each_has_fewer_tokens():
    limited = {"visual_tokens": 1024, "short_side": 448}
    counts = [schedule(10, (1280, 720), Sampling(**limited, family=family)).count for family in ("", "smolvlm2")]
    assert counts[0] < counts[1]


def test_an_unknown_family_is_rejected_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"CLIPDEX_SAMPLING__FAMILY: .*qwen3-vl"):
        Settings.load(sampling={"family": "gpt"})


def test_every_family_names_its_sources():
    assert all(family.sources for family in FAMILIES.values())


def test_presets_do_not_make_the_node_resize_frames():
    for row in presets.PRESETS.values():
        if name := row["sampling"].get("family"):
            family = FAMILIES[name]
            assert row["sampling"].get("multiple_of", 2) % family.multiple_of == 0
            assert row["engine"]["strategy"] == "video" or not family.video
            thinking = json.dumps(dict(family.without_thinking))
            assert thinking.strip("{}") in json.dumps(dict(row["engine"].get("options", {})))
            assert family.times in Times


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_tiny_model_of_each_family_can_be_configured(model_type, tmp_path):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(write_config(model_type, tmp_path))
    assert config.get_text_config().hidden_size == 64
    assert by_type(config.model_type) is not None


def test_the_qwen3_vl_of_the_gpu_host_has_the_published_sizes(tmp_path):
    from transformers import AutoConfig

    (tmp_path / "tokenizer.json").write_text("{}")
    folder = write_qwen3_vl(tmp_path, tmp_path / "out")
    config = AutoConfig.from_pretrained(folder)
    assert by_type(config.model_type) is FAMILIES["qwen3-vl"]
    assert (config.text_config.hidden_size, config.vision_config.out_hidden_size) == (4096, 4096)
    assert json.loads((folder / "video_preprocessor_config.json").read_text())["size"]["longest_edge"] == 25_165_824
