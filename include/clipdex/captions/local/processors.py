"""Processors: convert requests to input tensors of a transformers model.

A video is passed as all frames of its proxy with their frame rate, so the model's times are those of the clip.
"""

import importlib.util
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clipdex.captions.model import Image, ModelRequest, Video
from clipdex.errors import ConfigurationError
from clipdex.video import read_proxy


class Processor(Protocol):
    """tokenizer: the model's own, with left padding."""

    tokenizer: Any

    def inputs(self, requests: Sequence[ModelRequest]) -> Any:
        """Return a BatchFeature with one row per request. All requests have the same media type."""


def open_processor(folder: Path) -> Processor:
    """Return the processor of a folder's checkpoint. Raises ConfigurationError, OSError or ValueError.

    Video processors require torchvision, which exists only for some builds of torch. Qwen2.5-VL works without it,
    through its image processor.
    """
    if importlib.util.find_spec("torchvision"):
        return _Auto(folder)
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind == "qwen2_5_vl":
        return _Qwen(folder)
    raise ConfigurationError(
        f"{folder}: a model of type {kind} requires torchvision, not installed: install clipdex[transformers], "
        "with the torchvision that was built for this torch"
    )


class _Auto:
    """The processor that the checkpoint names."""

    def __init__(self, folder: Path) -> None:
        import transformers

        opener: Any = transformers.AutoProcessor
        self._processor = opener.from_pretrained(folder, local_files_only=True)
        self.tokenizer = self._processor.tokenizer
        self.tokenizer.padding_side = "left"

    def inputs(self, requests: Sequence[ModelRequest]) -> Any:
        media: dict[str, Any] = {}
        match requests[0].media:
            case Video():
                if not getattr(self._processor, "video_processor", None):
                    raise ConfigurationError(
                        "this model takes no video: choose another, or set CLIPDEX_ENGINE__STRATEGY to frames-concat"
                    )
                videos = [request.media for request in requests if isinstance(request.media, Video)]
                frames = [np.stack(list(read_proxy(video.mp4))) for video in videos]
                media = {
                    "videos": frames,
                    "video_metadata": [
                        _metadata(len(one), video.fps) for one, video in zip(frames, videos, strict=True)
                    ],
                    "do_sample_frames": False,
                }
            case Image():
                media = {"images": [[_picture(request)] for request in requests]}
        texts = [
            self._processor.apply_chat_template(_conversation(request), add_generation_prompt=True, tokenize=False)
            for request in requests
        ]
        return self._processor(text=texts, padding=True, return_tensors="pt", **media)


class _Qwen:
    """Qwen2.5-VL's processor without torchvision: a video patch is an image patch over two frames."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.tokenizer.padding_side = "left"
        self._images: Any = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        self._frames: Any = Qwen2VLImageProcessorPil(**_video_size(folder, dict(self._images.size)))

    def inputs(self, requests: Sequence[ModelRequest]) -> Any:
        import torch
        from transformers import BatchFeature

        texts = []
        pixels: dict[str, list[np.ndarray]] = {}
        for request in requests:
            text = self.tokenizer.apply_chat_template(
                _conversation(request), add_generation_prompt=True, tokenize=False
            )
            match request.media:
                case Video(mp4, fps):
                    values, grid = self._video(list(read_proxy(mp4)))
                    text = text.replace(_VIDEO, _VIDEO * self._tokens(grid), 1)
                    pixels.setdefault("pixel_values_videos", []).append(values)
                    pixels.setdefault("video_grid_thw", []).append(grid)
                    seconds = np.array([self._frames.temporal_patch_size / fps], np.float32)
                    pixels.setdefault("second_per_grid_ts", []).append(seconds)
                case Image():
                    seen = self._images(images=[_picture(request)], return_tensors="np")
                    text = text.replace(_IMAGE, _IMAGE * self._tokens(seen["image_grid_thw"]), 1)
                    pixels.setdefault("pixel_values", []).append(seen["pixel_values"])
                    pixels.setdefault("image_grid_thw", []).append(seen["image_grid_thw"])
            texts.append(text)
        words = self.tokenizer(texts, padding=True, return_tensors="pt")
        ids = words["input_ids"]
        image, video = self.tokenizer.convert_tokens_to_ids([_IMAGE, _VIDEO])
        kinds = (ids == image).long() + 2 * (ids == video).long()
        seen = {name: torch.from_numpy(np.concatenate(parts)) for name, parts in pixels.items()}
        return BatchFeature({**words, "mm_token_type_ids": kinds, **seen})

    def _video(self, frames: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return patches and their grid [[frame pairs, rows, columns]]; an odd last frame is repeated."""
        deep, side = self._frames.temporal_patch_size, self._frames.patch_size
        frames = frames + frames[-1:] * (-len(frames) % deep)
        seen = self._frames(images=frames, return_tensors="np")
        _, rows, columns = seen["image_grid_thw"][0]
        pairs, places = len(frames) // deep, rows * columns
        # An image patch repeats its frame deep times: keep one copy and combine those of consecutive frames.
        single = seen["pixel_values"].reshape(pairs, deep, places, -1, deep, side * side)[..., 0, :]
        return single.transpose(0, 2, 3, 1, 4).reshape(pairs * places, -1), np.array([[pairs, rows, columns]])

    def _tokens(self, grid: np.ndarray) -> int:
        return int(grid.prod() // self._frames.merge_size**2)


_VIDEO, _IMAGE = "<|video_pad|>", "<|image_pad|>"


def _conversation(request: ModelRequest) -> list[dict[str, Any]]:
    content = [{"type": "text", "text": request.prompt}]
    match request.media:
        case Video():
            content.append({"type": "video"})
        case Image():
            content.append({"type": "image"})
    if request.remark:
        content.append({"type": "text", "text": request.remark})
    system = [{"role": "system", "content": [{"type": "text", "text": request.system}]}] if request.system else []
    return [*system, {"role": "user", "content": content}]


def _metadata(frames: int, fps: float) -> dict[str, Any]:
    return {"fps": fps, "total_num_frames": frames, "duration": frames / fps, "frames_indices": list(range(frames))}


def _picture(request: ModelRequest) -> Any:
    from PIL import Image as Pictures

    assert isinstance(request.media, Image)
    return Pictures.open(io.BytesIO(request.media.jpeg)).convert("RGB")


def _video_size(folder: Path, fallback: dict[str, Any]) -> dict[str, Any]:
    """Return the checkpoint's video preprocessing settings, or the image size if it has none."""
    for name in ("video_preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            config = json.loads((folder / name).read_text(encoding="utf-8"))
            config = config.get("video_processor", {}) if name == "processor_config.json" else config
            if found := {key: config[key] for key in _KEPT if key in config}:
                return found
    return {"size": fallback}


_KEPT = (
    "size",
    "min_pixels",
    "max_pixels",
    "patch_size",
    "temporal_patch_size",
    "merge_size",
    "image_mean",
    "image_std",
)
