"""Chunks: the parts of a caption that are embedded, split at sentences, sized in the embedding model's tokens."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from clipdex.config import Chunking
from clipdex.index.boundaries import ANYWHERE, CLAUSE, SENTENCE, SPACE, between_graphemes
from clipdex.index.moments import Moment
from clipdex.storage.caption import Caption


@dataclass(frozen=True, slots=True)
class Chunk:
    """Hold one part of a caption.

    no: from 0, in text order
    start_s, end_s: time range that the text describes [s on a player's clock of the file]; the whole clip if unknown
    moments: of its paragraphs, if they have different time ranges
    """

    no: int
    text: str
    start_s: float
    end_s: float
    moments: tuple[Moment, ...] = ()


class Tokens(Protocol):
    """Count tokens as an embedding model does.

    max_tokens: longest text that the model reads, without special tokens
    """

    @property
    def max_tokens(self) -> int: ...

    def count_tokens(self, text: str) -> int: ...


def split(caption: Caption, tokens: Tokens, chunking: Chunking) -> list[Chunk]:
    """Split a caption into chunks of at most chunking.tokens or the model's limit, whichever is smaller.

    A chunk repeats the last whole sentences of the previous one that fit into chunking.overlap. Only white space is
    dropped. A text without words has no chunks.
    """
    text = caption.text
    size = min(chunking.tokens, tokens.max_tokens)
    overlap = min(chunking.overlap, size // 2)
    count = functools.cache(tokens.count_tokens)
    spans = _spans(text, size, overlap, count)
    segments = _segment_spans(caption)
    return [
        Chunk(
            no,
            text[start:end],
            *_times(start, end, segments, (caption.start_s, caption.end_s)),
            _moments(start, end, segments),
        )
        for no, (start, end) in enumerate(spans)
    ]


_Span = tuple[int, int]


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, without white space around them."""
    return [part.strip() for part in re.split(SENTENCE, text) if part.strip()]


def _spans(text: str, size: int, overlap: int, count: Callable[[str], int]) -> list[_Span]:
    """Return the span of each chunk in the text [characters]."""
    if count(text) <= size:
        return [_trimmed(text, 0, len(text))] if text.strip() else []
    cores = _pieces(text, size - overlap, count)
    spans = cores[:1]
    for before, (start, end) in pairwise(cores):
        spans.append((_overlap_start(text, before, overlap, count), end) if overlap else (start, end))
    return spans


def _pieces(text: str, size: int, count: Callable[[str], int]) -> list[_Span]:
    """Return consecutive spans of at most `size` tokens, without the white space between them."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter  # lazy: costs 0.25 s per DAG parse

    splitter = RecursiveCharacterTextSplitter(
        separators=[SENTENCE, CLAUSE, SPACE, between_graphemes(), ANYWHERE],
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
    """Return the start of the last whole sentences that fit into `overlap` tokens; the span's end if none fit."""
    start, end = span
    begins = [start, *(start + found.end() for found in re.finditer(SENTENCE, text[start:end]))]
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
    """Return the span and times of each segment; an empty list if a segment is not found in the text."""
    spans, end = [], 0
    for segment in caption.segments:
        part = segment.text.strip()
        start = caption.text.find(part, end)
        if start < 0:
            return []
        end = start + len(part)
        spans.append(((start, end), segment.start_s, segment.end_s))
    return spans


def _moments(start: int, end: int, segments: list[tuple[_Span, float, float]]) -> tuple[Moment, ...]:
    """Return the paragraphs of a chunk with their times; nothing if all have the same."""
    found = tuple(
        (max(first, start) - start, min(last, end) - start, since, until)
        for (first, last), since, until in segments
        if first < end and start < last
    )
    return found if len({one[2:] for one in found}) > 1 else ()


def _times(
    start: int, end: int, segments: list[tuple[_Span, float, float]], whole: tuple[float, float]
) -> tuple[float, float]:
    touched = [(since, until) for (first, last), since, until in segments if first < end and start < last]
    if not touched:
        return whole
    return min(since for since, _ in touched), max(until for _, until in touched)
