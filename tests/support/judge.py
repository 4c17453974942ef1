"""Puts specimens through a decoder pool, as the product does, and judges what comes of each.

A clip that is prepared must have proxies that decode to what is said of them. A refusal must be one that the specimen
allows, and a plain player must find what it claims (player.py): that nothing can be seen, that the end is missing, that
it is too long or too large. A refusal for the limits of decoding is right where the player had to give up too.
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

LIMITS, SAMPLING = VideoLimits(), Sampling()
_SLACK_S = 15.0  # for two processes to start on a busy machine
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one specimen.

    said: PREPARED, or the reason for refusing it; wrong: what is wrong with that, "" where nothing is; seconds: wall
    time; memory: the most that its decoder held resident [bytes].
    """

    name: str
    said: str
    detail: str
    wrong: str
    seconds: float
    memory: int


async def judged(specimens: Iterable[Specimen], clips: Clips, folder: Path) -> list[Verdict]:
    """One after another, in one decoder process for as long as it lives."""
    with Player() as player:
        async with DecoderPool(LIMITS, SAMPLING, size=1) as decoders:
            return [await _judge(one, decoders, player, clips, folder) for one in specimens]


async def _judge(one: Specimen, decoders: DecoderPool, player: Player, clips: Clips, folder: Path) -> Verdict:
    place = folder / one.name.replace("/", "-")
    place.mkdir(parents=True)
    path = one.make(clips, place)
    watch = asyncio.create_task(_watched())
    start = time.monotonic()
    prepared: Prepared | None = None
    said, detail = PREPARED, ""
    try:
        prepared = await decoders.prepare(path)
    except ClipRejected as refusal:
        said, detail = str(refusal.reason), refusal.detail
    except OSError as error:
        said, detail = "the machine is blamed", str(error)
    seconds = time.monotonic() - start
    watch.cancel()
    memory = max(_most_resident(), await watch)
    if prepared:
        wrong = _wrong_clip(prepared, one)
    elif said not in one.right:
        wrong = f"expected {', '.join(sorted(map(str, one.right)))}"
    else:
        wrong = _wrong_refusal(Reason(said), path, player)
    if seconds > 2 * LIMITS.decode_timeout_s + _SLACK_S:
        wrong = f"took {seconds:.0f} s, two tries of {LIMITS.decode_timeout_s:g} s are allowed"
    if memory > LIMITS.memory_bytes:
        wrong = f"held {memory} bytes, {LIMITS.memory_bytes} are allowed"
    shutil.rmtree(place)
    return Verdict(one.name, said, detail, wrong, round(seconds, 3), memory)


def _wrong_clip(prepared: Prepared, one: Specimen) -> str:
    if PREPARED not in one.right:
        return f"expected {', '.join(sorted(one.right))}"
    if one.shown and (prepared.info.width, prepared.info.height) != one.shown:
        return f"is shown as {one.shown}, found {prepared.info.width}x{prepared.info.height}"
    for window in prepared.windows:
        sizes = [(picture.shape[1], picture.shape[0]) for picture in read_proxy(window.proxy)]
        said = [(prepared.width, prepared.height)] * len(window.times)
        if sizes != said:
            return f"{len(said)} pictures of {said[0]} expected in the proxy, found {len(sizes)} of {set(sizes)}"
        if list(window.times) != sorted(window.times) or not window.start_s <= window.times[0] <= window.times[-1]:
            return f"times out of order: {window.times}"
    if not 0 < prepared.info.duration_s <= LIMITS.max_duration_s:
        return f"a duration of {prepared.info.duration_s} s"
    with av.open(BytesIO(prepared.poster)) as poster:
        next(poster.decode(video=0))
    return ""


def _wrong_refusal(reason: Reason, path: Path, player: Player) -> str:
    if reason is Reason.EMPTY_FILE:
        return "" if path.stat().st_size == 0 else f"{path.stat().st_size} bytes are there"
    if reason is Reason.MISSING:
        return "" if not path.exists() else "it is there"
    if not path.is_file():
        return ""
    shown = player.show(path)
    if shown is None:
        return ""
    return "" if _bears_out(reason, shown) else f"but a player finds {shown}"


def _bears_out(reason: Reason, shown: Shown) -> bool:
    says_s = shown.declared_s
    match reason:
        case Reason.NO_VIDEO:
            return shown.films == 0
        case Reason.UNDECODABLE | Reason.DECODE_LIMIT:
            return shown.pictures == 0
        case Reason.TRUNCATED_FILE:
            lost_end = max(says_s, shown.ends_s) - shown.shown_s > max(0.25, 0.05 * says_s)
            # With a clock that makes no sense, pictures can but be counted.
            lost_some = shown.ends_s > 2 * says_s + 1 and shown.pictures < 0.7 * shown.packets
            return shown.pictures == 0 or lost_end or lost_some
        case Reason.TOO_LONG:
            return max(says_s, shown.ends_s) > LIMITS.max_duration_s
        case Reason.TOO_LARGE:
            return shown.pixels > LIMITS.max_pixels
    return False


async def _watched() -> int:
    """The most that any decoder holds, until it is cancelled."""
    most = 0
    with suppress(asyncio.CancelledError):
        _forget_peaks()
        while True:
            await asyncio.sleep(_POLL_S)
            most = max(most, _most_resident())
    return most


def _decoders() -> list[Path]:
    children = (task / "children" for task in Path("/proc/self/task").iterdir())
    pids = [pid for file in children for pid in file.read_text().split()]
    return [Path(f"/proc/{pid}") for pid in pids if b"decoder_process" in _text(Path(f"/proc/{pid}/cmdline"))]


def _most_resident() -> int:
    fields = (line.split() for one in _decoders() for line in _text(one / "status").splitlines())
    return max((1024 * int(field[1]) for field in fields if field[0] == b"VmHWM:"), default=0)


def _forget_peaks() -> None:
    for one in _decoders():
        with suppress(OSError):
            (one / "clear_refs").write_text("5")


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # gone meanwhile
