"""Generate captions of the stand-in engine for a video, a picture or notes.

They are deterministic, and varied enough to pass the quality gates.
"""

import io
import random
import re
from dataclasses import dataclass
from hashlib import sha256

import av

SENTENCES = (
    "The clip shows {place}, lit by {light}, and its average colour leans towards {colour}.",
    "In the foreground {person} {move}, while {thing} stays where it was.",
    "Behind them one notices {thing2} close to {thing3}.",
    "About {time:.1f} seconds in, {person2} {move2}.",
    "The camera {camera} and then {camera2}.",
    "A sign in the picture reads {sign}.",
    "The scene feels {mood}, though nothing dramatic happens in its {frames} sampled pictures.",
    "Between {person3} and {thing4} there is a gap through which {place2} can be made out.",
    "Towards the end {person4} {move3}, half hidden by {thing5}.",
    "Shadows fall to the {side}, which fits {light2}.",
    "Sound cannot be judged from these pictures, yet gestures suggest a {mood2} exchange.",
    "The last moments return to {thing6}, now nearer than before, as {person5} {move4}.",
)

_VOCABULARY = """
place: a narrow street, an open square, a quiet kitchen, a workshop, a beach, a station hall, a park, a harbour
light: soft morning light, hard noon sun, the glow of street lamps, even studio light, a grey sky, low evening light
person: two cyclists, an elderly man, a woman in a green coat, three children, a courier, a chef, a dancer, a guard
thing: a red car, a wooden cart, a blue umbrella, a stack of boxes, a yellow bus, a brass lamp, a white dog, a kite
move: crosses from left to right, turns slowly around, stops and looks back, bends down and rises again, waves
camera: pans gently to the right, stands still on a tripod, follows at walking pace, tilts up, moves in on details
mood: calm, hurried, playful, tense, festive, lonely, busy, solemn, cheerful, dreamlike
side: left, right
"""
_WORDS = {
    name: [word.strip() for word in words.split(",")]
    for name, _, words in (line.partition(":") for line in _VOCABULARY.strip().splitlines())
}

ASKS_FOR_TIMES = "begin each paragraph, the first one too, with the times"  # as in captions/prompts/times.txt

ASKS_FOR_CITATIONS = "Cite each clip that you use by its mark"  # as in examples/rag.py
_SOURCE = re.compile(r"\[([^][]+@[0-9.]+)\] ([^.\n[]+\.)")


@dataclass(frozen=True, slots=True)
class Seen:
    """The decoded input.

    digest: sha256 of the bytes, hex
    colour: the dominant colour
    notes: captions of the pictures, for input without media
    """

    digest: str
    frames: int
    seconds: float
    colour: str
    notes: str = ""


def look(kind: str, media: bytes) -> Seen:
    """Decode every frame; raise av.FFmpegError if the media cannot be opened."""
    if kind == "text":
        return Seen(sha256(media).hexdigest(), 0, 1.0, "none", media.decode())
    if kind == "image_url" and media[:2] != b"\xff\xd8":
        raise ValueError("not a JPEG")
    total, frames = [0.0, 0.0, 0.0], 0
    with av.open(io.BytesIO(media)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            mean = frame.reformat(8, 8, "rgb24").to_ndarray().reshape(-1, 3).mean(axis=0)
            total, frames = [a + b for a, b in zip(total, mean, strict=True)], frames + 1
        seconds = frames / float(stream.average_rate or 1)
    colour = ("red", "green", "blue")[total.index(max(total))]
    return Seen(sha256(media).hexdigest(), frames, seconds, colour)


def sign_of(digest: str) -> str:
    """Return the word on the sign in a caption, which is unique to this video."""
    letters = random.Random(f"sign {digest}")
    return "".join(letters.choice("BCDFGHKLMNPRSTVZ") + letters.choice("AEIOU") for _ in range(4))


def describe(seen: Seen, words: int | None = None) -> str:
    """Return 60 to 300 words, or at least `words`; for notes, one paragraph per half of their time."""
    if seen.notes:
        return _merged(seen, words)
    chance = random.Random(seen.digest)
    words = words or chance.randint(60, 280)
    caption: list[str] = []
    while len(caption) < words:
        for template in SENTENCES:
            caption += _filled(template, seen, chance).split()
            if len(caption) >= words:
                break
    return " ".join(caption)


def with_times(caption: str, seconds: float, marks: str) -> str:
    """Return a caption in three paragraphs of equal length in time, each behind a mark. marks: see StandIn"""
    words = caption.split()
    third = -(-len(words) // 3)
    clock = [f"{int(seconds * n / 3) // 60}:{int(seconds * n / 3) % 60:02}" for n in range(4)]
    return "\n\n".join(
        marks.format(start=clock[n], end=clock[n + 1]) + " ".join(words[third * n : third * (n + 1)]) for n in range(3)
    )


def quoted(prompt: str) -> str:
    """Return the first sentence of each source of a prompt with its mark, and one with a mark that is no source."""
    quotes = [f"{sentence[:-1]} [{mark}]." for mark, sentence in _SOURCE.findall(prompt)]
    return " ".join([*quotes, "Nothing else is seen [invented.mp4@9.9]."])


def _merged(seen: Seen, words: int | None) -> str:
    times = re.findall(r"^([0-9.]+)-([0-9.]+) s: ", seen.notes, re.MULTILINE)
    signs = list(dict.fromkeys(re.findall(r"reads ([A-Z]{8})", seen.notes)))
    half = (len(times) + 1) // 2
    paragraphs = []
    for number, part in enumerate((times[:half], times[half:])):
        if part:
            caption = describe(Seen(sha256(f"{seen.digest} {number}".encode()).hexdigest(), 0, 1.0, "all"), words)
            read = f" Signs read {', '.join(signs[half * number : half * number + len(part)])}." if signs else ""
            paragraphs.append(f"{part[0][0]}-{part[-1][1]} s: {caption}{read}")
    return "\n\n".join(paragraphs) or describe(Seen(seen.digest, 0, 1.0, "all"), words)


def _filled(template: str, seen: Seen, chance: random.Random) -> str:
    named: dict[str, object] = {"colour": seen.colour, "frames": seen.frames, "sign": sign_of(seen.digest)}
    for name, words in _WORDS.items():
        for number, word in enumerate(chance.sample(words, min(6, len(words))), start=1):
            named[name if number == 1 else f"{name}{number}"] = word
    return template.format(time=chance.uniform(0, seen.seconds), **named)
