"""Token positions of Qwen2.5-VL in transformers, as the model's authors define them.

transformers versions compute them differently. Up to 5.17 it truncates the seconds per position: above 2 frames per
second all frames of a clip are simultaneous, and 1.5 counts as 2. From 5.0 on, the text after a video of more than a
few seconds starts before the video ends. Here the temporal position of a frame is its time multiplied by the model's
tokens per second, rounded. Each part starts after the last position of the part before it. The SGLang nodes of
docker/sglang/serve do the same.
"""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any


def keep_frame_times(model: Any) -> None:
    """Replace the positions of a loaded Qwen2.5-VL; leave other models unchanged."""
    if model.config.model_type == "qwen2_5_vl":
        vision = model.config.vision_config
        model.model.get_rope_index = rope_index(vision.spatial_merge_size, vision.tokens_per_second)


def rope_index(merge_size: int, tokens_per_second: float) -> Callable[..., tuple[Any, Any]]:
    """Return a get_rope_index for Qwen2_5_VLModel.

    merge_size: patches per token in height and width; tokens_per_second: positions per second of video.
    """
    import torch

    def get_rope_index(
        input_ids: Any,
        mm_token_type_ids: Any,
        image_grid_thw: Any = None,
        video_grid_thw: Any = None,
        second_per_grid_ts: Any = None,
        attention_mask: Any = None,
        **_: Any,
    ) -> tuple[Any, Any]:
        """Return positions, shape (3, rows, tokens), and per row what to add to a token's number, shape (rows, 1).

        mm_token_type_ids: 0 text, 1 image, 2 video; second_per_grid_ts: seconds per temporal position, for each video.
        """
        grids = {_IMAGE: _rows(image_grid_thw), _VIDEO: _rows(video_grid_thw)}
        seconds = iter([] if second_per_grid_ts is None else second_per_grid_ts.tolist())
        positions = torch.zeros(3, *input_ids.shape, dtype=input_ids.dtype)
        deltas = []
        for row, kinds in enumerate(mm_token_type_ids):
            kept = torch.ones_like(kinds, dtype=torch.bool) if attention_mask is None else attention_mask[row].bool()
            parts, start = [], 0
            for kind, group in groupby(kinds[kept].tolist()):
                if kind == _TEXT:
                    part = torch.arange(len(list(group))).expand(3, -1)
                else:
                    part = _grid(
                        next(grids[kind]), merge_size, tokens_per_second * next(seconds) if kind == _VIDEO else 1
                    )
                parts.append(part + start)
                start = int(parts[-1].max()) + 1
            positions[:, row, kept.cpu()] = torch.cat(parts, dim=1).to(positions.dtype)
            deltas.append(start - int(kept.sum()))
        return positions.to(input_ids.device), torch.tensor(deltas, device=input_ids.device).unsqueeze(1)

    return get_rope_index


_TEXT, _IMAGE, _VIDEO = 0, 1, 2


def _rows(grids: Any) -> Iterator[list[int]]:
    return iter([] if grids is None else grids.tolist())


def _grid(grid: list[int], merge_size: int, interval: float) -> Any:
    """Return the positions of a video's tokens, shape (3, tokens): time, row, column, from 0."""
    import torch

    frames, height, width = grid[0], grid[1] // merge_size, grid[2] // merge_size
    times = (torch.arange(frames) * interval).round().long()
    return torch.stack(torch.meshgrid(times, torch.arange(height), torch.arange(width), indexing="ij")).reshape(3, -1)
