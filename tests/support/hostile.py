"""Generate hostile video: seeded damage to good clips of every format.

The name of a specimen defines it: "header-bits/mp4/17" is the kind of damage, the damaged clip and the random seed. A
clip that plays well and declares something else (presented.py) is damaged under its kind: "zeroed-run/edit-list/17".
"""

import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from clipdex.errors import Reason
from tests.support.boxes import boundaries, header_spots
from tests.support.odd import GOOD, PREPARED, Clips, Specimen, odd, put
from tests.support.presented import KINDS, presented_specimen

# A wrong header can cause any of these rejections, a memory limit included.
_BROKEN = frozenset({PREPARED, *(reason for reason in Reason if reason.seen_by_decoder)} - {Reason.EMPTY_FILE})
_CUT = frozenset(
    {PREPARED, Reason.TRUNCATED_FILE, Reason.UNDECODABLE, Reason.NO_VIDEO, Reason.NOT_A_VIDEO, Reason.EMPTY_FILE}
)
_MOST_CUTS = 40

Damage = Callable[[bytearray, random.Random], None]


def damaged(clips: Clips, each: int) -> Iterator[Specimen]:
    """Yield every kind of damage to every good clip, each this many times, and cuts at box boundaries."""
    for kind in DAMAGES:
        for clip in (*GOOD, *KINDS):
            yield from (_damaged(kind, clip, number) for number in range(each))
    for clip in GOOD:
        count = len(boundaries(clips.bytes(clip)))
        chosen = {round(k * (count - 1) / (_MOST_CUTS - 1)) for k in range(_MOST_CUTS)} if count else set()
        yield from (_cut(clip, number) for number in sorted(chosen))


def specimen(name: str) -> Specimen:
    """Return the specimen of that name; raise ValueError for an unknown name."""
    kind, _, rest = name.partition("/")
    clip, _, number = rest.partition("/")
    if clip in (*GOOD, *KINDS) and number.isdecimal():
        if kind in DAMAGES:
            return _damaged(kind, clip, int(number))
        if kind == "cut-at-box":
            return _cut(clip, int(number))
    if kind in KINDS and rest.isdecimal():
        return presented_specimen(kind, int(rest))
    for one in odd():
        if one.name == name:
            return one
    raise ValueError(f"unknown specimen {name!r}; expected KIND/CLIP/NUMBER, such as header-bits/mp4/17")


def _damaged(kind: str, clip: str, number: int) -> Specimen:
    name = f"{kind}/{clip}/{number}"
    right, damage = DAMAGES[kind]

    def make(clips: Clips, folder: Path) -> Path:
        path = clips.path(clip) if clip in GOOD else presented_specimen(clip, number).make(clips, folder)
        data = bytearray(path.read_bytes())
        damage(data, random.Random(zlib.crc32(name.encode())))
        return put(folder, path.name, bytes(data))

    return Specimen(name, right, make)


def _cut(clip: str, number: int) -> Specimen:
    def make(clips: Clips, folder: Path) -> Path:
        data = clips.bytes(clip)
        return put(folder, clips.path(clip).name, data[: boundaries(data)[number]])

    return Specimen(f"cut-at-box/{clip}/{number}", _CUT, make)


def _header_bits(data: bytearray, chance: random.Random) -> None:
    spots = header_spots(bytes(data))
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        data[chance.choice(spots)] ^= 1 << chance.randrange(8)


def _payload_bits(data: bytearray, chance: random.Random) -> None:
    start = min(len(data) // 4, 2000)
    for _ in range(chance.choice((1, 4, 16, 64, 512))):
        data[chance.randrange(start, len(data))] ^= 1 << chance.randrange(8)


def _lying_field(data: bytearray, chance: random.Random) -> None:
    """Set a header field (size, count, offset or rate) to an extreme value."""
    width = chance.choice((1, 2, 4, 8))
    spot = min(chance.choice(header_spots(bytes(data))), len(data) - width)
    most = (1 << 8 * width) - 1
    data[spot : spot + width] = chance.choice((0, 1, most, most >> 1, (most >> 1) + 1)).to_bytes(width, "big")


def _zeroed_run(data: bytearray, chance: random.Random) -> None:
    run = _run(data, chance)
    data[run] = bytes(len(data[run]))


def _random_run(data: bytearray, chance: random.Random) -> None:
    run = _run(data, chance)
    data[run] = chance.randbytes(len(data[run]))


def _missing_run(data: bytearray, chance: random.Random) -> None:
    del data[_run(data, chance)]


def _doubled_run(data: bytearray, chance: random.Random) -> None:
    run = _run(data, chance)
    data[run.start : run.start] = data[run]


def _lost_end(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _lost_start(data: bytearray, chance: random.Random) -> None:
    del data[: chance.randrange(1, len(data))]


def _boxes_swapped(data: bytearray, chance: random.Random) -> None:
    edges = [0, *boundaries(bytes(data)), len(data)]
    one, middle, other = sorted(chance.sample(edges, 3)) if len(edges) > 3 else (0, len(data) // 2, len(data))
    data[one:other] = data[middle:other] + data[one:middle]


def _begun_twice(data: bytearray, chance: random.Random) -> None:
    """Prepend the start of the file to the whole file, as a restarted download does."""
    data[:0] = data[: chance.randrange(1, len(data))]


def _junk_after(data: bytearray, chance: random.Random) -> None:
    data += chance.randbytes(chance.choice((1, 100, 5000)))


def _run(data: bytearray, chance: random.Random) -> slice:
    start = chance.randrange(len(data))
    return slice(start, min(start + chance.choice((16, 188, 1024, len(data) // 4)), len(data)))


DAMAGES: dict[str, tuple[frozenset[str], Damage]] = {
    "header-bits": (_BROKEN, _header_bits),
    "payload-bits": (_BROKEN, _payload_bits),
    "lying-field": (_BROKEN, _lying_field),
    "zeroed-run": (_BROKEN, _zeroed_run),
    "random-run": (_BROKEN, _random_run),
    "missing-run": (_BROKEN, _missing_run),
    "doubled-run": (_BROKEN, _doubled_run),
    "lost-end": (_CUT, _lost_end),
    "lost-start": (_BROKEN, _lost_start),
    "boxes-swapped": (_BROKEN, _boxes_swapped),
    "begun-twice": (_BROKEN, _begun_twice),
    "junk-after": (frozenset({PREPARED}), _junk_after),
}
