"""Timeline: the time at which each picture of a stream is shown, from the stamps of its packets.

Stamps are right in most files, and the timeline repeats them. These are not followed:

- **Hidden pictures.** FFmpeg applies edit lists and marks the packets that they hide. The decoder needs them, and
  nothing else counts them. Neither counted are packets at the start or the end that give no picture (unseen.py).
- **Stamps out of order.** The recorder's clock was set back, two recordings were joined, or one stamp is wrong: a
  decoding stamp goes back, or a picture is more places from its turn than any codec reorders. Then the decoder orders
  the pictures, and the steps between decoding stamps give their times; a step back counts as one usual step.
- **Forward jumps.** The clock was set, the camera reconnected, or one stamp is wrong: after a jump, film goes on at its
  usual rate. Jumps are closed up to one usual step. If the codec reorders, the decoder orders the pictures here too,
  because the clock jumped between two packets.

A real still minute (a frozen screen, a time lapse) has a long step, too. A long step is a jump only if all this holds:

- The container stores clock times. AVI and Ogg count pictures and GIF stores how long each is shown: their steps are
  real.
- The film is otherwise even: 95 % of the other steps are at most four times the median, and at most every eighth step
  is long. A screen recorder or a motion detector stores pictures when something changes, so its other steps vary. In a
  time lapse, the long step is the usual one. In a film that is not even, only a step of a thousand times the longest
  other one is a jump. One other step of more than four times the median is enough to make a step of up to five
  seconds real: recorders that pause do so for various times.
- The sound does not go on through it. A clock that jumps moves the sound with the picture; through a still minute, a
  minute of sound is stored. The amount of sound must also fit the longer film better than the shorter one: otherwise
  the clock of the picture alone has jumped.

Keyframes do not decide: an encoder that counts pictures sets them alike in both cases, and one that restarts, as after
a reconnect, sets one in both. Without any evidence, film of an even rate counts as continuous. No picture is lost by
that, only the time between two of them.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

_LEAST_JUMP_S, _JUMP_STEPS = 1.0, 10  # a longer step may be a jump: seconds, and multiples of the usual step
_EVEN_SHARE, _EVEN_STEPS = 0.95, 4  # an even film: this share of the steps is at most this multiple of the median
_PAUSE_S = 5.0  # longest pause of a recorder that also pauses for shorter times
_FAR_STEPS = 1000  # a jump in film that is not even: longer than this multiple of the longest other step
_LEAST_STEPS, _RARE = 8, 8  # steps that show a rate; one jump per so many steps
_MOST_REORDERED, _USUALLY_REORDERED = 36, 6  # places; H.264 and HEVC reorder by at most 16, VVC by 32
_SLIP_S = 0.2  # decoding stamps that go back by more are out of order
_SOUND_HOLD_S = 0.5  # sound packets further apart leave a gap
_WITHOUT_CLOCK = frozenset({"avi", "gif", "ogg"})


@dataclass(slots=True)
class Stamps:
    """The stamps of a stream's packets, in file order, in units of clock [s].

    pts, dts: None where the file has none
    durations: 0 where unknown
    hidden: numbers of the packets that an edit list hides, or that give no picture at the start or the end
    """

    clock: Fraction
    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    hidden: set[int] = field(default_factory=set)


class Sound:
    """The times of the sound packets of a file [s], in any order."""

    def __init__(self, times: Sequence[float] = ()) -> None:
        self._times = sorted(times)

    def covered_s(self, start_s: float, end_s: float) -> float:
        """Return how much of the range has sound [s]."""
        inside = self._times[bisect_left(self._times, start_s) : bisect_right(self._times, end_s)]
        return sum(min(after - before, _SOUND_HOLD_S) for before, after in pairwise([*inside, end_s]))

    @property
    def total_s(self) -> float:
        return sum(min(after - before, _SOUND_HOLD_S) for before, after in pairwise(self._times))

    def __bool__(self) -> bool:
        return bool(self._times)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The times of a stream's pictures, in units of clock, from the first picture.

    shown: per picture, in display order
    times: per packet, None for a hidden one; () if only the decoder knows the order of the pictures
    last: display time of the last picture
    """

    shown: tuple[int, ...]
    times: tuple[int | None, ...]
    last: int


def timeline(stamps: Stamps, container: str, likely_step: int, sound: Sound) -> Timeline:
    """Return the timeline of a stream that shows at least one picture.

    container: name of its format
    likely_step: between two pictures, if no stamp shows it
    """
    numbers = [n for n in range(len(stamps.pts)) if n not in stamps.hidden]
    if container == "avi" or _is_out_of_order(stamps, numbers):
        return _counted(stamps, numbers, container, likely_step, sound)
    pts = stamps.pts
    order = sorted(numbers, key=lambda n: pts[n] or 0)
    raw = [pts[n] or 0 for n in order]
    steps = [after - before for before, after in pairwise(raw)]
    usual = _usual(steps, stamps.durations, likely_step)
    jumps = _jumps(raw, steps, stamps.clock, container, sound)
    if jumps and order != numbers:
        # The clock jumped between two packets, and so between pictures that belong together.
        return _counted(stamps, numbers, container, likely_step, sound)
    for n in jumps:
        steps[n] = usual
    shown = _sums(steps)
    times_of = dict(zip(order, shown, strict=True))
    # Of reordered pictures, MP4 stores the steps in decoding order: the last of them is that of the last packet.
    ends = [stamps.durations[n] for n in {order[-1], numbers[-1]} if stamps.durations[n] > 0]
    last = min([*(ends or [min(usual, likely_step)]), *([max(steps)] if steps and max(steps) > 0 else [])])
    return Timeline(tuple(shown), tuple(times_of.get(n) for n in range(len(pts))), max(1, last))


