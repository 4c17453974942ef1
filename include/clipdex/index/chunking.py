"""Chunks: the pieces of a caption that are embedded and found, cut at sentences, counted in the model's own tokens."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from clipdex.captions.caption import Caption
from clipdex.config import Chunking


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a caption. no: from 0, in the order of the text.

    start_s, end_s: what the text speaks of [s from the clip's start]; the whole clip where the caption does not say.
    """

    no: int
    text: str
    start_s: float
    end_s: float


class Tokens(Protocol):
    """How an embedding model counts. max_tokens: what it reads of a text, special tokens taken off."""

    @property
    def max_tokens(self) -> int: ...

    def count_tokens(self, text: str) -> int: ...


def split(caption: Caption, tokens: Tokens, chunking: Chunking) -> list[Chunk]:
    """Cut a caption into chunks of at most chunking.tokens, fewer where the model reads less.

    A chunk repeats the last whole sentences of the one before it, as many as fit into chunking.overlap. Nothing of
    the text is lost but white space; a text without a word has no chunk.
    """
    text = caption.text
    size = min(chunking.tokens, tokens.max_tokens)
    overlap = min(chunking.overlap, size // 2)
    count = functools.cache(tokens.count_tokens)
    spans = _spans(text, size, overlap, count)
    segments = _segment_spans(caption)
    return [
        Chunk(no, text[start:end], *_times(start, end, segments, caption.duration_s))
        for no, (start, end) in enumerate(spans)
    ]


# A sentence ends at a line's end, at a full stop with white space after it, or at a CJK full stop. What is longer
# than a chunk is cut at clauses, then at words, then anywhere.
_SENTENCE = r"""\n+|(?<=[.!?…][)\]"'”’»])\s+|(?<=[.!?…])\s+|(?<=[。！？｡][」』”）])|(?<=[。！？｡])(?![」』”）])"""
_CLAUSE = r"(?<=[,;:–—])\s+|(?<=[，、；：])"
_SEPARATORS = [_SENTENCE, _CLAUSE, r"\s+", ""]

_Span = tuple[int, int]


def _spans(text: str, size: int, overlap: int, count: Callable[[str], int]) -> list[_Span]:
    """Where each chunk lies in the text [characters]."""
    if count(text) <= size:
        return [_trimmed(text, 0, len(text))] if text.strip() else []
    cores = _pieces(text, size - overlap, count)
    spans = cores[:1]
    for before, (start, end) in pairwise(cores):
        spans.append((_overlap_start(text, before, overlap, count), end) if overlap else (start, end))
    return spans


def _pieces(text: str, size: int, count: Callable[[str], int]) -> list[_Span]:
    """The text in pieces that follow one another, white space between them left out."""
    from langchain_text_splitters import (
        RecursiveCharacterTextSplitter,
    )  # a quarter of a second that a DAG can do without

    splitter = RecursiveCharacterTextSplitter(
        separators=_SEPARATORS,
        is_separator_regex=True,
        keep_separator="end",
        chunk_size=size,
        chunk_overlap=0,
        length_function=count,
    )
    spans, end = [], 0
    for piece in splitter.split_text(text):
        start = text.index(piece, end)
        end = start + len(piece)
        spans.append((start, end))
    return spans


def _overlap_start(text: str, span: _Span, overlap: int, count: Callable[[str], int]) -> int:
    """Where the last whole sentences of a span begin that have at most overlap tokens; its end if none has."""
    start, end = span
    begins = [start, *(start + found.end() for found in re.finditer(_SENTENCE, text[start:end]))]
    found = end
    for begin in reversed(begins):
        if count(text[begin:end]) > overlap:
            break
        found = begin
    return found


def _trimmed(text: str, start: int, end: int) -> _Span:
    whole = text[start:end]
    return start + len(whole) - len(whole.lstrip()), end - len(whole) + len(whole.rstrip())


def _segment_spans(caption: Caption) -> list[tuple[_Span, float, float]]:
    """Where each segment lies in the text, and its times; none if one of them cannot be found there."""
    spans, end = [], 0
    for segment in caption.segments:
        part = segment.text.strip()
        start = caption.text.find(part, end)
        if start < 0:
            return []
        end = start + len(part)
        spans.append(((start, end), segment.start_s, segment.end_s))
    return spans


def _times(start: int, end: int, segments: list[tuple[_Span, float, float]], duration_s: float) -> tuple[float, float]:
    touched = [(since, until) for (first, last), since, until in segments if first < end and start < last]
    if not touched:
        return 0.0, duration_s
    return min(since for since, _ in touched), max(until for _, until in touched)
