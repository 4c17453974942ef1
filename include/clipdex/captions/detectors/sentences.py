"""Sentences: write the findings of a shot as plain text, with hedges for uncertain ones."""

from collections.abc import Sequence

from clipdex.captions.detectors.analysis import Shot
from clipdex.captions.detectors.motion import Camera
from clipdex.captions.detectors.objects import RIDDEN, WORN, DetectedObject, rides
from clipdex.captions.detectors.paths import Movement
from clipdex.captions.detectors.text import Words

_COUNTS = ("no", "one", "two", "three")
_PLURALS = {
    "person": "people", "bus": "buses", "sheep": "sheep", "knife": "knives", "skis": "skis", "couch": "couches",
    "toothbrush": "toothbrushes", "wine glass": "wine glasses", "bench": "benches", "sandwich": "sandwiches",
    "scissors": "scissors",
}  # fmt: skip
_LINES = 6  # most quoted lines of text
_SHORTLY = 0.6  # tolerance at either end of a shot below which no time is given [s]


def write(shot: Shot, number: int) -> str:
    """Return a shot's description. number: of the shot in its clip; it varies the wording."""
    opening = [_opening(shot), *_camera(shot, number)]
    rest = [*_thing_movements(shot), *_texts(shot, number), *_look(shot, number)]
    sentences = ["; ".join(opening), *(part[0].upper() + part[1:] for part in rest)]
    return f"{shot.start_s:.1f}-{shot.end_s:.1f} s: {'. '.join(sentences)}."


def _opening(shot: Shot) -> str:
    """Return the most important finding."""
    if shot.things:
        return _listed(_nouns(shot.things))
    if shot.words:
        ground = f"; the background is {shot.palette.background}" if shot.palette.background else ""
        return f"the text {_quotes(shot.words)} can be read{ground}"
    if shot.palette.plain:
        colour = f"{shot.palette.background} " if shot.palette.background else ""
        same = "nothing moves, and " if shot.has_motion is False else ""
        return f"a plain {colour}picture; {same}no object and no text was found"
    fixed = shot.camera in (Camera.STILL, Camera.UNKNOWN)
    seen = {True: "; parts of it move" * fixed, False: "; nothing in it moves", None: ""}[shot.has_motion]
    return f"no object was recognised in the picture{seen}"


def _nouns(things: Sequence[DetectedObject]) -> list[str]:
    """Return the listed nouns; people first, with the objects they ride or wear."""
    people = next((thing for thing in things if thing.name == "person"), None)
    nouns = []
    used: set[str] = {"person"} if people else set()
    if people:
        with_them = ""
        for other in things:
            if other.name in RIDDEN and rides(people, other):
                with_them += (" on " if other.sure else ", possibly on ") + _noun(other, hedge=False)
                used.add(other.name)
            elif other.name in WORN:
                with_them += f" with {_article(other.name)}"
                used.add(other.name)
        nouns.append(_close(people) + _noun(people) + with_them)
    return nouns + [_close(thing) + _noun(thing) for thing in things if thing.name not in used]


def _noun(thing: DetectedObject, hedge: bool = True) -> str:
    if thing.count == 1:
        words = _article(thing.name)
    else:
        number = _COUNTS[thing.count] + " or more" * thing.more if thing.count < len(_COUNTS) else "several"
        words = f"{number} {_bare(thing)}"
    if thing.sure or not hedge:
        return words
    return f"what {'looks' if thing.count == 1 else 'look'} like {words}"


def _bare(thing: DetectedObject) -> str:
    return thing.name if thing.count == 1 else _PLURALS.get(thing.name, thing.name + "s")


def _close(thing: DetectedObject) -> str:
    areas = [max((b[2] - b[0]) * (b[3] - b[1]) for b in boxes) for boxes in thing.boxes.values()]
    return "a close-up of " if thing.count == 1 and min(areas) > 0.5 else ""


