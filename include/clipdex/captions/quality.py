"""Gates: checks that a caption must pass before it is stored. A failed gate causes one retry, then quarantine."""

import logging
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace

from clipdex.captions import cleaning
from clipdex.captions.captioner import CaptionDraft, Captioner, Gates
from clipdex.captions.identification import foreign
from clipdex.errors import ClipRejected, Reason
from clipdex.video import Prepared

log = logging.getLogger(__name__)

GATES = (
    Reason.CAPTION_EMPTY,
    Reason.CAPTION_REASONING,
    Reason.CAPTION_REFUSED,
    Reason.CAPTION_MARKUP,
    Reason.CAPTION_LOOPING,
    Reason.CAPTION_TRUNCATED,
    Reason.CAPTION_LANGUAGE,
    Reason.CAPTION_TOO_SHORT,
    Reason.CAPTION_TOO_LONG,
)


async def caption_with_gates(captioner: Captioner, prepared: Prepared) -> CaptionDraft:
    """Return a caption that passes the gates; retry once with other sampling and add the costs.

    Raises the captioner's errors, or ClipRejected with the second text.
    """
    prompt = captioner.fingerprint.prompt
    first = cleaned(await captioner.caption(prepared), captioner.gates)
    try:
        check(first, captioner.gates, prompt)
        return first
    except ClipRejected as refusal:
        log.info("caption failed a gate; retrying with other sampling: %s", refusal)
    second = cleaned(await captioner.caption(prepared, attempt=2), captioner.gates)
    check(second, captioner.gates, prompt)
    return replace(
        second,
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        seconds=first.seconds + second.seconds,
        gpu_s=first.gpu_s + second.gpu_s,
        attempts=first.attempts + second.attempts,
    )


def check(reply: CaptionDraft, gates: Gates, prompt: str = "") -> None:
    """Raise ClipRejected, with the text, for the first failed gate in order of importance."""
    for reason, wrong in verdicts(reply, gates, prompt).items():
        if wrong:
            raise ClipRejected(reason, wrong, text=reply.text)


def verdicts(reply: CaptionDraft, gates: Gates, prompt: str = "") -> dict[Reason, str]:
    """Return the finding of each gate, "" if the caption passes; only CAPTION_EMPTY if it has no words.

    The root cause comes first: a loop also hits the token limit, and a refusal is also short.
    """
    if empty := _empty(reply):
        return dict([empty])
    # Answers for similar scenes may repeat each other; repetition within one answer is a loop.
    answers = reply.answers or (reply.text,)
    found = [
        _first(_refused(text, reply) or _echo(text, prompt) for text in answers),
        _first(_uncleaned(text, gates) for text in answers),
        _first(_looping(text, gates) for text in answers),
        _truncated(reply),
        _foreign(reply.text, gates),
        _too_short(reply, gates),
        _too_long(reply, gates),
    ]
    return dict.fromkeys(GATES, "") | dict(one for one in found if one)


def cleaned(reply: CaptionDraft, gates: Gates | None = None) -> CaptionDraft:
    """Return the reply with all texts normalized, and without what the model added to its text (cleaning.py).

    A text of several answers, or with segments, was cleaned answer by answer (strategies.py).
    """
    is_plain = not reply.segments and len(reply.answers) < 2 and (gates is None or gates.cleaning)
    clean = cleaning.normalized
    return replace(
        reply,
        text=cleaning.clean(reply.text).text if is_plain else clean(reply.text),
        segments=tuple(replace(segment, text=clean(segment.text)) for segment in reply.segments),
        answers=tuple(map(clean, reply.answers)),
        notes=tuple(replace(note, text=clean(note.text)) for note in reply.notes),
    )


def words_of(text: str) -> list[str]:
    """Return the words in lower case, without surrounding punctuation."""
    found = (word.strip(_MARKS) for word in _WORD.findall(text.casefold()))
    return [word for word in found if word]


def refusal(text: str) -> str:
    """Return the refusal phrase at the start of a text, or ""."""
    match = _REFUSALS.match(text.lstrip("*_#> \n\t").replace("’", "'"))
    return match[0] if match else ""


_Found = tuple[Reason, str] | None


def _first(found: Iterable[_Found]) -> _Found:
    return next(filter(None, found), None)


def _empty(reply: CaptionDraft) -> _Found:
    has_words = all(any(char.isalnum() for char in text) for text in (reply.text, *reply.answers))
    return None if has_words else (Reason.CAPTION_EMPTY, "the answer contains no words")


def _refused(text: str, reply: CaptionDraft) -> _Found:
    if reply.finish_reason == "content_filter":
        return Reason.CAPTION_REFUSED, "the engine's content filter stopped the text"
    if start := refusal(text):
        return Reason.CAPTION_REFUSED, f"the text begins with {start!r}"
    return None


def _uncleaned(text: str, gates: Gates) -> _Found:
    """Reject reasoning without a caption, and markup that cannot be taken out."""
    found = cleaning.clean(text) if gates.cleaning else None
    return (found.reason, found.why) if found and found.reason else None


