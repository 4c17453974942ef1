"""Marks: the times that a model writes before a part of its text, such as "[0:03-0:07]", in the forms that models use.

A mark stands at the beginning of a line, or in brackets behind a sentence. A time within a sentence is no mark: a sign
that reads 10:30 is part of the description.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """Hold one mark.

    begin, end: its span, with list marks, emphasis and the colon around it [characters]
    start_s: [s on the clock that the model sees]; NaN if it is no time, such as 0:75
    end_s: as start_s; None for a mark of one time
    certain: its form leaves no doubt, such as a range in brackets; else it is one only if it fits the clip
    """

    begin: int
    end: int
    start_s: float
    end_s: float | None
    certain: bool


def find_marks(text: str) -> Iterator[Mark]:
    """Yield the marks of a text in their order. Takes time in proportion to the length of the text."""
    begin = 0
    for line in text.split("\n"):
        yield from _in_line(line, begin)
        begin += len(line) + 1


def _in_line(line: str, offset: int) -> Iterator[Mark]:
    end = 0
    if mark := _mark(line, 0, offset):
        end = mark.end - offset
        yield mark
    for bracket in _BRACKET.finditer(line, end):
        begin = bracket.start()
        if begin < end or not (begin == end or _ENDS_SENTENCE.search(line, max(0, begin - 4), begin)):
            continue
        if mark := _mark(line, begin, offset):
            end = mark.end - offset
            yield mark


def _mark(line: str, begin: int, offset: int) -> Mark | None:
    """Return the mark at this place of a line, or None if the words may as well begin a sentence."""
    if not _DIGIT.search(line, begin, begin + _LONGEST) or not (found := _MARK.match(line, begin, begin + _LONGEST)):
        return None
    first, second = _Time.of(found, "first"), _Time.of(found, "second")
    assert first is not None
    is_enclosed = bool(found["open"] and found["close"])
    is_delimited = any(char in _COLONS for char in found["tail"]) or found.end() == len(line)
    is_apart = is_enclosed or is_delimited or found["word"] or set(found["tail"]) & set(_COMMAS + _DASHES)
    if not is_apart and line[found.end() : found.end() + 4].lstrip("*_`")[:1].islower():
        return None  # "0:03-0:07 A man" begins with a mark; "3-7 s pass" and "9:00-17:00 is on the door" do not
    if second is None:
        is_named = is_enclosed or found["word"] or any(char in _COLONS + _DASHES for char in found["tail"])
        if not (first.is_timed or found["of"]) or not is_named:
            return None
    elif not (first.is_timed or second.is_timed or found["label"] or found["of"]):
        # Numbers without a unit: "[3-7]" and "3.0-7.0:", but not "3-7 people" or "(3-7)".
        is_plain = not (first.has_point and second.has_point and is_delimited)
        if is_plain and (not is_enclosed or "(" in found["open"]):
            return None
    return Mark(
        begin=found.start() + offset,
        end=found.end() + offset,
        start_s=first.seconds,
        end_s=None if second is None else second.seconds,
        # Behind a sentence, "(9:00-17:00)" may be what a sign reads.
        certain=second is not None and (is_enclosed or is_delimited) and (begin == 0 or "(" not in found["open"]),
    )


@dataclass(frozen=True, slots=True)
class _Time:
    """Hold one time of a mark. is_timed: it has a colon or a unit; has_point: it has decimals."""

    seconds: float
    is_timed: bool
    has_point: bool

    @classmethod
    def of(cls, found: re.Match[str], name: str) -> "_Time | None":
        if (written := found[name]) is None:
            return None
        parts = [float(part.translate(_POINTS)) for part in _PARTS.split(written)]
        seconds = 0.0
        for part in parts:
            seconds = 60 * seconds + part
        is_time = all(part < 60 for part in parts[1:]) and len(parts) < 4
        return cls(
            seconds if is_time else math.nan,
            len(parts) > 1 or found[f"{name}_unit"] is not None,
            any(char in ".,٫" for char in written),
        )


_LONGEST = 120  # characters of a mark

# White space, and the invisible characters that texts have around digits in scripts from right to left.
_S = r"[^\S\n]|[\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
_SPACE, _GAP = rf"(?:{_S}){{0,4}}+", rf"(?:{_S}){{1,4}}+"

# \d is a digit of any script.
_TIME = (
    r"(?:\d{1,9}(?:[:：∶]\d\d){1,2}(?:[:：∶]\d{2,3}|[.,٫]\d{1,3})?(?!\d)"
    r"|\d{1,4}(?:分|m|min)\x20?\d\d?(?=\x20?(?:秒|s))"
    r"|\d{1,9}(?:[.,٫]\d{1,6})?(?!\d))"
)
_UNIT = (
    r"(?:(?:s|secs?|seconds?|sek|sekund\w{0,3}|seg|segund[oa]s?|secondes?|second[oi]|seconden|saniye|sn|detik|giây"
    r"|с|сек|секунд\w{0,3}|δευτ\w{0,10}|שני\w{0,3}|ث|ثانية|ثانيه|ثانیه|ثواني|ثوان|سیکنڈ)(?!\w)[.ٍ]?"
    r"|秒[钟鐘]?|초|से[कके][\u0900-\u097f]{1,5}|সেকেন্ড|วินาที|விநாடி|வினாடி|సెకన[\u0c00-\u0c7f]{0,6})"
)
_WORD = (
    r"(?:starting at|from|between|during|at|von|zwischen|ab|bei|de|du|entre|desde|da|dal|tra|от|с|со|между|на|від|з"
    r"|من|بين|از)"
)
_NUMBERED, _LABEL = (
    r"scene|shot|part|segment|section|interval",
    r"times?|timestamps?|timecode|secs?|second[eos]{0,2}|sekunden?|segundos?",
)
_TO = (
    rf"(?:[-‐-―−－~～〜]{{1,2}}>?{_SPACE}|(?:→|\.{{2,3}}|…|到|至|から|부터){_SPACE}|[,،，]{_GAP}"
    rf"|(?<!\w)(?:to|until|till|through|and|bis|und|à|et|au|a|al|e|y|hasta|até|до|по|и|إلى|الى|و|حتى|تا|से){_GAP})"
)
_DECORATION = rf"(?:{_S}|[>#*_•·|`‣●–—-]){{0,12}}+(?:\d{{1,3}}[.)]{_GAP})?[*_`]{{0,3}}+"
_OPEN, _CLOSE = "[\\[(<{（【［〔〈《「]", "[\\])>}）】］〕〉》」]"
_COLONS, _DASHES, _COMMAS = ":：|", "-–—", ",，、،.。;"
_SEPARATOR = rf"{_S}|[{_COLONS}{_COMMAS}–—-]"
# Emphasis behind a mark ends there if it began directly before the mark, or if no word follows. Else the text begins.
_EMPHASIS_BEGAN = "(?P<emphasis>(?<=[*_`]))?+"
_EMPHASIS_ENDS = rf"[*_`]{{1,3}}+(?={_S}|$)|(?<!\s)[*_`]{{1,3}}+(?:(?={_SEPARATOR})|(?(emphasis)|(?!)))"
_MARK = re.compile(
    rf"{_DECORATION}{_EMPHASIS_BEGAN}"
    rf"(?:(?:(?:{_NUMBERED}){_GAP}\d{{1,3}}(?![:：.,]?\d)|(?P<label>{_LABEL})){_SPACE}[:：,–—-]?{_SPACE}[*_]{{0,3}}+{_SPACE})?"
    rf"(?P<open>{_OPEN}{{1,2}}+)?{_SPACE}"
    rf"(?:(?:{_LABEL}){_SPACE}[:：]{_SPACE})?"
    rf"(?:(?P<word>{_WORD}){_GAP}|[从從在自第]{{1,2}}+{_SPACE})?(?:(?P<of>{_LABEL}){_GAP})?"
    rf"(?P<first>{_TIME})(?:{_SPACE}(?P<first_unit>{_UNIT}))?"
    rf"(?:{_SPACE}{_CLOSE}?{_SPACE}{_TO}{_OPEN}?(?:(?:{_LABEL}){_GAP}|第)?(?P<second>{_TIME})(?:{_SPACE}(?P<second_unit>{_UNIT}))?)?"
    r"(?![A-Za-z0-9%°]|[:：.,][0-9])"
    rf"(?:{_SPACE}(?:まで|까지|तक|之间|之間|の間))?"
    rf"{_SPACE}(?P<close>{_CLOSE}{{0,2}}+)"
    rf"(?P<tail>(?:{_SEPARATOR}|{_EMPHASIS_ENDS}){{0,8}}+)",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")
_PARTS = re.compile("[:：∶分]|m(?:in)?", re.IGNORECASE)
_BRACKET = re.compile(_OPEN)
_ENDS_SENTENCE = re.compile(rf"[.!?。！？…।॥؟۔][\"'”’)]?(?:{_S}){{0,2}}$")
_POINTS = str.maketrans(",٫", "..")
