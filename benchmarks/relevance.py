"""Fit relevance on one half of several sets, and report what is kept and left out on both halves.

    python -m benchmarks.relevance en=descriptions.jsonl
    CLIPDEX_ENGINE__LANGUAGE=ru python -m benchmarks.relevance ru=russian.jsonl en=descriptions.jsonl

The model is that of the settings. The sets are those of benchmarks/relevance_sets.py: of each file 60, 300 and all of
the descriptions (relevance depends on the number of chunks), and plain captions with a file in English. Prints JSON:

    fitted: coefficients for CLIPDEX_SEARCH__CALIBRATION, from half 0; shipped: those of the embedding model, or null
    sets: per half and set, kept and empty with either [%], and the numbers of queries
"""

import argparse
import json
import tempfile
from dataclasses import astuple
from itertools import product
from pathlib import Path

from benchmarks.relevance_sets import LANGUAGES, Line, descriptions, plain, write
from clipdex.config import Settings
from clipdex.evaluation import evaluate
from clipdex.evaluation.metrics import evidence
from clipdex.index.embeddings import open_embedder
from clipdex.index.relevance import CALIBRATIONS, Answers, Calibration, fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="LANGUAGE=FILE")
    parser.add_argument("--largest", type=int, help="so many descriptions instead of all")
    parser.add_argument("--unanswerable", type=int, default=800)
    args = parser.parse_args()
    settings = Settings.load()
    files = dict(file.split("=", 1) for file in args.files)
    if unknown := set(files) - set(LANGUAGES):
        parser.error(f"relevance_words.toml has {' and '.join(LANGUAGES)}, not {', '.join(unknown)}")
    found: dict[tuple[int, str], Answers] = {}
    for half, (language, file) in product((0, 1), files.items()):
        for size in (60, 300, args.largest):
            lines = descriptions(Path(file), half, size, args.unanswerable, language)
            found[half, f"{size or 'all'} descriptions, {language}"] = answers(settings, lines)
        if language == "en":
            found[half, "plain captions, en"] = answers(settings, plain(half))
    fitted = fit([one for (half, _), one in found.items() if half == 0])
    embedder = open_embedder(settings.embedding, settings.engine.language).identity
    shipped = CALIBRATIONS.get(embedder)
    limit = settings.search.min_relevance
    sets = {
        f"half {half}, {name}": {
            "answered": len(one[0]),
            "unanswerable": len(one[1]),
            "fitted": ratios(one, fitted, limit),
            "shipped": shipped and ratios(one, shipped, limit),
        }
        for (half, name), one in found.items()
    }
    record = {
        "embedder": embedder,
        "min_relevance": limit,
        "fitted": astuple(fitted),
        "shipped": shipped and astuple(shipped),
        "sets": sets,
    }
    print(json.dumps(record, indent=1))


def answers(settings: Settings, lines: list[Line]) -> Answers:
    """Index the texts of the lines, give each query to the product's search, and return the evidence of its hits."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "set.jsonl"
        write(file, lines)
        return evidence(evaluate(settings, file).default.answers)


def ratios(found: Answers, calibration: Calibration, limit: float) -> dict[str, float]:
    right, wrong = found
    kept = [calibration.probability(one) >= limit for one in right]
    empty = [all(calibration.probability(one) < limit for one in hits) for hits in wrong]
    return {"kept": percent(kept), "empty": percent(empty)}


def percent(values: list[bool]) -> float:
    return round(100 * sum(values) / len(values), 1)


if __name__ == "__main__":
    main()
