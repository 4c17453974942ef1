"""Decode specimens in a decoder pool, as production does, and judge each result.

The proxies of a prepared clip must decode to the declared sizes and times. A rejection must be allowed for the
specimen, and a plain player (player.py) must confirm its reason: no video, missing end, too long or too
large. A rejection for a decode limit is correct if the player fails as well.
"""

import asyncio
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av

from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import Prepared, read_proxy
from clipdex.video.sandbox.pool import DecoderPool
from tests.support.odd import PREPARED, Clips, Specimen
from tests.support.player import Player, Shown
from tests.support.processes import children, text

LIMITS, SAMPLING = VideoLimits(), Sampling()
_SLACK_S = 15.0  # for two processes to start on a busy machine
_POLL_S = 0.02
_DURATION_SLACK_S = 0.21  # two frames of the generated films


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one specimen.

    result: PREPARED, or the reason of the rejection
    wrong: the defect of this result, "" for none
    seconds: wall time [s]
    memory: peak resident memory of its decoder [bytes]
    """

    name: str
    result: str
    detail: str
    wrong: str
    seconds: float
    memory: int


async def judged(specimens: Iterable[Specimen], clips: Clips, folder: Path) -> list[Verdict]:
    """Judge specimens one by one; reuse one decoder process until it dies."""
    with Player() as player:
        async with DecoderPool(LIMITS, SAMPLING, size=1) as decoders:
            return [await _judge(one, decoders, player, clips, folder) for one in specimens]


async def _judge(one: Specimen, decoders: DecoderPool, player: Player, clips: Clips, folder: Path) -> Verdict:
    place = folder / one.name.replace("/", "-")
    place.mkdir(parents=True)
    path = one.make(clips, place)
    watch = asyncio.create_task(peak_memory())
    start = time.monotonic()
    prepared: Prepared | None = None
    result, detail = PREPARED, ""
    try:
        prepared = await decoders.prepare(path)
    except ClipRejected as refusal:
        result, detail = str(refusal.reason), refusal.detail
    except OSError as error:
        result, detail = "transient error", str(error)
    seconds = time.monotonic() - start
    watch.cancel()
    memory = max(most_resident(), await watch)
    if prepared:
        assert memory, "no decoder process was found: its memory is not measured"
        wrong = _wrong_clip(prepared, one) or _wrong_duration(prepared, one, path, player)
    elif result not in one.right:
        wrong = f"expected {', '.join(sorted(map(str, one.right)))}"
    else:
        wrong = _wrong_refusal(Reason(result), path, player)
    if seconds > 2 * LIMITS.decode_timeout_s + _SLACK_S:
        wrong = f"took {seconds:.0f} s, two tries of {LIMITS.decode_timeout_s:g} s are allowed"
    if memory > LIMITS.memory_bytes:
        wrong = f"held {memory} bytes, {LIMITS.memory_bytes} are allowed"
    shutil.rmtree(place)
    return Verdict(one.name, result, detail, wrong, round(seconds, 3), memory)


def _wrong_clip(prepared: Prepared, one: Specimen) -> str:
    if PREPARED not in one.right:
        return f"expected {', '.join(sorted(one.right))}"
    if one.shown and (prepared.info.width, prepared.info.height) != one.shown:
        return f"expected size {one.shown}, found {prepared.info.width}x{prepared.info.height}"
    for window in prepared.windows:
        sizes = [(picture.shape[1], picture.shape[0]) for picture in read_proxy(window.proxy)]
        expected = [(prepared.width, prepared.height)] * len(window.times)
        if sizes != expected:
            return f"expected {len(expected)} proxy pictures of {expected[0]}, found {len(sizes)} of {set(sizes)}"
        if list(window.times) != sorted(window.times) or not window.start_s <= window.times[0] <= window.times[-1]:
            return f"times out of order: {window.times}"
    if not 0 < prepared.info.duration_s <= LIMITS.max_duration_s:
        return f"invalid duration: {prepared.info.duration_s} s"
    with av.open(BytesIO(prepared.poster)) as poster:  # no file here can cost its poster
        next(poster.decode(video=0))
    return ""


def _wrong_duration(prepared: Prepared, one: Specimen, path: Path, player: Player) -> str:
    expected_s = one.lasts
    if one.as_played and (shown := player.show(path)):
        expected_s = shown.plays_s
    if expected_s is None or abs(prepared.info.duration_s - expected_s) <= _DURATION_SLACK_S:
        return ""
    return f"expected {expected_s:.2f} s, found {prepared.info.duration_s:.2f} s"


def _wrong_refusal(reason: Reason, path: Path, player: Player) -> str:
    if reason is Reason.EMPTY_FILE:
        return "" if path.stat().st_size == 0 else f"expected 0 bytes, found {path.stat().st_size}"
    if reason is Reason.MISSING:
        return "" if not path.exists() else "the file exists"
    if not path.is_file():
        return ""
    shown = player.show(path)
    if shown is None:
        return ""
    return "" if _is_confirmed(reason, shown) else f"a plain player found {shown}"


def _is_confirmed(reason: Reason, shown: Shown) -> bool:
    declared_s = shown.declared_s
    match reason:
        case Reason.NO_VIDEO:
            return shown.films == 0
        case Reason.UNDECODABLE | Reason.NOT_A_VIDEO | Reason.DECODE_LIMIT:
            return shown.pictures == 0
        case Reason.TRUNCATED_FILE:
            lost_end = max(declared_s, shown.ends_s) - shown.shown_s > max(0.25, 0.05 * declared_s)
            # With invalid time stamps, or a clock that jumped, only the number of pictures is usable.
            has_wrong_times = shown.ends_s > 2 * declared_s + 1 or declared_s > LIMITS.max_duration_s
            lost_some = has_wrong_times and shown.pictures < 0.7 * shown.packets
            promised = shown.promised - shown.packets > max(2, 0.05 * shown.promised)
            promised_s = shown.promised_s - shown.ends_s > max(0.25, 0.05 * shown.promised_s)
            # After a stray stamp, a picture's time does not show that the last ones are missing.
            lost_tail = shown.tail > max(4, 0.1 * shown.packets)
            return shown.pictures == 0 or lost_end or lost_some or lost_tail or promised or promised_s
        case Reason.TOO_LONG:
            return max(declared_s, shown.ends_s) > LIMITS.max_duration_s
        case Reason.TOO_LARGE:
            return shown.pixels > LIMITS.max_pixels
    return False


async def peak_memory() -> int:
    """Return the peak resident memory of all decoders [bytes], sampled until cancelled."""
    most = 0
    with suppress(asyncio.CancelledError):
        _reset_peaks()
        while True:
            await asyncio.sleep(_POLL_S)
            most = max(most, most_resident())
    return most


def _decoders() -> list[Path]:
    processes = (Path(f"/proc/{pid}") for pid in children())
    return [process for process in processes if "clipdex.video.sandbox.worker" in text(process / "cmdline")]


def most_resident() -> int:
    fields = (line.split() for one in _decoders() for line in text(one / "status").splitlines())
    return max((1024 * int(field[1]) for field in fields if field[0] == "VmHWM:"), default=0)


def _reset_peaks() -> None:
    for one in _decoders():
        with suppress(OSError):  # it has ended, or belongs to root alone: then the peak is that of its life
            (one / "clear_refs").write_text("5")
