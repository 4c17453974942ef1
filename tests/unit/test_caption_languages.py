"""Test languages: captions in each pass, others are refused, prompts fit into their tokens."""

from itertools import product

import pytest

from benchmarks.gates import refusals, sentences, written
from clipdex.captions.budgets import TOKENS_PER_WORD, samples, words_for
from clipdex.captions.captioner import CaptionDraft, Gates
from clipdex.captions.languages import CODES
from clipdex.captions.model import Completion
from clipdex.captions.quality import check
from clipdex.captions.strategies import ModelCaptioner, prompt_text, trim_to_sentence
from clipdex.config import Settings
from clipdex.errors import ClipRejected, ConfigurationError, Reason
from tests.unit.test_quality import CAPTIONS

TEXTS = {code: texts for code, texts in sentences().items() if len(texts) > 4}


def test_every_language_has_a_sample_and_a_budget():
    assert set(samples()) == set(TOKENS_PER_WORD) == set(CODES)


@pytest.mark.parametrize("code", TEXTS)
def test_fewer_than_one_of_a_hundred_good_captions_is_refused(code):
    """Captions with names, brands, quoted signs in other languages, and short sentences."""
    found = refusals(list(written(code, TEXTS[code], 40)), code)
    assert found.total() == 0, found


@pytest.mark.parametrize("code", CODES)
def test_the_sample_of_a_language_passes_in_it(code):
    check(CaptionDraft(samples()[code]), Gates(language=code, min_words=1))


# Of these pairs, one cannot be told from the other by a short text.
_NEAR = {("id", "ms"), ("sr", "hr")}


@pytest.mark.parametrize("wanted", CODES)
def test_a_caption_in_any_other_language_is_refused(wanted):
    passed = [
        other
        for other in CODES
        if other != wanted and (wanted, other) not in _NEAR and _refused(samples()[other], wanted) is None
    ]
    assert not passed


@pytest.mark.parametrize(("wanted", "other"), [*product(["ru", "en", "de", "zh"], ["uk", "fr", "ja", "el"])])
def test_one_paragraph_in_another_language_is_refused(wanted, other):
    first, *rest = (CAPTIONS.get(wanted) or samples()[wanted]), samples()[other], samples()[wanted]
    assert _refused("\n\n".join([first, *rest]), wanted) is Reason.CAPTION_LANGUAGE


def test_another_script_in_the_middle_of_a_paragraph_is_refused():
    assert _refused(f"{CAPTIONS['ru']} {samples()['zh'][:60]} {samples()['ru']}", "ru") is Reason.CAPTION_LANGUAGE


@pytest.mark.parametrize(
    ("language", "read"),
    [
        ("en", "A banner reads «Добро пожаловать в нашу новую школу, дорогие первоклассники»."),
        ("en", 'The subtitle says "Nous n\'avons plus le temps, il faut partir tout de suite avant la nuit".'),
        ("en", "The shop sign says Аптека, and below it 薬局."),
        ("ru", "На плакате написано “Welcome to the annual meeting of the bird watchers of the county”."),
        ("ru", "На экране надпись PLEASE WAIT UNTIL THE INSTALLATION IS COMPLETE."),
        ("zh", "海报上写着“Welcome to the annual meeting of the bird watchers of the county”。"),
        ("de", "Auf dem Plakat steht „Добро пожаловать в нашу новую школу, дорогие первоклассники“."),
        ("ja", "看板には「Welcome to the annual meeting of the bird watchers」と書かれています。"),
    ],
)
def test_what_is_read_on_screen_may_be_in_another_language(language, read):
    assert _refused(f"{CAPTIONS[language]} {read}", language) is None


@pytest.mark.parametrize("text", ["“" + CAPTIONS["fr"].replace("’", "'") + "”", "« " + CAPTIONS["fr"] + " »"])
def test_a_foreign_caption_in_quotation_marks_is_refused(text):
    assert _refused(text, "de") is Reason.CAPTION_LANGUAGE


# Budgets


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("tokens", [256, 1024])
def test_the_words_that_a_prompt_asks_for_fit_into_the_tokens(code, tokens):
    """With a quarter to spare, by Qwen2.5-VL's tokenizer: models write more than they are asked for."""
    fewest, most = words_for(tokens, code)
    assert 0 < fewest <= most
    assert 1.25 * most * TOKENS_PER_WORD[code] < tokens
    if code not in ("zh", "ja", "th"):
        assert f"{most}" in prompt_text("describe", code, tokens)


def test_the_prompt_in_english_is_that_of_earlier_releases():
    assert prompt_text("describe", "en", 1024) == prompt_text("describe", "en", 1024, former=True)
    assert "Write 230 to 563 words in English" in prompt_text("describe", "en", 1024)


