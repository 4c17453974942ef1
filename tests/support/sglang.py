"""Run SGLang's code for video positions from its wheel, without a GPU.

The Qwen-VL processor, the choice of a processor and get_rope_index are real. Code that needs kernels, a server or
torchvision is replaced: video loading (by PyAV) and the processor of transformers, which computes the grid and the
seconds per position from the metadata, or from 24 frames per second without metadata.
"""

import importlib
import io
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import av
import torch

SERVE = Path(__file__).parents[2] / "docker" / "sglang"
WHEELS = Path(sys.prefix) / "wheels"  # downloaded by the Makefile
TOKENS_PER_SECOND = 2  # in every published Qwen2.5-VL
START, VIDEO, IMAGE, END = 1, 2, 3, 4

_REAL = {
    "sglang.srt.multimodal.processors.qwen_vl",
    "sglang.srt.managers.multimodal_processor",
    "sglang.srt.layers.rotary_embedding.mrope_rope_index",
}


class Modality(Enum):
    IMAGE, VIDEO, AUDIO = auto(), auto(), auto()


class VideoDecoderWrapper:
    """Hold the frames of a video in memory."""

    def __init__(self, mp4: bytes) -> None:
        with av.open(io.BytesIO(mp4)) as container:
            stream = container.streams.video[0]
            self.avg_fps = float(stream.average_rate or 0)
            self._frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]

    def __len__(self) -> int:
        return len(self._frames)

    def get_frames_as_tensor(self, indices: list[int]) -> torch.Tensor:
        return torch.stack([torch.from_numpy(self._frames[index]) for index in indices])


