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

# Per language and half: subjects, deeds, requests. Then what fills a request, and letters.
_SCENES = {
    "en": (
        (
            "astronaut submarine zebra penguin volcano knight judge surgeon octopus glacier peacock mammoth",
            "repairs a solar panel in orbit|surfaces through the ice|erupts over the harbour|is x-rayed at customs|"
            "melts in the laboratory|overturns at the toll booth|is welded in a shipyard",
            "how do I reset my {a} password|recipe for {b} soup|what is the capital of {c}|error {n} while installing "
            "{a}|symptoms of {d} in adults|income tax form {n}|mortgage rate in {c} today|translate {b} into French",
        ),
        (
            "elephant dinosaur satellite beekeeper crocodile kangaroo miner gorilla avalanche whale archbishop vulture",
            "crosses at the zebra crossing|unloads containers at midnight|sinks beside the pier|hatches from an egg|"
            "burns behind the parliament|is auctioned for a million|lands on the runway in fog",
            "cheap flights to {c}|who wrote the novel about {b}|quarterly earnings of a {a} maker|side effects of {d} "
            "tablets|define {d}|warranty of the {a} charger|invoice {n} from {c}|lyrics of the song about {b}",
        ),
    ),
    "ru": (
        (
            "космонавт лодка зебра пингвин вулкан рыцарь судья хирург осьминог змея ледник павлин мамонт",
            "чинит солнечную панель на орбите|всплывает сквозь лёд|извергается над гаванью|просвечивается на таможне|"
            "тает в лаборатории|опрокидывается у шлагбаума|сваривается на верфи",
            "как сбросить пароль {a}|рецепт супа {b}|какая столица у страны {c}|ошибка {n} при установке {a}|признаки "
            "болезни {d}|налоговая форма {n}|ставка по ипотеке {c} сегодня|переведи {b} на французский",
        ),
        (
            "слон динозавр спутник пасечник крокодил кенгуру шахтёр горилла лавина кит луноход архиепископ гриф",
            "переходит зебру|выгружает контейнеры в полночь|тонет возле пирса|вылупляется из яйца|горит за парламентом|"
            "продаётся с молотка за миллион|садится на полосу в тумане",
            "дешёвые авиабилеты {c}|кто написал роман {b}|квартальная прибыль {a}|побочные действия таблеток {d}|"
            "определение {d}|гарантия {a}|счёт {n} {c}|слова песни {b}",
        ),
    ),
}
_FILLERS = {
    "en": {
        "a": "router printer laptop database mailbox browser", "b": "pumpkin lentil freedom winter betrayal justice",
        "c": "Bolivia Norway Kazakhstan Ohio Latvia Bhutan", "d": "diabetes entropy anaemia inflation insomnia vertigo",
    },
    "ru": {
        "a": "роутера принтера ноутбука базы почты браузера", "b": "тыква чечевица свобода зима измена правда",
        "c": "Боливия Норвегия Казахстан Огайо Латвия Бутан", "d": "диабет энтропия анемия инфляция бессонница астма",
    },
}  # fmt: skip
_LETTERS = {"en": "abcdefghijklmnopqrstuvwxyz", "ru": "абвгдежзиклмнопрстуфхцчшщыэюя"}
_COMMON = 200  # the most frequent words of the texts are no keywords


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("descriptions", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--half", type=int, choices=(0, 1), required=True)
    parser.add_argument("--unanswerable", type=int, default=800)
    parser.add_argument("--language", choices=sorted(_SCENES), default="en")
    args = parser.parse_args()
    records = [json.loads(line) for line in args.descriptions.read_text().splitlines()]
    chance = random.Random(args.half)
    lines = [
        *answerable(records, args.half, chance),
        *unanswerable(args.unanswerable, args.half, args.language, chance),
    ]
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


def unanswerable(count: int, half: int, language: str, chance: random.Random) -> Iterator[dict[str, object]]:
    subjects, deeds, requests = (
        words.split("|") if "|" in words else words.split() for words in _SCENES[language][half]
    )
    for number in range(count):
        match number % 4:
            case 0:
                query = f"{chance.choice(subjects)} {chance.choice(deeds)}"
            case 1:
                fillers = {name: chance.choice(words.split()) for name, words in _FILLERS[language].items()}
                query = chance.choice(requests).format(**fillers, n=chance.randrange(100, 9999))
            case 2:
                query = " ".join(chance.sample(subjects, 3))
            case _:
                query = " ".join(_letters(language, chance) for _ in range(chance.randrange(1, 5)))
        yield {"query": query, "answerable": False}


def _letters(language: str, chance: random.Random) -> str:
    return "".join(chance.choices(_LETTERS[language], k=chance.randrange(4, 10)))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]{3,}", text.lower())


if __name__ == "__main__":
    main()