@pytest.mark.parametrize("code", CODES)
def test_no_caption_is_too_short_that_has_the_words_asked_for(code):
    gates = ModelCaptioner(_settings(language=code), _NoModel()).gates
    assert gates.min_words <= words_for(1024, code)[0]


def test_the_tokenizer_of_the_model_decides_where_it_is_at_hand(tmp_path):
    """A tokenizer of single characters needs more tokens per word than any language model's."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    assert words_for(1024, "ru", tmp_path) == words_for(1024, "ru", file)
    assert words_for(1024, "ru", file)[1] < words_for(1024, "ru")[1]
    settings = _settings(tokenizer=str(file))
    assert str(words_for(1024, "ru", file)[1]) in ModelCaptioner(settings, _NoModel()).fingerprint.prompt


def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="CLIPDEX_ENGINE__TOKENIZER"):
        words_for(1024, "ru", tmp_path / "missing.json")


# Prompts


@pytest.mark.parametrize("code", ["ru", "zh", "es", "de", "fr"])
@pytest.mark.parametrize("name", ["describe", "frame", "frame-short", "merge"])
def test_prompts_are_written_in_the_language_of_the_captions(code, name):
    text = prompt_text(name, code, 1024, times=True)
    check(CaptionDraft(text), Gates(language=code, min_words=1, cleaning=False))
    assert "{" not in text


def test_other_languages_have_the_english_prompt_with_their_name():
    assert "words in Ukrainian" in prompt_text("describe", "uk", 1024)


def test_a_prompt_of_ones_own_is_not_replaced_by_a_translation(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("Write {most} words in {language}.")
    assert prompt_text(str(file), "ru", 1024).endswith("words in Russian.")


@pytest.mark.parametrize("code", ["en", "ru", "uk"])
@pytest.mark.parametrize("strategy", ["video", "frames-merge"])
def test_captions_under_the_former_prompt_count_as_done(code, strategy):
    settings = _settings(language=code, strategy=strategy)
    captioner = ModelCaptioner(settings, _NoModel())
    system = prompt_text("merge", code, 1024, former=True)
    former = {
        "video": prompt_text("describe", code, 1024, times=True, former=True),
        "frames-merge": prompt_text(settings.engine.prompt, code, settings.engine.frame_tokens, former=True)
        + "\n\n"
        + system,
    }[strategy]
    equal = [(one.prompt, one.cleaning) for one in captioner.fingerprint.equal()]
    assert (former, 0) in equal
    assert len(equal) == len(set(equal))


# Frames


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        ("Ein Mann geht. Er hält an. Dann", "Ein Mann geht. Er hält an."),
        ("Un homme marche 3.5 mètres. Puis il", "Un homme marche 3.5 mètres."),
        ("一个男人在走路。他停下来。然后", "一个男人在走路。他停下来。"),
        ("男の人が歩く。「止まれ！」と書いてある。それから", "男の人が歩く。「止まれ！」と書いてある。"),
        ("एक आदमी चल रहा है। वह रुकता है। फिर", "एक आदमी चल रहा है। वह रुकता है।"),
        ("ایک آدمی چل رہا ہے۔ وہ رکتا ہے۔ پھر", "ایک آدمی چل رہا ہے۔ وہ رکتا ہے۔"),
        ("ماذا يفعل الرجل؟ يمشي. ثم", "ماذا يفعل الرجل؟ يمشي."),
        ("Τι κάνει ο άντρας; Περπατάει", "Τι κάνει ο άντρας;"),
        ("ผู้ชายคนหนึ่งเดินอยู่ เขาหยุดที่ร้าน แล้วก็", "ผู้ชายคนหนึ่งเดินอยู่ เขาหยุดที่ร้าน"),
        ("Մարդը քայլում է։ Նա", "Մարդը քայլում է։"),
    ],
)
def test_a_frame_that_was_cut_off_ends_with_a_sentence(cut, whole):
    trimmed = trim_to_sentence(Completion(cut, finish_reason="length"))
    assert (trimmed.text, trimmed.finish_reason) == (whole, "stop")


class _NoModel:
    in_flight = 1

    @property
    def traits(self) -> dict[str, str]:
        return {}


def _settings(**engine: str) -> Settings:
    return Settings.load(
        engine={"name": "sglang", "model": "m", "base_urls": ["http://gpu:30000"], "language": "ru", **engine}
    )


def _refused(text: str, language: str) -> Reason | None:
    try:
        check(CaptionDraft(text), Gates(language=language, min_words=1))
    except ClipRejected as refusal:
        return refusal.reason
    return None
