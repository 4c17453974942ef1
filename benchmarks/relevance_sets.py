"""Write a set for `clipdex eval` that calibrates relevance: queries that a clip answers, and queries that none does.

    python -m benchmarks.relevance_sets calibrate.jsonl --half 0 --descriptions descriptions.jsonl
    python -m benchmarks.relevance_sets report.jsonl --half 1 --descriptions descriptions.jsonl
    python -m benchmarks.relevance_sets plain.jsonl --half 0
    clipdex eval calibrate.jsonl --json

The descriptions are a file for `clipdex eval`. Their texts are in both halves; every second query is in one half,
as it is and as two or three of its words. Plain captions name objects as clipdex's detectors do, and queries of a few
words look for them. The unanswerable queries are of four kinds, short and long: scenes that home and sports videos do
not have, questions of another domain, rare nouns side by side, and letters at random. relevance_words.toml has the
words, others for each half.
"""

import argparse
import json
import random
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from clipdex.evaluation import read_judgements

_WORDS = tomllib.loads(Path(__file__).with_name("relevance_words.toml").read_text())
LANGUAGES = sorted(_WORDS["scenes"])
_COMMON = 200  # the most frequent words of the texts are no keywords

Line = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--descriptions", type=Path, help="a file for clipdex eval; without it, plain captions")
    parser.add_argument("--half", type=int, choices=(0, 1), required=True)
    parser.add_argument("--clips", type=int, help="so many of the descriptions at random")
    parser.add_argument("--unanswerable", type=int, default=800)
    parser.add_argument("--language", choices=LANGUAGES, default="en")
    args = parser.parse_args()
    if args.descriptions:
        lines = descriptions(args.descriptions, args.half, args.clips, args.unanswerable, args.language)
    else:
        lines = plain(args.half)
    write(args.out, lines)


def write(path: Path, lines: Iterable[Line]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def descriptions(path: Path, half: int, clips: int | None, count: int, language: str) -> list[Line]:
    """Return the texts of a file, or of some of its clips, half of their queries, and unanswerable ones."""
    chance, judgements = random.Random(half), read_judgements(path)
    texts = list(judgements.texts.items())
    if clips:
        texts = chance.sample(texts, clips)
    queries = {one.clip_id: one.query for one in judgements.queries}
    return [*answerable(texts, queries, half, chance), *unanswerable(count, half, language, chance)]


def plain(half: int) -> list[Line]:
    """Return short captions, queries of a few words, and as many unanswerable ones."""
    words, chance = _WORDS["plain"], random.Random(half)
    endings = words["endings"].split("|")
    lines: list[Line] = []
    for number, (caption, queries) in enumerate(words["captions"][half]):
        clip = f"plain-{number}"
        lines.append({"clip_id": clip, "text": f"0.0-{chance.uniform(2, 9):.1f} s: {caption}{chance.choice(endings)}."})
        lines += ({"clip_id": clip, "query": query} for query in queries.split("|"))
    lines += ({"query": query, "answerable": False} for query in words["absent"][half].split("|"))
    return [*lines, *unanswerable(3 * len(words["captions"][half]), half, "en", chance)]


def answerable(
    texts: list[tuple[str, str]], queries: dict[str, str], half: int, chance: random.Random
) -> Iterator[Line]:
    frequency = Counter(word for _, text in texts for word in set(_words(text)))
    common = {word for word, _ in frequency.most_common(_COMMON)}
    for number, (clip_id, text) in enumerate(texts):
        yield {"clip_id": clip_id, "text": text}
        if number % 2 != half or clip_id not in queries:
            continue
        query = queries[clip_id]
        yield {"clip_id": clip_id, "query": query}
        rare = list(dict.fromkeys(word for word in _words(query) if word not in common))
        if len(rare) > 1:
            yield {"clip_id": clip_id, "query": " ".join(chance.sample(rare, min(len(rare), 3)))}


def unanswerable(count: int, half: int, language: str, chance: random.Random) -> Iterator[Line]:
    """Yield short and long queries of four kinds, so that length does not give the answer away."""
    words = _WORDS["scenes"][language]
    subjects, deeds, requests = (words[name][half].split("|") for name in ("subjects", "deeds", "requests"))
    fillers = {name: values.split("|") for name, values in words["fillers"].items()}
    for number in range(count):
        match number % 4:
            case 0:
                some = range(chance.randint(1, 3))
                query = words["then"].join(f"{chance.choice(subjects)} {chance.choice(deeds)}" for _ in some)
            case 1:
                filled = {name: chance.choice(values) for name, values in fillers.items()}
                query = chance.choice(requests).format(**filled, n=chance.randrange(100, 9999))
            case 2:
                query = " ".join(chance.sample(subjects, chance.randint(1, 4)))
            case _:
                some = range(chance.randint(1, 6))
                query = " ".join("".join(chance.choices(words["letters"], k=chance.randrange(4, 10))) for _ in some)
        yield {"query": query, "answerable": False}


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]{3,}", text.lower())


if __name__ == "__main__":
    main()
