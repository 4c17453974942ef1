"""Timeline: the time at which each picture of a stream is shown, from the stamps of its packets.

Stamps are right in most files, and the timeline repeats them. These are not followed:

- **Hidden pictures.** FFmpeg applies edit lists and marks the packets that they hide. The decoder needs them, and nothing
  else counts them.
- **Stamps out of order.** The clock of the recorder was set back, two recordings were joined, or one stamp is wrong: a
  decoding stamp goes back, or a picture is more places away from its turn than any codec reorders. Then the decoder
  orders the pictures, and the steps between decoding stamps give their times; a step back counts as one usual step.
- **Forward jumps.** The clock was set, the camera reconnected, or one stamp is wrong: after a jump, film goes on at its
  usual rate. Jumps are closed up to one usual step.

A real still minute (a frozen screen, a time lapse) has a long step, too. A long step is a jump only if all of this holds:

- the container stores clock times. AVI and Ogg count pictures and GIF stores how long each is shown: their steps are real;
- the film is otherwise even: of the other steps, 95 % are at most four times the median, and at most every eighth step is
  long. A screen recorder or a motion detector stores pictures when something changes, so its other steps vary; in a time
  lapse, the long step is the usual one;
- the sound does not go on through it. A clock that jumps moves the sound with the picture; through a still minute, a
  minute of sound is stored. If sound is there, its amount must also fit the longer film better than the shorter one:
  otherwise the picture's clock alone has jumped.

Keyframes do not decide: an encoder that counts pictures sets them alike in both cases, and one that restarts, as after a
reconnect, sets one in both. Without any evidence, film of an even rate counts as continuous: no picture is lost by that,
only the time between two of them.
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
_LEAST_STEPS, _RARE = 8, 8  # steps that show a rate; one jump per so many steps
_MOST_REORDERED = 20  # places; H.264 and HEVC reorder by at most 16
_SLIP_S = 0.2  # decoding stamps that go back by more are no rounding
_SOUND_HOLD_S = 0.5  # sound packets further apart leave a gap
_WITHOUT_CLOCK = frozenset({"avi", "gif", "ogg"})


@dataclass(slots=True)
class Stamps:
    """The stamps of a stream's packets, in file order, in units of clock [s].

    pts, dts: None where the file has none
    durations: 0 where unknown
    hidden: numbers of the packets that an edit list hides
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
    """Return the timeline of a stream.

    container: name of its format
    likely_step: between two pictures, if no stamp shows it
    """
    numbers = [n for n in range(len(stamps.pts)) if n not in stamps.hidden]
    if container == "avi" or _is_out_of_order(stamps, numbers):
        times, usual = _by_decoding_order(stamps, numbers, container, likely_step, sound)
        return Timeline(tuple(times), (), usual)
    pts = stamps.pts
    order = sorted(numbers, key=lambda n: pts[n] or 0)
    raw = [pts[n] or 0 for n in order]
    steps = [after - before for before, after in pairwise(raw)]
    usual = _usual(steps, stamps.durations, likely_step)
    for n in _jumps(raw, steps, stamps.clock, container, sound):
        steps[n] = usual
    shown = _sums(steps) if raw else []
    times_of = dict(zip(order, shown, strict=True))
    last = (stamps.durations[order[-1]] if order else 0) or usual
    return Timeline(
        shown=tuple(shown),
        times=tuple(times_of.get(n) for n in range(len(pts))),
        last=max(1, min(last, max(steps)) if steps and max(steps) > 0 else last),
    )


def _is_out_of_order(stamps: Stamps, numbers: Sequence[int]) -> bool:
    """Return whether the presentation stamps are missing, or not in an order that a codec can cause."""
    pts, dts = stamps.pts, stamps.dts
    if any(pts[n] is None for n in numbers):
        return True
    if stamps.hidden:  # FFmpeg has placed the spans of the edit list one after another
        return False
    slip = float(_SLIP_S / stamps.clock)
    clock = [stamp for n in numbers if (stamp := dts[n]) is not None]
    if any(after < before - slip for before, after in pairwise(clock)):
        return True
    order = sorted(numbers, key=lambda n: pts[n] or 0)
    return any(abs(n - place) > _MOST_REORDERED for place, n in enumerate(order))


def _by_decoding_order(
    stamps: Stamps, numbers: Sequence[int], container: str, likely_step: int, sound: Sound
) -> tuple[list[int], int]:
    """Return the times of the pictures in display order, and the usual step, from the steps of the decoding stamps."""
    raw = [stamps.dts[n] if stamps.dts[n] is not None else stamps.pts[n] for n in numbers]
    clock = [stamp for stamp in raw if stamp is not None]
    if len(clock) < len(raw) or len(set(clock)) < 2:
        usual = _usual([], stamps.durations, likely_step)
        return [n * usual for n in range(len(numbers))], usual
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
    return times, usual


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
    is_even = (
        len(others) >= _LEAST_STEPS
        and others[int(_EVEN_SHARE * (len(others) - 1))] <= _EVEN_STEPS * usual
        and len(long) * _RARE <= len(steps)
    )
    if not is_even:
        return sure
    length_s = tick * sum(step for step in steps if step > 0)
    gaps_s = tick * sum(steps[n] for n in long)
    if not sound or sound.total_s < length_s - gaps_s / 2:
        return long
    unsure = (n for n in long if n not in sure)
    return sure + [
        n
        for n in unsure
        if sound.covered_s(stamps[n] * tick, (stamps[n] + steps[n]) * tick) < steps[n] * tick / 2
    ]


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