def _is_out_of_order(stamps: Stamps, numbers: Sequence[int]) -> bool:
    """Return whether the presentation stamps are missing, or not in an order that a codec can cause."""
    pts, dts = stamps.pts, stamps.dts
    if any(pts[n] is None for n in numbers):
        return True
    slip = float(_SLIP_S / stamps.clock)
    if stamps.hidden:  # between two spans of an edit list, decoding stamps go back as far as the codec reorders
        slip += _high([(pts[n] or 0) - (dts[n] or 0) for n in numbers])
    clock = [stamp for n in numbers if (stamp := dts[n]) is not None]
    if any(after < before - slip for before, after in pairwise(clock)):
        return True
    order = sorted(range(len(numbers)), key=lambda n: pts[numbers[n]] or 0)
    return any(abs(n - place) > _MOST_REORDERED for place, n in enumerate(order))


def _counted(stamps: Stamps, numbers: Sequence[int], container: str, likely_step: int, sound: Sound) -> Timeline:
    """Return the timeline of pictures in the decoder's order; the steps of the decoding stamps give the times."""
    clock = _decoding_clock(stamps, numbers, container)
    if len(set(clock)) < 2:
        usual = _usual([], stamps.durations, likely_step)
        return Timeline(tuple(n * usual for n in range(len(numbers))), (), usual)
    steps = [after - before for before, after in pairwise(clock)]
    usual = _usual(steps, stamps.durations, likely_step)
    slip = float(_SLIP_S / stamps.clock)
    back = {n for n, step in enumerate(steps) if step < -slip}
    # Beside a step back, a long step is the way to or from a wrong stamp.
    jumps = {*back, *_jumps(clock, steps, stamps.clock, container, sound, {n + side for n in back for side in (-1, 1)})}
    position, furthest, times = 0, 0, [0]
    for n, step in enumerate(steps):
        position = furthest + usual if n in jumps else position + step
        furthest = max(furthest, position)
        times.append(furthest)
    return Timeline(tuple(times), (), usual)


def _decoding_clock(stamps: Stamps, numbers: Sequence[int], container: str) -> list[int]:
    """Return a decoding stamp per picture, in file order; an empty list if the file has none.

    Matroska stores no decoding stamps, and those of FFmpeg fail where the clock jumps. There, the presentation stamps
    are sorted between two steps back that are longer than a codec reorders.
    """
    if container == "matroska,webm":
        clock = [stamp for n in numbers if (stamp := stamps.pts[n]) is not None]
        latest = [max(clock[max(0, n - _USUALLY_REORDERED) : n + 1]) for n in range(len(clock))]
        reach = 2 * _high([late - stamp for late, stamp in zip(latest, clock, strict=True)]) + _SLIP_S / stamps.clock
        spans: list[list[int]] = []
        for stamp in clock:
            if not spans or stamp < max(spans[-1][-_MOST_REORDERED:]) - reach:
                spans.append([])
            spans[-1].append(stamp)
        clock = [stamp for span in spans for stamp in sorted(span)]
    else:
        clock = [stamp for n in numbers if (stamp := stamps.dts[n]) is not None]
        if not clock:
            clock = [stamp for n in numbers if (stamp := stamps.pts[n]) is not None]
    if not clock:
        return []
    step = _usual([after - before for before, after in pairwise(clock)], (), 1)
    missing = len(numbers) - len(clock)  # FFmpeg leaves out the first ones of reordered streams
    return [clock[0] - n * step for n in range(missing, 0, -1)] + clock


def _jumps(
    stamps: Sequence[int],
    steps: Sequence[int],
    clock: Fraction,
    container: str,
    sound: Sound,
    certain: set[int] | None = None,
) -> list[int]:
    """Return the numbers of the steps that are forward jumps of the clock.

    certain: long steps that need no evidence
    """
    tick = float(clock)
    if container in _WITHOUT_CLOCK or max(steps, default=0) * tick <= _LEAST_JUMP_S:
        return []
    usual = statistics.median([step for step in steps if step > 0])
    limit = max(_LEAST_JUMP_S / tick, _JUMP_STEPS * usual)
    long = [n for n, step in enumerate(steps) if step > limit]
    others = sorted(step for step in steps if 0 < step <= limit)
    sure = [n for n in long if n in (certain or ())]
    if len(others) < _LEAST_STEPS or len(long) * _RARE > len(steps):
        return sure
    if others[int(_EVEN_SHARE * (len(others) - 1))] > _EVEN_STEPS * usual:
        long = [n for n in long if n in sure or steps[n] > _FAR_STEPS * others[-1]]
    elif others[-1] > _EVEN_STEPS * usual:
        long = [n for n in long if n in sure or steps[n] * tick > _PAUSE_S]
    length_s = tick * sum(step for step in steps if step > 0)
    gaps_s = tick * sum(steps[n] for n in long)
    if not sound or sound.total_s < length_s - gaps_s / 2:
        return long
    unsure = (n for n in long if n not in sure)
    return sure + [
        n for n in unsure if sound.covered_s(stamps[n] * tick, (stamps[n] + steps[n]) * tick) < steps[n] * tick / 2
    ]


def _high(values: Sequence[int]) -> int:
    """Return the third quartile of the values, 0 if there are none."""
    return sorted(values)[3 * len(values) // 4] if values else 0


def _usual(steps: Sequence[int], durations: Sequence[int], likely_step: int) -> int:
    """Return the median step, or without steps the duration of a packet, or the likely step."""
    forward = [step for step in steps if step > 0]
    if forward:
        return round(statistics.median(forward))
    return max(1, max(durations, default=0) or likely_step)


def _sums(steps: Sequence[int]) -> list[int]:
    sums = [0]
    for step in steps:
        sums.append(sums[-1] + step)
    return sums