class BaseMultimodalProcessor:
    """Replace the base class of SGLang's Qwen-VL processor."""

    def __init__(self, hf_config: Any, server_args: Any, *_: Any, **__: Any) -> None:
        self.hf_config, self.server_args = hf_config, server_args
        self.video_config = server_args.mm_process_config.get("video", {})

    async def load_mm_data(self, *, video_data: list[bytes], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(videos=[VideoDecoderWrapper(mp4) for mp4 in video_data], input_ids=None)

    async def process_and_combine_mm_data_async(self, base_output: Any, *_: Any, **given: Any) -> Any:
        (frames,) = base_output.videos
        count, _, height, width = frames.shape
        grid = torch.tensor([[count // 2, height // 14, width // 14]])
        ids = torch.tensor([START, *[VIDEO] * (int(grid.prod()) // 4), END])
        fps = 24.0
        if metadata := given.get("video_metadata"):
            fps = count / metadata[0]["total_num_frames"] * metadata[0]["fps"]
        return [], ids, {"video_grid_thw": grid, "second_per_grid_ts": [2 / fps]}


class _SpecialTokens:
    """Hold the token ids that the processor searches for."""

    image_token_id, video_token_id, audio_token_id = IMAGE, VIDEO, None

    def __init__(self, **_: Any) -> None:
        pass

    def build(self, _: Any) -> "_SpecialTokens":
        return self


class _Unset:
    """Replace SGLang's environment variables; all are unset."""

    def __getattr__(self, _: str) -> Any:
        return SimpleNamespace(get=lambda: "", is_set=lambda: False)


class _Pinned(torch.Tensor):
    def pin_memory(self, *_: Any) -> torch.Tensor:
        return self


def temporal_positions(mp4: bytes, served: dict[str, float], processors: str = "") -> list[int]:
    """Return the temporal position of each pair of frames, from 0, as a server with this sampling places them.

    processors: value of SGLANG_EXTERNAL_MM_PROCESSOR_PACKAGE in the server's environment.
    """
    with _installed() as sources:
        chosen = importlib.import_module("sglang.srt.managers.multimodal_processor")
        qwen = importlib.import_module("sglang.srt.multimodal.processors.qwen_vl")
        chosen.PROCESSOR_MAPPING.clear()
        for model in qwen.QwenVLImageProcessor.models:
            chosen.PROCESSOR_MAPPING[model] = qwen.QwenVLImageProcessor
        if processors:
            chosen.import_processors(processors, overwrite=True)
        args = SimpleNamespace(mm_process_config={"video": dict(served)}, model_impl="sglang")
        processor = chosen.get_mm_processor(_config(), args, MagicMock(), None)
        request = SimpleNamespace(video_data=[mp4], audio_data=None)
        done = _run(processor.process_mm_data_async(None, "", request))
        assert sources == _REAL
    ids = torch.tensor(done.input_ids)
    times = done.mrope_positions[0][ids == VIDEO]
    return [int(time) for time in torch.unique_consecutive(times - times[0])]


def version() -> str:
    return _wheel().name.split("-")[1]


def _config() -> Any:
    vision = SimpleNamespace(spatial_merge_size=2, temporal_patch_size=2, tokens_per_second=TOKENS_PER_SECOND)
    return SimpleNamespace(
        model_type="qwen2_5_vl", architectures=["Qwen2_5_VLForConditionalGeneration"], vision_config=vision,
        vision_start_token_id=START, vision_end_token_id=END, image_token_id=IMAGE, video_token_id=VIDEO,
    )  # fmt: skip


def _run(coroutine: Any) -> Any:
    import asyncio

    return asyncio.run(coroutine)


def _wheel() -> Path:
    if found := sorted(WHEELS.glob("sglang-*.whl")):
        return found[0]
    raise FileNotFoundError(f"no sglang-*.whl in {WHEELS}: run make test once, which downloads it")


class _Finder(MetaPathFinder, Loader):
    """Import sglang and torchvision: three modules from the wheel, stubs for all others."""

    def __init__(self) -> None:
        self.wheel = zipfile.ZipFile(_wheel())
        self.read: set[str] = set()
        rope = "sglang.srt.layers.rotary_embedding"
        self.given: dict[str, dict[str, Any]] = {
            "sglang.srt.multimodal.processors.base_processor": {
                "BaseMultimodalProcessor": BaseMultimodalProcessor,
                "MultimodalSpecialTokens": _SpecialTokens,
            },
            "sglang.srt.utils.video_decoder": {"VideoDecoderWrapper": VideoDecoderWrapper},
            "sglang.srt.managers.schedule_batch": {
                "Modality": Modality,
                "MultimodalProcessorOutput": type(
                    "Output", (SimpleNamespace,), {"build_padded_input_ids": staticmethod(lambda ids, _: ids)}
                ),
            },
            "sglang.srt.environ": {"envs": _Unset()},
            "sglang.srt.utils": {"is_cpu": lambda: False, "cpu_has_amx_support": lambda: False},
            "torchvision.transforms": {
                "functional": SimpleNamespace(resize=lambda video, *_, **__: video.as_subclass(_Pinned))
            },
            rope: {
                "MRotaryEmbedding": type(
                    "MRotaryEmbedding", (),
                    {"get_rope_index": staticmethod(
                        lambda **given: importlib.import_module(f"{rope}.mrope_rope_index").get_rope_index(**given)
                    )},
                )
            },
        }  # fmt: skip

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name.partition(".")[0] in ("sglang", "torchvision"):
            return ModuleSpec(name, self, is_package=name not in _REAL)
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        if name in _REAL:
            path = name.replace(".", "/") + ".py"
            exec(compile(self.wheel.read(path), path, "exec"), module.__dict__)
            self.read.add(name)
            return
        module.__dict__.update(self.given.get(name, {}))
        models = name.startswith("sglang.srt.models.")
        module.__getattr__ = lambda attribute: _stub(attribute, models)


def _stub(name: str, is_model: bool) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _MODELS.setdefault(name, type(name, (), {})) if is_model else MagicMock(name=name)


_MODELS: dict[str, type] = {}


@contextmanager
def _installed() -> Iterator[set[str]]:
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    sys.path.insert(0, str(SERVE))
    before = set(sys.modules)
    try:
        yield finder.read
    finally:
        sys.meta_path.remove(finder)
        sys.path.remove(str(SERVE))
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in ("sglang", "torchvision", "clipdex_clock"):
                del sys.modules[name]
