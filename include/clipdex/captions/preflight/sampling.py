"""Sampling: whether a node honours max_tokens, temperature and seeds. From answers to one text, without a video."""

from collections.abc import Sequence

from clipdex.captions.model import Generation
from clipdex.captions.preflight.asking import Reply
from clipdex.captions.preflight.findings import Check, Finding, Level

PROMPT = "Write a list of twenty random words that have nothing to do with each other."
MAX_TOKENS = 16
GREEDY = Generation(MAX_TOKENS, temperature=0.0, seed=1)
DRAWN = tuple(Generation(MAX_TOKENS, temperature=1.0, seed=seed) for seed in (1, 1, 2))


def limits(replies: Sequence[Reply]) -> Finding:
    """Return whether answers end at max_tokens."""
    longest = max(replies, key=lambda reply: reply.completion_tokens)
    words = max(len(reply.text.split()) for reply in replies)
    if longest.completion_tokens > MAX_TOKENS or words > 2 * MAX_TOKENS:
        return Finding(
            Check.MAX_TOKENS, Level.ERROR,
            f"asked for at most {MAX_TOKENS} tokens, got {longest.completion_tokens} ({words} words): the server "
            "ignores max_tokens, and a looping caption would never end; is there a proxy that drops the field?",
        )  # fmt: skip
    return Finding(Check.MAX_TOKENS, Level.OK, f"answers end after {MAX_TOKENS} tokens")


def temperature(greedy: Sequence[Reply], drawn: Sequence[Reply], random_weights: bool) -> Finding:
    """Return whether answers at temperature 0 are equal, and those at temperature 1 differ."""
    if len({_whole(reply) for reply in greedy}) > 1:
        # The order of additions in a batch decides between tokens that are equally likely.
        level = Level.NOTE if random_weights else Level.WARNING
        return Finding(
            Check.TEMPERATURE, level,
            "two answers at temperature 0 differ: the server ignores the temperature, or adds in another order in "
            "each batch (an extended run would show which); captions cannot be repeated exactly",
        )  # fmt: skip
    if len({_whole(reply) for reply in (*greedy, *drawn)}) == 1:
        return Finding(
            Check.TEMPERATURE, Level.WARNING,
            "answers at temperature 1 equal the one at temperature 0: the server ignores the temperature, so the "
            "second try of a caption that loops repeats it; look for sampling defaults of the server",
        )  # fmt: skip
    return Finding(Check.TEMPERATURE, Level.OK, "equal answers at 0, others at 1")


def seeds(drawn: Sequence[Reply], sent: bool) -> Finding:
    """Return whether a seed repeats an answer. sent: whether requests to this server include one"""
    if not sent:
        return Finding(Check.SEEDS, Level.SKIPPED, "requests to this server include no seed")
    first, again, other = (_whole(reply) for reply in drawn)
    if first != again:
        return Finding(
            Check.SEEDS, Level.NOTE,
            "two answers with one seed differ: seeds are not honoured (SGLang needs "
            "--enable-deterministic-inference); captions cannot be repeated exactly",
        )  # fmt: skip
    if first == other:
        return Finding(Check.SEEDS, Level.NOTE, "answers with two seeds are equal: seeds have no effect")
    return Finding(Check.SEEDS, Level.OK, "a seed repeats an answer, another changes it")


def _whole(reply: Reply) -> str:
    return f"{reply.reasoning}\0{reply.text}"
