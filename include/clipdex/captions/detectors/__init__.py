"""The embedded engine: small detectors on the CPU, their weights inside installed packages, nothing downloaded.

Objects, shapes, text on screen, shots, camera and colours, written as plain sentences that say no more than was found.
Enough to try everything and to search by objects, colours, movements and words; what a scene means takes a video
model on a GPU.
"""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor

from clipdex.captions.caption import Fingerprint, Gates, Reply, Segment
from clipdex.captions.detectors import weights
from clipdex.config import Settings
from clipdex.video import Prepared, read_proxy

VERSION = 2  # raise it with every change that may change a caption
_MOST_THREADS = 8  # each holds its own models


class Detectors:
    """The Captioner of this engine. The same proxy always gets the same caption; attempt makes no difference."""

    def __init__(self, settings: Settings) -> None:
        self.fingerprint = Fingerprint(
            engine="detectors",
            model=weights.identity(VERSION),
            strategy="video",
            prompt="",
            sampling=settings.sampling.model_dump(),
            generation={},
        )
        self.gates = Gates(min_words=4, max_repeat=0.8, min_ratio=0.1, language="en")
        self.in_flight = settings.engine.in_flight or min(_cores(), _MOST_THREADS)
        self._threads = ThreadPoolExecutor(self.in_flight, thread_name_prefix="detectors")

    async def check(self) -> None:
        await asyncio.to_thread(weights.verify)

    async def caption(self, clip: Prepared, attempt: int = 1) -> Reply:
        return await asyncio.get_running_loop().run_in_executor(self._threads, describe, clip)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)


def describe(clip: Prepared) -> Reply:
    """The caption of one clip, written in this thread."""
    weights.verify()
    # Not at the top: whoever only declares the engine need not have its packages, nor wait for them.
    from clipdex.captions.detectors import analysis, samples, sentences

    start = time.monotonic()
    pictures = (picture for window in clip.windows for picture in read_proxy(window.proxy))
    taken = samples.take(pictures, clip.times)
    shots = analysis.analyze(analysis.models(), taken, clip.info.duration_s)
    segments = tuple(
        Segment(shot.start_s, shot.end_s, sentences.tell(shot, number)) for number, shot in enumerate(shots)
    )
    return Reply(
        text=" ".join(segment.text for segment in segments), segments=segments, seconds=time.monotonic() - start
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
