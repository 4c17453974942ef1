"""Near-duplicates: clips of a batch that look like one that the engine describes, such as those of a static camera.

A clip is compared with the clips of its folder that the engine has described in this try, or is describing now. It
shares the caption of the nearest one. Captions that are shared are never compared with, so distances do not add up.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from clipdex.captions.captioner import CaptionDraft
from clipdex.captions.times import moved
from clipdex.storage.caption import Caption
from clipdex.storage.clip import Clip
from clipdex.video import Prepared
from clipdex.video.likeness import Distance, Look, distance, look_of, require_hashes

MOST_CHANGE = 12.0
"""Most that the colour of one cell may differ, of 255: noise stays below it, and what moves visibly is above 15."""

_REMEMBERED = 256  # clips per folder, 100 kB each


@dataclass(frozen=True, slots=True)
class Near:
    """The caption that a clip may share, and their distance: mean bits of 64 per frame."""

    caption: Caption
    distance: float

    def draft(self, clip: Prepared) -> CaptionDraft:
        """Return the caption with the clip's times, at no cost."""
        info = clip.info
        own = moved(self.caption, info.start_s - self.caption.start_s, info.end_s)
        return CaptionDraft(own.text, own.segments, notes=own.notes, finish_reason=own.finish_reason, attempts=0)


@dataclass(slots=True, eq=False)
class Described:
    """A clip that the engine describes, or has described. caption: None until it is stored; also if there is none."""

    clip_id: str
    look: Look
    caption: Caption | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, caption: Caption | None) -> None:
        """Let the clips that wait for this one share its caption; without one, the first of them is requested."""
        self.caption = caption
        self.done.set()


class NearDuplicates:
    """Hold the clips of one try that others may look like. limit: the largest distance.

    Raises ConfigurationError if the library of the hashes is not installed.
    """

    def __init__(self, limit: float) -> None:
        require_hashes()
        self._limit = limit
        self._folders: dict[str, deque[Described]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))

    async def find(self, clip: Clip, prepared: Prepared) -> Near | Described:
        """Return the caption that a clip can share; else itself, to be requested, and ended in any case.

        Waits for a caption that is under way.
        """
        look = await asyncio.to_thread(look_of, prepared)
        folder = self._folders[_folder(clip)]
        while found := self._nearest(folder, look):
            nearest, bits = found
            await nearest.done.wait()
            if nearest.caption:
                return Near(nearest.caption, bits)
        own = Described(clip.clip_id, look)
        folder.append(own)
        return own

    def may_share(self, clip: Clip) -> bool:
        """Return whether a clip that got no answer, or was rejected, can share what was captioned since."""
        folder = self._folders[_folder(clip)]
        own = next((one for one in folder if one.clip_id == clip.clip_id), None)
        return own is not None and self._nearest(folder, own.look) is not None

    def _nearest(self, folder: Iterable[Described], look: Look) -> tuple[Described, float] | None:
        near = []
        for one in folder:
            if one.done.is_set() and not one.caption:
                continue  # rejected, or without an answer
            apart = distance(one.look, look)
            if apart and self._is_near(apart):
                near.append((one, apart.mean))
        return min(near, key=lambda found: found[1], default=None)

    def _is_near(self, apart: Distance) -> bool:
        # Bits change in pairs, because half of them are above the median.
        return apart.mean <= self._limit and apart.most <= 2 * self._limit + 2 and apart.change <= MOST_CHANGE


def _folder(clip: Clip) -> str:
    return clip.path.rpartition("/")[0]
