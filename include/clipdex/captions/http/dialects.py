"""What differs between the servers that speak the OpenAI-compatible API: one row each, and nothing else anywhere."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clipdex.captions.http.clock import ClockFinding, sglang_clock, vllm_clock
from clipdex.captions.http.load_control import Load, sglang_load
from clipdex.config import EngineName


@dataclass(frozen=True, slots=True)
class Dialect:
    """video_part, image_part: how a message spells a video and a picture, given its data URL. video_options: put into
    every request that has a video. seeds: whether a request names a seed.

    server_info: where the server tells its own settings; "" where it does not. served_sampling: what those say about
    frames, None if they do not say. sampling_flag: how a person sets it. load_page, load: where the server tells what
    it works on, and how that is read; "" where it does not. clock_pages: the pages that show whether frames keep their
    times, of the server and, "" for its card at /v1/models, of the model; clock: how those are read.
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
    """SGLang's flag --mm-process-config as /server_info shows it. {} is said, too: the model's own defaults."""
    config = info.get("mm_process_config", False)
    if config is False:
        return None
    return dict((config or {}).get("video") or {})


DIALECTS: Mapping[EngineName, Dialect] = {
    # Fps and frames in a request are taken and ignored: only the server's own flag counts.
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
    # Without num_frames it picks frames of the proxy, whose frames were picked already. Where requests name a seed, its
    # sampler draws for one after the other, at every token (vllm/v1/sample/ops/topk_topp_sampler.py).
    EngineName.VLLM: Dialect(
        _video_url,
        video_options={"media_io_kwargs": {"video": {"num_frames": -1}}},
        seeds=False,
        clock_pages=("/version", ""),
        clock=vllm_clock,
    ),
    # Refuses a request with a field that it does not know; takes 10 frames unless its flag --media_io_kwargs says more.
    EngineName.TENSORRT_LLM: Dialect(_video_url),
}
