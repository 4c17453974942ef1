"""Dialects: all differences between servers with an OpenAI-compatible API, one row per server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clipdex.captions.http.clock import ClockFinding, sglang_clock, vllm_clock
from clipdex.config import EngineName
from clipdex.nodes.load_control import Load, sglang_load


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one server's API differs.

    video_part, image_part: build the message part from a data URL
    video_options: added to every request with a video
    seeds: whether requests include a seed
    server_info: page with the server's settings; "" if there is none
    served_sampling: reads the frame sampling from server_info; None if it is not reported
    sampling_flag: the server's flag that sets the frame sampling
    load_page, load: page with the server's load and its parser; "" if there is none
    clock_pages: pages of the server and of the model for the clock check; "" is the model's card at /v1/models
    clock: reads clock_pages
    """

    video_part: Callable[[str], dict[str, Any]]
    image_part: Callable[[str], dict[str, Any]] = lambda url: {"type": "image_url", "image_url": {"url": url}}
    video_options: Mapping[str, Any] = field(default_factory=dict)
    seeds: bool = True
    server_info: str = ""
    served_sampling: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] = lambda _: None
    sampling_flag: str = ""
    load_page: str = ""
    load: Callable[[Mapping[str, Any]], Load | None] = lambda _: None
    clock_pages: tuple[str, str] | None = None
    clock: Callable[[Mapping[str, Any], Mapping[str, Any]], ClockFinding | None] = lambda *_: None


def _video_url(url: str) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url}}


def _mm_process_config(info: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return SGLang's --mm-process-config from /server_info; {} for the model's defaults, None if not reported."""
    match info:
        case {"mm_process_config": {"video": Mapping() as video}}:
            return {str(name): value for name, value in video.items()}
        case {"mm_process_config": None | {"video": None}}:
            return {}
        case {"mm_process_config": Mapping() as config} if "video" not in config:
            return {}
    return None


DIALECTS: Mapping[EngineName, Dialect] = {
    # SGLang accepts and ignores fps and frames in a request; only the server's flag has an effect.
    EngineName.SGLANG: Dialect(
        _video_url,
        server_info="/server_info",
        served_sampling=_mm_process_config,
        sampling_flag="--mm-process-config",
        load_page="/v1/loads",
        load=sglang_load,
        clock_pages=("/server_info", "/model_info"),
        clock=sglang_clock,
    ),
    # num_frames -1: keep all frames of the proxy, which is sampled already. No seed: with one, the sampler processes
    # requests one by one at every token (vllm/v1/sample/ops/topk_topp_sampler.py).
    EngineName.VLLM: Dialect(
        _video_url,
        video_options={"media_io_kwargs": {"video": {"num_frames": -1}}},
        seeds=False,
        clock_pages=("/version", ""),
        clock=vllm_clock,
    ),
    # TensorRT-LLM rejects requests with unknown fields, and uses 10 frames unless --media_io_kwargs sets more.
    EngineName.TENSORRT_LLM: Dialect(_video_url),
}
