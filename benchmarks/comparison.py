"""Compare a prepared clip with the pictures of plain decoding over time.

A film as a player shows it is a Timeline; other readings of its times explain a difference: without the offset to the
sound, with jumps of the clock closed up, with even steps, with the pictures that cannot be decoded, another stream.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from benchmarks.plain import SIDE, Film, Plain, thumbnail
from clipdex.video import Prepared

_NEARER = 4.0  # levels of 255 by which another picture must be nearer, beyond the noise of compression
_LIKE = 24.0  # levels by which a picture may differ from itself, on average: colour ranges, tone mapping
_JUMP_S = 0.5  # a clock that goes back by less is unsorted: the pictures are in order, their stamps are not
_ROUNDING_S = 1e-3
_AROUND_S = (-_ROUNDING_S, 1e-6)  # a picture that starts by a clock's tick later may still be the one before it


@dataclass(frozen=True, slots=True)
class Timeline:
    """The pictures of a film over time, in the order of their times.

    name: how the times were made
    starts: of each picture, the first is 0 [s]
    thumbs: (pictures, SIDE, SIDE)
    end_s: of the last picture [s]
    frame_s: usual length of a picture [s]
    lead_s: from the start of a player's clock to the first picture, None to leave it out of the comparison [s]
    hdr: its tones are mapped for the proxy
    tiny: smaller than a thumbnail, so that enlarging it decides how it looks
    """

    name: str
    starts: np.ndarray
    thumbs: np.ndarray
    end_s: float
    frame_s: float
    lead_s: float | None = None
    hdr: bool = False
    tiny: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """A prepared clip against one timeline.

    longer_s: duration minus that of the timeline [s]
    later_s: start of the film minus that of the timeline [s]
    other: pictures of the proxies that show another time
    neighbour: those of them that are off by one picture
    unlike: pictures that resemble no picture of the timeline
    toned: compared without brightness and contrast, which tone mapping and a wrong colour range change
    shift_s: median of the time that the others show minus their own [s]
    """

    timeline: str
    longer_s: float
    later_s: float
    frame_s: float
    pictures: int
    other: int = 0
    neighbour: int = 0
    unlike: int = 0
    shift_s: float = 0.0
    toned: bool = False

    @property
    def differences(self) -> list[str]:
        found = []
        if abs(self.longer_s) > self.frame_s + _ROUNDING_S:
            found.append("duration")
        if abs(self.later_s) > self.frame_s + _ROUNDING_S:
            found.append("start")
        if self.other > self.neighbour or self.neighbour > max(1, self.pictures // 4):
            found.append("frames")
        if self.unlike > self.pictures // 4:
            found.append("pictures")
        return found


def timelines(plain: Plain, film: Film, arrays: dict[str, np.ndarray], start_s: float = 0.0) -> Iterator[Timeline]:
    """Yield the film as a player shows it, and then other readings that explain a difference.

    start_s: of the prepared clip on a player's clock [s]
    """
    times, thumbs = arrays[f"times_{film.stream}"], arrays[f"thumbs_{film.stream}"]
    line = stamped("", times, thumbs, film)
    known = times[np.isfinite(times)]
    lead_s = max(0.0, float(known.min()) - plain.start_s) if len(known) and plain.start_s is not None else None
    yield replace(line, name="as a player shows it", lead_s=lead_s)
    yield replace(line, name="from its first picture")
    steps = np.diff(known)
    forward = steps[steps > 0]
    step = float(np.median(forward)) if len(forward) else film.last_s or 0.04
    if len(known) == len(times):
        closed = np.where((steps < 0) | (steps > max(1.0, 10 * step)), step, steps)
        yield stamped("with jumps closed", np.concatenate([[0.0], np.cumsum(closed)]), thumbs, film)
    yield stamped("with even steps", np.arange(len(times)) * step, thumbs, film)
    earlier_s = (lead_s or 0.0) - start_s
    if earlier_s > 0:
        longer = replace(line, starts=line.starts + earlier_s, end_s=line.end_s + earlier_s, lead_s=start_s)
        yield replace(longer, name="with the pictures before it that do not decode")
    for other in plain.films:
        if other.stream != film.stream and other.pictures:
            ours = arrays[f"times_{other.stream}"], arrays[f"thumbs_{other.stream}"]
            yield stamped(f"to stream {other.stream}", *ours, other)


def stamped(name: str, times: np.ndarray, thumbs: np.ndarray, film: Film) -> Timeline:
    """Return the pictures in the order of the decoder, which is that of a player, over their sorted times.

    A picture without a time follows the one before it, and a clock that jumps back goes on from there.
    """
    steps = np.diff(np.sort(times[np.isfinite(times)]))
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else film.last_s or 0.04
    known = np.array(times)
    for number in np.flatnonzero(~np.isfinite(known)):
        known[number] = known[:number].max() + usual if number else 0.0
    for number in np.flatnonzero(np.diff(known) < -_JUMP_S) + 1:
        known[number:] += known[number - 1] + usual - known[number]
    starts = np.sort(known) - known.min()
    last = film.last_s or usual
    tiny = min(film.width, film.height) < SIDE
    end_s = float(starts[-1]) + last
    return Timeline(name, starts, thumbs, end_s, max(usual, last), hdr=film.hdr, tiny=tiny)


def compare(prepared: Prepared, proxies: np.ndarray, line: Timeline) -> Compared:
    """Compare the duration, and each picture of the proxies with the one on screen at its time."""
    found = _compare(prepared, flat(proxies), flat(line.thumbs), line)
    if found.unlike or line.hdr:
        toned = _compare(prepared, even_tones(proxies), even_tones(line.thumbs), line)
        found = replace(toned, toned=True) if toned.unlike < found.unlike or line.hdr else found
    return found


def _compare(prepared: Prepared, proxies: np.ndarray, plain: np.ndarray, line: Timeline) -> Compared:
    start_s = prepared.info.start_s
    later_s = 0.0 if line.lead_s is None else start_s - line.lead_s
    times = np.array(prepared.times) - start_s + later_s
    earliest, latest = (np.maximum(0, np.searchsorted(line.starts, times + by, side="right") - 1) for by in _AROUND_S)
    other, unlike, shifts = [], 0, []
    for proxy, first, last in zip(proxies, earliest, latest, strict=True):
        distances = np.abs(plain - proxy).mean(axis=1)
        nearest, number = int(distances.argmin()), int(first + distances[first : last + 1].argmin())
        unlike += bool(distances[nearest] > _LIKE) and not line.tiny
        if distances[number] > 2 * distances[nearest] + _NEARER:
            near = np.flatnonzero(distances <= distances[nearest] + _NEARER / 4)
            nearest = int(near[np.abs(near - number).argmin()])
            other.append(abs(nearest - number))
            shifts.append(line.starts[nearest] - line.starts[number])
    return Compared(
        timeline=line.name,
        longer_s=prepared.info.duration_s - line.end_s,
        later_s=later_s,
        frame_s=line.frame_s,
        pictures=len(proxies),
        other=len(other),
        neighbour=other.count(1),
        unlike=unlike,
        shift_s=float(np.median(shifts)) if shifts else 0.0,
    )


def flat(thumbs: np.ndarray) -> np.ndarray:
    return thumbs.reshape(len(thumbs), -1).astype(np.float32)


def even_tones(thumbs: np.ndarray) -> np.ndarray:
    """Return each picture by the ranks of its brightness, which no curve of tones changes."""
    values = flat(thumbs)
    return (values.argsort(axis=1, kind="stable").argsort(axis=1) * (255 / (values.shape[1] - 1))).astype(np.float32)


def proxy_thumbs(prepared: Prepared) -> np.ndarray:
    """Return the thumbnails of all proxies (pictures, SIDE, SIDE)."""
    scaler, thumbs = VideoReformatter(), []
    for window in prepared.windows:
        with av.open(io.BytesIO(window.proxy)) as container:
            thumbs += [thumbnail(frame, scaler) for frame in container.decode(video=0)]
    return np.array(thumbs)
