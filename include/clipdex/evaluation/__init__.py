"""Evaluation: how well, and how fast, search finds the clip that answers a query.

    clipdex eval judgements.jsonl --variant dense:search.mode=dense --variant k20:search.rrf_k=20

The texts of the file are indexed into a temporary collection as captions are; without texts, the served index is
judged. Every query goes through the product's own search, under the given settings (the default) and under each
variant. judgements.py reads the file, collections.py indexes, metrics.py computes, results.py holds the results.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from clipdex.config import Settings
from clipdex.errors import ConfigurationError
from clipdex.evaluation.collections import temporary_collections
from clipdex.evaluation.embedding import SharedEmbedder
from clipdex.evaluation.judgements import Judgement, Judgements, read_judgements
from clipdex.evaluation.metrics import CUT, Answer
from clipdex.evaluation.results import Evaluation, Result
from clipdex.index import Collection, open_index
from clipdex.index.embeddings import Embedder, open_embedder
from clipdex.index.points import in_batches
from clipdex.index.search import search, search_once
from clipdex.variants import Variant, require_distinct

__all__ = ["Evaluation", "Judgement", "Judgements", "Progress", "Variant", "evaluate", "read_judgements"]

Progress = Callable[[str, int, int], None]
"""Called with what is done, such as "dense: search", the number of finished items, and of all."""

_DEFAULT, _OPTION = "default", "--variant"
_AT_ONCE = 128
# Single queries whose latency is measured: so many, or fewer on a slow machine.
_TIMED, _TIMED_AT_LEAST, _TIMED_S = 200, 20, 30.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Trial:
    """Hold one configuration to judge, and the embedder that it shares with others."""

    name: str
    settings: Settings
    embedder: SharedEmbedder


def evaluate(
    settings: Settings,
    judgements: Judgements | Path,
    variants: Sequence[Variant] = (),
    on_progress: Progress = lambda what, done, total: None,
) -> Evaluation:
    """Answer every query under the settings and under each variant of them, and return the figures.

    judgements: or a file of them. variants: changes to these settings, compared with them
    Raises OSError, ConfigurationError, IndexUnavailable, and NothingIndexed if the served index is to be judged.
    """
    trials = _trials(settings, variants)
    if isinstance(judgements, Path):
        judgements = read_judgements(judgements)
    if judgements.texts:
        return _judge_texts(judgements, trials, on_progress)
    return _judge_served(judgements, trials, on_progress)


def _trials(settings: Settings, variants: Sequence[Variant]) -> list[_Trial]:
    """Return the default, then the variants; check all settings and models before anything is computed."""
    require_distinct(variants, _OPTION)
    embedders: dict[Embedder, SharedEmbedder] = {}
    trials: list[_Trial] = []
    for variant in (Variant(_DEFAULT, {}), *variants):
        if trials and variant.name == _DEFAULT:
            raise ConfigurationError(f"{_OPTION} {_DEFAULT}: the unchanged settings have this name: choose another")
        try:
            changed = settings.changed(variant.changes)
            embedder = open_embedder(changed.embedding, changed.engine.language)
            embedder.identity  # noqa: B018  # raises if the model is not there
        except ConfigurationError as error:
            raise ConfigurationError(f"{_OPTION} {variant.name}: {error}" if trials else str(error)) from None
        trials.append(_Trial(variant.name, changed, embedders.setdefault(embedder, SharedEmbedder(embedder))))
    return trials


def _judge_texts(judgements: Judgements, trials: Sequence[_Trial], on_progress: Progress) -> Evaluation:
    """Index the texts for each trial, and judge it."""
    answers: dict[str, list[Answer]] = {}
    results = {}
    with temporary_collections(judgements.texts) as collections:
        for trial in trials:
            built = collections.build(trial.settings, trial.embedder, partial(on_progress, f"{trial.name}: index"))
            own = _Trial(trial.name, built.settings, trial.embedder)
            results[trial.name] = _result(own, judgements, answers, len(judgements.texts), built.chunks, on_progress)
    return Evaluation(results.pop(_DEFAULT), results, ignored=judgements.ignored)


def _judge_served(judgements: Judgements, trials: Sequence[_Trial], on_progress: Progress) -> Evaluation:
    """Judge what the alias of each trial serves."""
    default, wanted = trials[0], judgements.clip_ids
    name = Collection.name_for(default.settings, default.embedder)
    for trial in trials:
        same_index = trial.settings.index == default.settings.index
        if same_index and Collection.name_for(trial.settings, trial.embedder) != name:
            raise ConfigurationError(
                f"{_OPTION} {trial.name} changes what is indexed, but without texts the served index is judged: give "
                "the text of each clip in the file, or change settings of search alone"
            )
    served = [_served(trial, wanted) for trial in trials]
    answers: dict[str, list[Answer]] = {}
    results = {
        trial.name: _result(trial, judgements, answers, len(one.clips), one.chunks, on_progress)
        for trial, one in zip(trials, served, strict=True)
    }
    missing = wanted - set[str].intersection(*(one.clips for one in served))
    return Evaluation(results.pop(_DEFAULT), results, served[0].name, tuple(sorted(missing)), judgements.ignored)


@dataclass(frozen=True, slots=True)
class _Served:
    """Describe a served collection. clips: those of the wanted ones that it has"""

    name: str
    clips: set[str]
    chunks: int


def _served(trial: _Trial, wanted: set[str]) -> _Served:
    """Raises NothingIndexed, and ConfigurationError if none of the wanted clips is there."""
    clips: set[str] = set()
    with open_index(trial.settings) as index:
        served, chunks = index.collection.name, index.count()
        for some in in_batches(sorted(wanted), _AT_ONCE):
            clips |= {hit.payload["clip_id"] for hit in index.scroll({"clip_id": list(some)})}
    if wanted and not clips:
        raise ConfigurationError(
            f"none of the {len(wanted)} clips is in the served index {served}, such as {min(wanted)}: give the clip_id "
            "that clipdex search --json shows, or the text of each clip in the file"
        )
    return _Served(served, clips, chunks)


def _result(
    trial: _Trial,
    judgements: Judgements,
    answers: dict[str, list[Answer]],
    clips: int,
    chunks: int,
    on_progress: Progress,
) -> Result:
    """Answer all queries under a trial, and return the figures. answers: by trial; those of this one are added"""
    answers[trial.name] = _answers(trial, judgements.queries, on_progress)
    seconds = _seconds(trial, judgements.queries, on_progress)
    return Result.of(answers[trial.name], seconds, clips, chunks, None if trial.name == _DEFAULT else answers[_DEFAULT])


def _answers(trial: _Trial, queries: Sequence[Judgement], on_progress: Progress) -> list[Answer]:
    """Answer all queries; each is embedded once for all trials, in batches."""
    how = trial.settings.search
    if how.weights[0]:
        for some in _parts(queries, _AT_ONCE, f"{trial.name}: embed queries", on_progress):
            trial.embedder.embed_queries([one.query for one in some])
    answers = []
    for some in _parts(queries, _AT_ONCE, f"{trial.name}: search", on_progress):
        with open_index(trial.settings) as index:  # per part: after each, a process that waits gets the index
            for one in some:
                hits = search(index, trial.embedder, one.query, limit=CUT, how=how, weak=True)
                shown = tuple(hit.clip_id for hit in hits if not hit.weak)
                evidence = tuple(hit.evidence for hit in hits if hit.evidence)
                answers.append(Answer(one.clip_id, tuple(hit.clip_id for hit in hits), shown, evidence))
    return answers


def _seconds(trial: _Trial, queries: Sequence[Judgement], on_progress: Progress) -> list[float]:
    """Return how long single queries take as users have them, embedding included; the model is loaded [s]."""
    embedder, sample = trial.embedder.single, queries[:: -(-len(queries) // _TIMED)]
    embedder.embed_query(queries[0].query)
    seconds: list[float] = []
    for (one,) in _parts(sample, 1, f"{trial.name}: time single queries", on_progress):
        if sum(seconds) > _TIMED_S and len(seconds) >= _TIMED_AT_LEAST:
            break
        started = time.perf_counter()
        search_once(trial.settings, embedder, one.query, limit=CUT)
        seconds.append(time.perf_counter() - started)
    return seconds


def _parts(items: Sequence[T], size: int, what: str, on_progress: Progress) -> Iterator[Sequence[T]]:
    """Yield the items in parts, and show how many are done."""
    for number, some in enumerate(in_batches(items, size)):
        on_progress(what, number * size, len(items))
        yield some
    on_progress(what, len(items), len(items))
