"""The embedded engine: small CPU detectors with weights from installed packages; nothing is downloaded.

Detects objects, on-screen text, shots, camera motion and colours, and writes them as plain sentences. Enough to
try clipdex and to search by objects, colours, movements and text. Scene understanding requires a video model on a GPU.
"""

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from clipdex.captions import identification
from clipdex.captions.captioner import CaptionDraft, Fingerprint, Gates
from clipdex.captions.detectors import weights
from clipdex.config import Settings
from clipdex.storage.caption import Segment
from clipdex.video import Prepared, read_proxy

VERSION = 3  # increase it with every change that may change a caption
_MOST_THREADS = 8  # each loads its own models


class Detectors:
    """The Captioner of this engine. It is deterministic per proxy and ignores attempt."""

    def __init__(self, settings: Settings) -> None:
        self.fingerprint = Fingerprint(
            engine="detectors",
            model=weights.identity(VERSION),
            strategy="video",
            prompt="",
            sampling=settings.sampling.fingerprint(),
            generation={},
        )
        self.gates = Gates(min_words=4, max_repeat=0.8, min_ratio=0.1, language="en", cleaning=False)
        self.in_flight = settings.engine.in_flight or min(_cores(), _MOST_THREADS)
        self._threads = ThreadPoolExecutor(self.in_flight, thread_name_prefix="detectors")

    async def check(self) -> None:
        """Verify the model files and import their packages. Raises ConfigurationError."""
        await asyncio.to_thread(_load)
        await asyncio.to_thread(identification.load)

    async def caption(self, clip: Prepared, attempt: int = 1) -> CaptionDraft:
        return await asyncio.get_running_loop().run_in_executor(self._threads, describe, clip)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)


def describe(clip: Prepared) -> CaptionDraft:
    """Caption one clip in the current thread. Raises ConfigurationError."""
    _load()
    # Imported lazily: constructing the engine must not require or load its packages.
    from clipdex.captions.detectors import analysis, samples, sentences

    start = time.monotonic()
    pictures = (picture for window in clip.windows for picture in read_proxy(window.proxy))
    taken = samples.take(pictures, clip.times)
    shots = analysis.analyze(analysis.models(), taken, clip.info.end_s)
    segments = tuple(
        Segment(shot.start_s, shot.end_s, sentences.write(shot, number)) for number, shot in enumerate(shots)
    )
    return CaptionDraft(
        text=" ".join(segment.text for segment in segments), segments=segments, seconds=time.monotonic() - start
    )


_loading = threading.Lock()


def _load() -> None:
    """Verify the model files and import their packages, one thread at a time. Raises ConfigurationError."""
    # The lock covers both: find_spec("cv2") raises ValueError while another thread imports cv2.
    with _loading:
        weights.verify()
        from clipdex.captions.detectors import analysis, samples, sentences  # noqa: F401


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
