"""Video: what a clip shows, its sampled frames as a proxy, and a poster.

sampling      probe a clip, choose the frames, prepare what an engine needs
decoding      frames at given times; packets: their time stamps; truncation: a missing end
encoding      proxies, posters, stills
sandbox/      the same in processes with limits, for files of strangers
"""

from clipdex.video.sampling import (
    Prepared,
    Schedule,
    VideoInfo,
    Window,
    prepare,
    probe,
    read_proxy,
    schedule,
    stills,
    visual_tokens,
)

__all__ = [
    "Prepared",
    "Schedule",
    "VideoInfo",
    "Window",
    "prepare",
    "probe",
    "read_proxy",
    "schedule",
    "stills",
    "visual_tokens",
]
