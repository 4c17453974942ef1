"""Give Qwen2.5-VL the times of a video's frames.

SGLang (0.5.10 to 0.5.23 were read, 0.5.17 was run) samples the frames of a video itself and does not pass their rate to
the processor of transformers, which then assumes 24 frames per second. The temporal positions of a clip at 2 frames per
second are 0,0,0,0,0,0,1,1,1,1 instead of 0,2,4,…,18: the model sees colours and objects, but neither order nor speed.

This processor computes the seconds per position from the frames that SGLang picked. Only the architecture
Qwen2_5_VLForConditionalGeneration gets it. It adds "clock" to mm_process_config, which GET /server_info shows, so that
a client can check that it is in use.
"""

from typing import ClassVar

import numpy as np
import torch
from sglang.srt.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from sglang.srt.multimodal.processors.qwen_vl import QwenVLImageProcessor
from sglang.srt.utils.video_decoder import VideoDecoderWrapper


class ClockedQwenVLProcessor(QwenVLImageProcessor):
    """Extend SGLang's processor with temporal positions that follow the times of the frames."""

    models: ClassVar = [Qwen2_5_VLForConditionalGeneration]

    def __init__(self, hf_config, server_args, *args, **kwargs):
        super().__init__(hf_config, server_args, *args, **kwargs)
        self._frames_per_position = hf_config.vision_config.temporal_patch_size
        server_args.mm_process_config["clock"] = {"positions": "frames"}

    async def load_mm_data(self, *args, **kwargs):
        """Load the media, and keep the frame count and rate of each video, which sampling takes off."""
        loaded = await super().load_mm_data(*args, **kwargs)
        loaded.source_rates = [
            (len(video), video.avg_fps) if isinstance(video, VideoDecoderWrapper) else None
            for video in loaded.videos or []
        ]
        return loaded

    async def process_and_combine_mm_data_async(self, base_output, *args, **kwargs):
        """Run the processor of transformers, then replace its seconds per position."""
        items, input_ids, output = await super().process_and_combine_mm_data_async(base_output, *args, **kwargs)
        rates = getattr(base_output, "source_rates", [])
        if rates and all(rates):
            output["second_per_grid_ts"] = [
                self._seconds_per_position(len(frames), total, fps)
                for frames, (total, fps) in zip(base_output.videos, rates, strict=True)
            ]
        return items, input_ids, output

    def _seconds_per_position(self, sampled, total, fps):
        """Return a column, shape (positions, 1), that get_rope_index multiplies by 0, 1, 2, … and by tokens per second.

        sampled: frames that SGLang picked of total, evenly, as its preprocess_video does; fps: of the video [1/s]. The
        products are half a token above the nearest one, because get_rope_index truncates.
        """
        times_s = np.linspace(0, total - 1, num=sampled, dtype=np.int64)[:: self._frames_per_position] / fps
        tokens = np.round(times_s * self._tokens_per_second)
        steps = np.maximum(np.arange(len(times_s)), 1)
        return torch.from_numpy((tokens + 0.5) / (steps * self._tokens_per_second)).unsqueeze(1)
