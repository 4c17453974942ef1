"""Measure the gates: how many good captions they refuse, which wrong ones they pass, and tokens per word by language.

    python -m benchmarks.gates --descriptions descriptions.jsonl --tokenizer tokenizer.json

Good captions: those of a file with a `text` per line, written by people, and captions of sentences written for this
measurement (language_texts.toml, captions/samples.toml). Wrong ones: each of them where another language is wanted.
The result is in benchmarks/results/gates.json. captions/budgets.py has the table of tokens per word.
"""

import argparse
import json
import random
import re
import resource
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipdex.captions.budgets import samples, tokens_per_word
from clipdex.captions.captioner import CaptionDraft, Gates
from clipdex.captions.cleaning import clean
from clipdex.captions.quality import cleaned, verdicts
from clipdex.errors import Reason

TEXTS = Path(__file__).parent / "language_texts.toml"
RESULT = Path(__file__).parent / "results" / "gates.json"


def sentences() -> dict[str, list[str]]:
    """Return the sentences of each language: those of its sample, and those written for this measurement."""
    found = {code: re.findall(r"[^.!?।۔。]+(?:[.!?।۔。]+|$)", text) for code, text in samples().items()}
    found = {code: [one.strip() for one in parts] for code, parts in found.items()}
    for code, texts in tomllib.loads(TEXTS.read_text(encoding="utf-8")).items():
        found[code] += texts
    return found


def written(code: str, texts: list[str], count: int) -> Iterator[str]:
    """Yield captions of three to seven different sentences in one to three paragraphs."""
    chance = random.Random(code)
    gap = "" if code in ("zh", "ja") else " "
    for _ in range(count):
        chosen = chance.sample(texts, min(len(texts), chance.randint(3, 7)))
        cuts = sorted(chance.sample(range(1, len(chosen)), chance.randint(0, min(2, len(chosen) - 1))))
        parts = [chosen[a:b] for a, b in zip([0, *cuts], [*cuts, len(chosen)], strict=True)]
        yield "\n\n".join(gap.join(part) for part in parts)


def refusals(texts: list[str], code: str) -> Counter[str]:
    """Return the number of refused captions by reason, without those of length."""
    lengths = {Reason.CAPTION_TOO_SHORT, Reason.CAPTION_TOO_LONG}
    gates = Gates(language=code)
    found: Counter[str] = Counter()
    for text in texts:
        wrong = verdicts(cleaned(CaptionDraft(text)), gates)
        found.update(str(reason) for reason, why in wrong.items() if why and reason not in lengths)
        found["changed by cleaning"] += clean(text).text != text.strip()
    return +found


def measured(descriptions: Path | None, count: int) -> dict[str, Any]:
    """Return all figures but those of a tokenizer."""
    texts = {code: list(written(code, parts, count)) for code, parts in sentences().items() if len(parts) > 4}
    started = time.perf_counter()
    refused = {code: dict(refusals(parts, code)) for code, parts in texts.items()}
    seconds = time.perf_counter() - started
    every = samples()
    passed = {
        wanted: [other for other, text in every.items() if other != wanted and not _language(text, wanted)]
        for wanted in every
    }
    result: dict[str, Any] = {
        "captions_per_language": count,
        "languages": sorted(texts),
        "refused_of_good": refused,
        "ms_per_caption": round(1000 * seconds / (count * len(texts)), 2),
        "other_languages_that_pass": {code: others for code, others in passed.items() if others},
        "samples_refused": [code for code, text in every.items() if _language(text, code)],
    }
    if descriptions:
        lines = [json.loads(line)["text"] for line in descriptions.read_text(encoding="utf-8").splitlines()]
        result["descriptions"] = {"captions": len(lines), "refused": dict(refusals(lines, "en"))}
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result


def _language(text: str, wanted: str) -> str:
    return verdicts(CaptionDraft(text), Gates(language=wanted))[Reason.CAPTION_LANGUAGE]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--descriptions", type=Path, help="JSON lines with a text in English each")
    arguments.add_argument("--tokenizer", type=Path, help="tokenizer.json of a model, or its folder")
    arguments.add_argument("--captions", type=int, default=300, help="per language")
    arguments.add_argument("--out", type=Path, default=RESULT)
    args = arguments.parse_args()
    result = measured(args.descriptions, args.captions)
    if args.tokenizer:
        result["tokens_per_word"] = {code: round(tokens_per_word(code, args.tokenizer), 2) for code in samples()}
    args.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