def _camera(shot: Shot, number: int) -> list[str]:
    followed = next((thing for thing in shot.things if _is_followed(thing, shot)), None)
    match shot.camera:
        case Camera.LEFT | Camera.RIGHT if followed:
            return [f"the camera follows {'it' if followed.name != 'person' else 'them'} to the {shot.camera}"]
        case Camera.LEFT | Camera.RIGHT:
            return [f"the camera pans to the {shot.camera}"]
        case Camera.UP | Camera.DOWN:
            return [f"the camera tilts {shot.camera}wards"]
        case Camera.IN:
            return ["the camera zooms in or comes closer"]
        case Camera.OUT:
            return ["the camera zooms out or draws back"]
        case Camera.MOVING:
            return ["the camera moves a little"]
        case Camera.STILL:
            return [("the camera is still", "the camera does not move", "filmed with a still camera")[number % 3]]
        case Camera.UNKNOWN:
            return []


def _is_followed(thing: DetectedObject, shot: Shot) -> bool:
    numbers = sorted(thing.boxes)
    first, last = thing.boxes[numbers[0]][0], thing.boxes[numbers[-1]][0]
    stays = abs((first[0] + first[2]) - (last[0] + last[2])) / 2 < 0.15
    return thing.sure and thing.count == 1 and stays and thing.times[-1] - thing.times[0] > 0.6 * _lasts(shot)


def _thing_movements(shot: Shot) -> list[str]:
    sentences = [f"the {thing.name} {_moves(thing.moved, shot)}" for thing in shot.things if thing.moved]
    rest: dict[str, list[DetectedObject]] = {}
    for thing in shot.things:
        if thing.sure and not thing.moved and (when := _when(thing.times[0], thing.times[-1], shot)):
            rest.setdefault(when, []).append(thing)
    for when, things in rest.items():
        several = len(things) > 1 or things[0].count > 1
        sentences.append(f"the {_listed([_bare(thing) for thing in things])} {'are' if several else 'is'} seen {when}")
    return sentences


def _moves(moved: Movement, shot: Shot) -> str:
    verb = {"upwards": "rises, moving", "downwards": "sinks, moving"}.get(moved.words, "moves")
    speed = f" {moved.speed}" if moved.speed else ""
    when = _when(moved.start_s, moved.end_s, shot)
    return f"{verb}{speed} {moved.words}{', ' + when if when else ''}"


def _texts(shot: Shot, number: int) -> list[str]:
    sentences = []
    if shot.words and shot.things:
        sentences.append(
            (f"text on screen: {_quotes(shot.words)}", f"the text reads {_quotes(shot.words)}")[number % 2]
        )
    for words in shot.words[:_LINES]:
        if words.moved:
            sentences.append(f'the text "{words.text}" {_moves(words.moved, shot)}')
    return sentences


def _quotes(words: Sequence[Words]) -> str:
    return ", ".join(f'"{line.text}"' for line in words[:_LINES])


def _look(shot: Shot, number: int) -> list[str]:
    """Return light and colours, except a colour that the opening names."""
    palette = shot.palette
    sentences = []
    fixed = shot.camera in (Camera.STILL, Camera.UNKNOWN)
    named = palette.plain or (palette.background and shot.words and not shot.things)
    if not named and palette.names:
        colours = " and ".join(palette.names[:2])
        sentences.append((f"the picture is mostly {colours}", f"mostly {colours} in colour")[number % 2])
    if fixed and abs(palette.lighter) > 40:
        sentences.append(f"the picture gets {'brighter' if palette.lighter > 0 else 'darker'}")
    elif not named and (palette.brightness < 65 or palette.brightness > 185):
        sentences.append(f"it is {'dark' if palette.brightness < 65 else 'bright'}")
    return sentences


def _when(start_s: float, end_s: float, shot: Shot) -> str:
    """Return the time range in words; "" if it is nearly the whole shot."""
    if start_s - shot.start_s <= _SHORTLY and shot.end_s - end_s <= 2 * _SHORTLY:
        return ""
    if end_s - start_s < 0.05:
        return f"at {start_s:.1f} s"
    return f"from {start_s:.1f} to {end_s:.1f} s"


def _lasts(shot: Shot) -> float:
    return shot.end_s - shot.start_s


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _listed(nouns: Sequence[str]) -> str:
    return nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}"