def _echo(text: str, prompt: str) -> _Found:
    """Reject a text that mostly repeats the prompt."""
    prompt_grams = set(_grams(words_of(prompt), _ECHO))
    share = _share(words_of(text), lambda gram, _: gram in prompt_grams, _ECHO)
    if prompt_grams and share > _MOST_ECHO:
        return Reason.CAPTION_REFUSED, f"{share:.0%} of its words repeat the prompt, more than {_MOST_ECHO:.0%}"
    return None


def _looping(text: str, gates: Gates) -> _Found:
    """Reject repetition in the whole text or at its end, where loops start."""
    words = words_of(text)
    scale = _IN_CHARACTERS if _is_unspaced(words) else 1
    share = max(_repeated(words, scale * _LOOP), _repeated(words[-scale * _END :], scale * _LOOP))
    if share > gates.max_repeat:
        return (
            Reason.CAPTION_LOOPING,
            f"{share:.0%} of its words repeat sequences of {scale * _LOOP}, more than {gates.max_repeat:.0%}",
        )
    # Per character, not per byte: some scripts use three bytes per letter, and two of them are constant.
    ratio = len(zlib.compress(text.encode())) / len(text)
    if ratio < gates.min_ratio:
        return Reason.CAPTION_LOOPING, f"compresses to {ratio:.2f} bytes per character, below {gates.min_ratio:.2f}"
    return None


def _truncated(reply: CaptionDraft) -> _Found:
    if reply.finish_reason == "length":
        return Reason.CAPTION_TRUNCATED, f"truncated after {reply.completion_tokens} tokens; increase max_tokens"
    return None


def _foreign(text: str, gates: Gates) -> _Found:
    """Reject a text in another language or script, wholly or in a part of it; quoted words pass."""
    why = foreign(text, gates.language.lower()) if gates.language else ""
    return (Reason.CAPTION_LANGUAGE, why) if why else None


def _too_short(reply: CaptionDraft, gates: Gates) -> _Found:
    count = len(words_of(reply.text))
    if count < gates.min_words:
        return Reason.CAPTION_TOO_SHORT, f"{count} words, fewer than {gates.min_words}"
    if 0 < reply.text_tokens < gates.min_tokens:
        return Reason.CAPTION_TOO_SHORT, f"{reply.text_tokens} tokens, fewer than {gates.min_tokens}"
    return None


def _too_long(reply: CaptionDraft, gates: Gates) -> _Found:
    """Reject a text of an engine that ignores max_tokens."""
    most = gates.max_tokens * max(1, len(reply.answers))
    if 0 < most < reply.text_tokens:
        return Reason.CAPTION_TOO_LONG, f"{reply.text_tokens} tokens, more than {most}"
    return None


_LOOP, _END = 4, 80
_IN_CHARACTERS = 3  # factor for sequence lengths where each character counts as a word
_ECHO, _MOST_ECHO = 5, 0.5

# In scripts without spaces (Thai, Lao, kana, Han) each character counts as a word.
_UNSPACED = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_ALONE = re.compile(rf"[{_UNSPACED}]")
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")

_REFUSALS = re.compile(
    r"(i'?m|i am) (very |so |really )?(sorry|unable to|not able to)\b"
    r"|(i )?apologi[sz]e\b|my apologies\b|sorry, (but )?i\b|unfortunately, i\b"
    r"|i (can't|cannot|can not|do not have|don't have|don't see|do not see|could not|couldn't|won't|will not)\b"
    r"|as an? (ai|language model|text-based)\b"
    r"|(please|could you) (provide|upload|share|attach)\b|no video (was|has been)\b"
    r"|there is no video (attached|provided|to|in)\b"
    r"|it (seems|looks|appears)( like| that)? (you (have not|haven't|did not|didn't|forgot)|no video)\b"
    r"|lo siento\b|no puedo\b|je suis désolée?\b|je ne peux pas\b|désolée?,|es tut mir leid\b"
    r"|(leider )?(ich kann|kann ich) (nicht|kein)"
    r"|mi dispiace\b|non posso\b|desculpe\b|não posso\b|извините|к сожалению, я\b|я не могу\b|простите"
    r"|抱歉|对不起|很抱歉|對不起|我(无法|無法|不能)|作为一?[个名]?(ai|人工智能|语言模型)|申し訳|すみません|죄송"
    r"|ขออภัย|ขอโทษ|क्षमा करें|माफ़ (कीजिए|करें)|عذر(ا|ًا|اً)\b|آسف\b|أعتذر",
    re.IGNORECASE,
)


_MARKS = ".,;:!?…\"'`´“”‘’«»()[]{}<>*_#-–—/\\|。，、！？；：「」（）"


def _grams(words: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def _is_unspaced(words: list[str]) -> bool:
    return 2 * sum(bool(_ALONE.fullmatch(word)) for word in words) > len(words)


def _repeated(words: list[str], size: int) -> float:
    """Return the share of words in sequences of this size that occurred before."""
    first_seen: dict[tuple[str, ...], int] = {}
    return _share(words, lambda gram, start: first_seen.setdefault(gram, start) != start, size)


def _share(words: list[str], counts: Callable[[tuple[str, ...], int], bool], size: int) -> float:
    """Return the share of words in sequences of this size for which counts() is true."""
    covered = [False] * len(words)
    for start, gram in enumerate(_grams(words, size)):
        if counts(gram, start):
            covered[start : start + size] = [True] * size
    return sum(covered) / len(words) if words else 0.0
