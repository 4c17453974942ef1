"""Counting: the prompt tokens of a known video, and the likely cause if a node counts others."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from clipdex.captions.preflight.findings import Check, Finding, Level
from clipdex.config import EngineName
from clipdex.families import Family
from clipdex.families.counting import Size


@dataclass(frozen=True, slots=True)
class Sent:
    """A known video: frames of a size [pixels] at a rate [1/s]."""

    frames: int
    size: Size
    fps: float


SHORT = 4  # frames: nodes that sample frames again keep at least as many
Measure = Callable[[Sent], Awaitable[int]]
"""Returns the prompt tokens that a video adds to a text; 0 if the node counts none."""


async def compare(family: Family, engine: EngineName, sent: Sent, measure: Measure) -> Finding:
    """Compare the tokens that a node counts with those of the family. Send a second video if they differ."""
    expected = family.expected(sent.frames, sent.size, sent.fps, engine)
    counted = await measure(sent)
    what = f"{sent.frames} frames of {sent.size[0]}x{sent.size[1]} at {sent.fps:g} per second"
    if counted <= 0:
        return Finding(Check.TOKENS, Level.WARNING, f"{what}: the node reports no prompt tokens: unchecked")
    if abs(counted - expected) <= family.tolerance(sent.frames):
        return Finding(Check.TOKENS, Level.OK, f"{what}: {counted} tokens, expected {expected}")
    short = Sent(SHORT, sent.size, sent.fps)
    counted_short = await measure(short)
    cause = _cause(family, engine, sent, counted, short, counted_short)
    level = Level.ERROR if family.certain else Level.WARNING
    found = f"expected {expected} tokens of {family.name}, counted {counted}"
    return Finding(Check.TOKENS, level, f"{what}: {found}: {cause}")


def _cause(family: Family, engine: EngineName, sent: Sent, counted: int, short: Sent, counted_short: int) -> str:
    """Return the likely cause. A node that drops frames keeps the few of the short video; one that resizes does not."""

    def total(frames: int, of: Sent) -> int:
        return family.expected(frames, of.size, of.fps, engine)

    def likely(of: Sent, tokens: int) -> int:
        unit = family.counting.unit
        return min(range(unit, 4 * sent.frames, unit), key=lambda frames: abs(total(frames, of) - tokens))

    seen = likely(sent, counted)
    if seen != short.frames and seen == likely(short, counted_short):
        return f"always {seen} frames of any video, also of {short.frames}: it is sampled again: {_SAMPLES[engine]}"

    whole = abs(counted_short - total(short.frames, short)) <= family.tolerance(short.frames)
    if not whole:
        ratio, ratio_short = counted / total(sent.frames, sent), counted_short / total(short.frames, short)
        if abs(ratio - ratio_short) < _SAME * max(ratio, ratio_short):
            less = "fewer" if ratio < 1 else "more"
            return (
                f"the frames are resized, to about {ratio:.0%} of their pixels ({less} tokens in a video of "
                f"{short.frames} frames, too): {_RESIZES[engine]}"
            )
        return f"neither frames nor sizes explain it: is the model a {family.name}? Set CLIPDEX_SAMPLING__FAMILY"
    if 2 * seen == sent.frames:
        found = "half of the frames: they are sampled a second time"
    elif seen < sent.frames:
        found = f"about {seen} of {sent.frames} frames, the others are dropped"
    else:
        found = f"about {seen} frames instead of {sent.frames}: the video is sampled again"
    return f"{found}: {_SAMPLES[engine]}"


_SAME = 0.15
_SAMPLES: Mapping[EngineName, str] = {
    EngineName.SGLANG: "fps or max_frames in --mm-process-config (SGLang 0.5.11 and newer may apply them twice, its "
    "issue 31200); raise max_frames to at least CLIPDEX_SAMPLING__MAX_FRAMES, or remove both",
    EngineName.VLLM: "--media-io-kwargs, --mm-processor-kwargs (fps, num_frames, do_sample_frames) or "
    "--video-pruning-rate; clipdex asks for all frames, so remove them",
    EngineName.TENSORRT_LLM: '--media_io_kwargs: start the server with {"video": {"num_frames": N}}, where N is '
    "CLIPDEX_SAMPLING__MAX_FRAMES",
}
_RESIZES: Mapping[EngineName, str] = {
    EngineName.SGLANG: "min_pixels, max_pixels, total_pixels or resized_height in --mm-process-config, or another "
    "preprocessor_config.json in the checkpoint",
    EngineName.VLLM: "size, min_pixels or max_pixels in --mm-processor-kwargs, --video-pruning-rate, or another "
    "preprocessor_config.json in the checkpoint",
    EngineName.TENSORRT_LLM: "the preprocessor_config.json in the checkpoint",
}
