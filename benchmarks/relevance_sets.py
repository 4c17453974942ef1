"""Write a set for `clipdex eval` that calibrates relevance: queries that a clip answers, and queries that none does.

    python -m benchmarks.relevance_sets descriptions.jsonl calibrate.jsonl --half 0
    python -m benchmarks.relevance_sets descriptions.jsonl report.jsonl --half 1
    clipdex eval calibrate.jsonl --json

The first file has lines {clip_id, text, query}. Its texts are in both halves; every second query is in one half, as it
is and as two or three of its words. The unanswerable lines are of four kinds: scenes that home and sports videos do not
have, questions of another domain, rare nouns side by side, and letters at random. The halves draw other ones.
"""

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

_SUBJECTS = {
    0: "astronaut submarine zebra penguin volcano knight judge surgeon octopus rattlesnake glacier peacock mammoth "
    "meteor telescope auctioneer lighthouse bulldozer jellyfish tornado",
    1: "elephant dinosaur satellite beekeeper crocodile kangaroo miner gorilla avalanche whale rover archbishop "
    "locomotive chessboard refinery vulture helicopter scarecrow asteroid turbine",
}  # fmt: skip
_DEEDS = {
    0: "repairs a solar panel in orbit|surfaces through the ice|erupts over the harbour|is x-rayed at customs|melts "
    "in the laboratory|overturns at the toll booth|is welded in a shipyard",
    1: "crosses at the zebra crossing|unloads containers at midnight|sinks beside the pier|hatches from an egg|burns "
    "behind the parliament|is auctioned for a million|lands on the runway in fog",
}  # fmt: skip
_REQUESTS = {
    0: "how do I reset my {a} password|recipe for {b} soup|what is the capital of {c}|error {n} while "
    "installing {a}|symptoms of {d} in adults|income tax form {n}|mortgage rate in {c} today|translate {b} into French",
    1: "cheap flights to {c}|who wrote the novel about {b}|quarterly earnings of a {a} maker|side "
    "effects of {d} tablets|define {d}|warranty of the {a} charger|invoice {n} from {c}|lyrics of the song about {b}",
}  # fmt: skip
_FILLERS = {
    "a": "router printer laptop database mailbox browser", "b": "pumpkin lentil freedom winter betrayal justice",
    "c": "Bolivia Norway Kazakhstan Ohio Latvia Bhutan", "d": "diabetes entropy anaemia inflation insomnia vertigo",
}  # fmt: skip
_COMMON = 200  # the most frequent words of the texts are no keywords


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("descriptions", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--half", type=int, choices=(0, 1), required=True)
    parser.add_argument("--unanswerable", type=int, default=800)
    args = parser.parse_args()
    records = [json.loads(line) for line in args.descriptions.read_text().splitlines()]
    chance = random.Random(args.half)
    lines = [*answerable(records, args.half, chance), *unanswerable(args.unanswerable, args.half, chance)]
    args.out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def answerable(records: list[dict[str, str]], half: int, chance: random.Random) -> Iterator[dict[str, str]]:
    frequency = Counter(word for record in records for word in set(_words(record["text"])))
    common = {word for word, _ in frequency.most_common(_COMMON)}
    for number, record in enumerate(records):
        clip = {"clip_id": record["clip_id"], "text": record["text"]}
        if number % 2 != half:
            yield clip
            continue
        yield {**clip, "query": record["query"]}
        rare = list(dict.fromkeys(word for word in _words(record["query"]) if word not in common))
        if len(rare) > 1:
            yield {"clip_id": record["clip_id"], "query": " ".join(chance.sample(rare, min(len(rare), 3)))}


def unanswerable(count: int, half: int, chance: random.Random) -> Iterator[dict[str, object]]:
    subjects, deeds = _SUBJECTS[half].split(), _DEEDS[half].split("|")
    for number in range(count):
        match number % 4:
            case 0:
                query = f"a {chance.choice(subjects)} {chance.choice(deeds)}"
            case 1:
                fillers = {name: chance.choice(words.split()) for name, words in _FILLERS.items()}
                query = chance.choice(_REQUESTS[half].split("|")).format(**fillers, n=chance.randrange(100, 9999))
            case 2:
                query = " ".join(chance.sample(subjects, 3))
            case _:
                query = " ".join(_letters(chance) for _ in range(chance.randrange(1, 5)))
        yield {"query": query, "answerable": False}


def _letters(chance: random.Random) -> str:
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randrange(4, 10)))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]{3,}", text.lower())


if __name__ == "__main__":
    main()
