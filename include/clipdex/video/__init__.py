"""Video: clip metadata, sampled frames as a proxy, and a poster.

sampling      probe a clip, choose frame times, prepare the engine's input
clip_file     a clip opened for reading
decoding      frames at given times
packets       time stamps, without decoding
truncation    detection of a missing end of file
unseen        packets at the start and at the end that give no picture
signature     the bytes by which a video file is known: a damaged film is no litter
parts         the parts of a long file
encoding      proxies, posters, stills
playback      what browsers play; sound: that of a file; boxes: the form of a playback
sandbox/      the same in limited processes, for untrusted files
"""

from clipdex.video.clip_file import ClipFile
from clipdex.video.parts import Part, RejectedPart
from clipdex.video.sampling import (
    Prepared,
    Schedule,
    VideoInfo,
    Window,
    prepare,
    prepare_file,
    probe,
    read_proxy,
    schedule,
    stills,
    visual_tokens,
)

__all__ = [
    "ClipFile",
    "Part",
    "Prepared",
    "RejectedPart",
    "Schedule",
    "VideoInfo",
    "Window",
    "prepare",
    "prepare_file",
    "probe",
    "read_proxy",
    "schedule",
    "stills",
    "visual_tokens",
]
