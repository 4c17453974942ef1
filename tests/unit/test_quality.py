"""Test the gates: good captions pass in many languages, bad ones are rejected for the right reason and kept."""

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from clipdex.captions.captioner import CaptionDraft, Captioner, Gates
from clipdex.captions.cleaning import normalized
from clipdex.captions.engines import open_captioner
from clipdex.captions.quality import caption_with_gates, check
from clipdex.config import Sampling, Settings, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.runs.outcomes import Outcome
from clipdex.video import Prepared, prepare
from tests.support.clips import write_clip
from tests.support.engine import MODEL, StandIn
from tests.support.pipeline import Pipeline

T = TypeVar("T")

CAPTIONS = {
    "en": "A woman in a green raincoat crosses a wet street from left to right while two taxis wait at the lights. She "
    "holds a folded newspaper over her head and looks back once. Behind her, a tram with lit windows slows down, "
    "and its doors open. Rain blurs the neon sign of a pharmacy. The camera stays where it is, slightly above "
    "the crowd, until a cyclist fills the picture.",
    "de": "Eine ältere Frau steht in einer hellen Küche und knetet Teig auf einem bemehlten Brett. Neben ihr sitzt ein "
    "Junge, der mit dem Finger Linien in das Mehl malt. Durch das offene Fenster sieht man einen Apfelbaum im "
    "Wind. Die Kamera fährt langsam näher heran, bis nur noch die Hände zu sehen sind. Am Ende lacht das Kind, "
    "und etwas Mehl fällt auf den Boden.",
    "fr": "Deux pêcheurs remontent un filet à bord d'un petit bateau bleu, au lever du jour. L'un d'eux trie les "
    "poissons dans des caisses pendant que l'autre surveille la mer. Des mouettes tournent autour du mât et "
    "plongent parfois dans l'écume. La caméra, posée sur le pont, tangue avec les vagues. On lit le nom du "
    "bateau sur la coque, à moitié effacé par le sel.",
    "ru": "Мальчик в жёлтой куртке бежит по заснеженному двору и тянет за собой санки, на которых сидит маленькая "
    "собака. Из подъезда выходит женщина с двумя сумками, останавливается и машет ему рукой. На заднем плане "
    "дворник чистит дорожку широкой лопатой. Камера поворачивается вслед за санками, и в кадр попадает горка, "
    "где катаются дети постарше.",
    "el": "Ένας ηλικιωμένος άντρας κάθεται σε μια ψάθινη καρέκλα μπροστά στο λιμάνι και επισκευάζει ένα δίχτυ. Δίπλα "
    "του μια γάτα παρακολουθεί τα ψάρια μέσα σε έναν κουβά. Στο βάθος ένα πλοίο με άσπρα πανιά απομακρύνεται "
    "αργά από την προβλήτα. Η κάμερα κινείται προς τα δεξιά και δείχνει παιδιά που παίζουν με μια κόκκινη μπάλα "
    "στην πλατεία πριν σκοτεινιάσει.",
    "zh": "清晨的菜市场里,一位戴着草帽的老人把新鲜的白菜摆上木架,旁边的年轻女子正在称西红柿。几个孩子从摊位之间跑过,撞"
    "翻了一只空竹篮。镜头慢慢向右移动,可以看到鱼摊上堆满碎冰,摊主用水管冲洗地面。远处的招牌写着“早点”,热气从蒸笼"
    "里升起,两名骑车的人停下来排队。",
    "ja": "雨上がりの公園で、赤い傘を持った女の子が水たまりを飛び越えています。後ろでは白い犬を連れた男性がベンチに座り"
    "、スマートフォンを見ています。カメラはゆっくりと左へ動き、池のそばで写真を撮る二人の観光客が映ります。木々の"
    "間から差し込む光が水面に反射し、最後に一羽の鳥が飛び立ちます。",
    "ko": "좁은 골목에서 배달원이 오토바이를 세우고 종이 상자를 내린다. 가게 문 앞에는 앞치마를 두른 아주머니가 손을 "
    "흔들며 서 있고, 그 옆에서 고양이 한 마리가 햇볕을 쬐고 있다. 카메라가 천천히 위로 올라가면서 빨래가 널린 "
    "옥상과 멀리 보이는 산이 나타난다. 간판에는 굵은 글씨로 가게 이름이 적혀 있다. 마지막에는 학생 두 명이 "
    "웃으면서 화면 오른쪽으로 뛰어가고, 자전거를 탄 노인이 반대편에서 조심스럽게 다가온다. 바람에 현수막이 "
    "흔들린다.",
    "th": "ชายสวมหมวกสานพายเรือลำเล็กไปตามคลองแคบในยามเช้า บนเรือมีตะกร้าผลไม้หลายใบและดอกไม้สีเหลือง หญิงคนหนึ่งยืนรออยู่ที่ท่าน้ำแล้วโบกมือ"
    "เรียก กล้องค่อย ๆ เคลื่อนตามเรือจนเห็นบ้านไม้สองข้างทาง เด็กสองคนกระโดดลงน้ำพร้อมกันและหัวเราะเสียงดัง สุนัขตัวสีน้ำตาลนอนหลับอยู่ใต้ร่"
    "ม ตอนท้ายมีนักท่องเที่ยวถ่ายรูปสะพานหินเก่าแก่จากริมฝั่ง",
    "hi": "एक बूढ़ा दर्जी अपनी छोटी दुकान में सिलाई मशीन पर नीला कपड़ा सिल रहा है। सामने की बेंच पर दो लड़कियाँ बैठकर चाय पी रही हैं "
    "और सड़क की ओर देख रही हैं। बाहर से एक साइकिल वाला गुज़रता है, जिसके पीछे दूध के डिब्बे बँधे हैं। कैमरा धीरे से ऊपर उठता है और छत "
    "पर सूखते रंगीन दुपट्टे दिखाई देते हैं। अंत में बिजली चली जाती है, फिर कोई लालटेन जलाता है।",
    "ar": "يقف صياد شاب على صخرة قرب الشاطئ ويرمي شبكته في الماء مرتين قبل أن يسحبها ببطء. خلفه تجلس امرأة تحت مظلة "
    "بيضاء وتقرأ كتابا، بينما يبني طفلان قلعة من الرمل. تتحرك الكاميرا نحو اليمين فيظهر قارب خشبي أزرق مربوط "
    "بحبل طويل. في النهاية تغيب الشمس وراء المنارة وتعود الطيور إلى السطوح القديمة في المدينة.",
}  # fmt: skip
# Phrases that a looping model repeats.
LOOPS = {
    "en": " and the man walks on", "de": " und der Mann geht weiter", "fr": " et l'homme continue de marcher",
    "ru": " и мужчина идёт дальше", "el": " και ο άντρας συνεχίζει", "zh": "男人继续走,", "ja": "男性は歩き続け、",
    "ko": " 그리고 남자가 계속 걷고", "th": "และชายคนนั้นเดินต่อไป",
    "hi": " और आदमी चलता रहता है", "ar": " ويستمر الرجل في المشي",
}  # fmt: skip
# Captions by people, of clips in which much the same happens several times. They repeat phrases and are correct.
REPETITIVE_SCENES = (
    ("en", "The camera shows several people on a path from a first person perspective. The camera shows sliding "
     "down a slope from a first person perspective beside others. The camera shows sliding down a slope from "
     "a first person perspective looking back. The camera shows another slide down the slope from a first "
     "person perspective beside others. The camera watches as many others slide down the slope."),
    ("en", "A large group of men is seen holding a rope, ready for a tug of war. Another group of men is seen "
     "playing tug of war with a crowd around them. A third group of men is seen playing tug of war in a crowd "
     "of people and dogs. A different group of men plays tug of war while the crowd cheers. Another group of "
     "men is shown up close, and some of the men fall down as they win."),
    ("th", "ผู้ชายกลุ่มใหญ่ถือเชือกเตรียมเล่นชักเย่อ ผู้ชายอีกกลุ่มหนึ่งกำลังเล่นชักเย่อโดยมีฝูงชนอยู่รอบ ๆ ผู้ชายกลุ่มที่สามกำลังเล่นชักเย่อท่ามกลางผู้คนแ"
     "ละสุนัข ผู้ชายอีกกลุ่มหนึ่งเล่นชักเย่อขณะที่ฝูงชนส่งเสียงเชียร์ ผู้ชายอีกกลุ่มหนึ่งปรากฏในระยะใกล้ และผู้ชายบางคนล้มลงเมื่อชนะ"),
    ("ja", "大勢の男性が綱を持ち、綱引きの準備をしています。別の男性のグループが観客に囲まれて綱引きをしています。三"
     "つ目の男性のグループが人々と犬の間で綱引きをしています。また別の男性のグループが綱引きをし、観客が声援を"
     "送っています。最後に男性のグループが近くから映り、何人かの男性が勝って倒れます。"),
    ("zh", "一大群男人拿着绳子,准备拔河。另一群男人在人群的围观下拔河。第三群男人在人群和狗中间拔河。又一群男人在拔"
     "河,人群在欢呼。另一群男人出现在近处,其中一些男人赢了以后倒在地上。"),
    ("hi", "पुरुषों का एक बड़ा समूह रस्सी पकड़े रस्साकशी के लिए तैयार है। पुरुषों का दूसरा समूह भीड़ के बीच रस्साकशी खेल रहा है। पुरुषों का "
     "तीसरा समूह लोगों और कुत्तों के बीच रस्साकशी खेल रहा है। पुरुषों का एक और समूह रस्साकशी खेल रहा है और भीड़ तालियाँ बजा रही "
     "है। पुरुषों का एक और समूह पास से दिखता है और कुछ पुरुष जीतकर गिर जाते हैं।"),
)  # fmt: skip
TWO_SECONDS = "0.0-2.0 s: a red circle stays in its place."


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Prepared:
    path = write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")
    return prepare(path, VideoLimits(), Sampling(short_side=64))


# Captions that pass


@pytest.mark.parametrize("language", CAPTIONS)
def test_a_good_caption_passes_in_its_language(language):
    check(CaptionDraft(CAPTIONS[language]), Gates(language=language))


@pytest.mark.parametrize(("language", "text"), REPETITIVE_SCENES)
def test_a_caption_of_a_repetitive_scene_passes(language, text):
    check(CaptionDraft(text), Gates(language=language))


@pytest.mark.parametrize("language", ["en", "ru", "th", "hi", "zh"])
def test_a_long_caption_passes_in_every_script(language):
    """Check scripts of three bytes per letter, too, in which any text compresses well."""
    spaced = language not in ("th", "zh")
    words = CAPTIONS[language].split() if spaced else re.findall("..?.?.?", CAPTIONS[language])
    chance = random.Random(language)
    long = (" " if spaced else "").join(chance.choice(words) for _ in range(6 * len(words)))
    check(CaptionDraft(long), Gates(language=language))


def test_a_caption_with_a_few_foreign_words_passes():
    check(CaptionDraft(CAPTIONS["en"] + " The sign reads «Аптека», and below it 薬局 and صيدلية."), Gates())


def test_any_language_passes_if_none_is_configured():
    for text in CAPTIONS.values():
        check(CaptionDraft(text), Gates(language=""))


def test_a_short_caption_passes_if_the_minimum_is_low():
    check(CaptionDraft(TWO_SECONDS), Gates(min_words=4))


@pytest.mark.parametrize(
    "text",
    [
        "I can see, as the camera would, a row of apologetic dogs: " + CAPTIONS["en"],
        'A man holds up a card that says "I\'m sorry, I cannot come". ' + CAPTIONS["en"],
        "Sorry-looking umbrellas lie in a bin. " + CAPTIONS["en"],
        "Unfortunately for the goalkeeper, the ball bounces back in. " + CAPTIONS["en"],
        "It looks like there is a fair in the village. " + CAPTIONS["en"],
    ],
)
def test_a_caption_that_mentions_an_apology_passes(text):
    check(CaptionDraft(text), Gates())


# Captions that are rejected


@pytest.mark.parametrize("text", ["", "  \n\t ", "\u200b \u00a0"])
def test_blank_text_is_rejected_as_empty(text):
    assert _refused(CaptionDraft(normalized(text))) is Reason.CAPTION_EMPTY


@pytest.mark.parametrize("language", CAPTIONS)
def test_a_loop_of_a_phrase_is_rejected_in_every_language(language):
    text = CAPTIONS[language] + 60 * LOOPS[language]
    assert _refused(CaptionDraft(text), Gates(language=language)) is Reason.CAPTION_LOOPING


@pytest.mark.parametrize("language", CAPTIONS)
def test_a_caption_repeated_three_times_is_rejected(language):
    text = " ".join(3 * [CAPTIONS[language]])
    assert _refused(CaptionDraft(text), Gates(language=language)) is Reason.CAPTION_LOOPING


def test_a_loop_at_the_end_of_a_long_caption_is_rejected():
    text = " ".join(CAPTIONS[code] for code in ("en", "de", "fr")) + 20 * LOOPS["en"]
    assert _refused(CaptionDraft(text)) is Reason.CAPTION_LOOPING


@pytest.mark.parametrize("unit", ["na", "…!?", "ha ", "0"])
def test_a_loop_inside_one_word_is_rejected_by_its_compression_ratio(unit):
    assert _refused(CaptionDraft(CAPTIONS["en"] + " " + unit * 3000)) is Reason.CAPTION_LOOPING


def test_a_loop_cut_off_by_the_token_limit_is_reported_as_a_loop():
    assert _refused(CaptionDraft(CAPTIONS["en"] + 60 * LOOPS["en"], finish_reason="length")) is Reason.CAPTION_LOOPING


def test_a_caption_cut_off_by_the_limit_is_rejected():
    assert _refused(CaptionDraft(CAPTIONS["en"], finish_reason="length")) is Reason.CAPTION_TRUNCATED


@pytest.mark.parametrize(
    "start",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t see a video.",
        "**I am unable to view videos.**",
        "I cannot assist with identifying people.",
        "Sorry, I can only describe still pictures.",
        "As an AI language model, I do not watch videos.",
        "Unfortunately, I have no access to the clip.",
        "Please provide the video that you want described.",
        "There is no video attached to your message.",
        "It seems that you have not provided a video.",
        "It looks like no video was attached.",
        "Es tut mir leid, aber das Video kann ich nicht sehen.",
        "Leider kann ich keine Videos ansehen.",
        "Je suis désolé, mais je ne vois pas de vidéo.",
        "Lo siento, no puedo ver el video.",
        "Извините, я не могу просмотреть это видео.",
        "抱歉,我无法查看视频。",
        "我无法观看这段视频。",
        "作为一个人工智能,我不能观看视频。",
        "申し訳ありませんが、動画を見ることができません。",
        "죄송하지만 동영상을 볼 수 없습니다.",
        "ขออภัย ฉันไม่สามารถดูวิดีโอได้",
        "क्षमा करें, मैं वीडियो नहीं देख सकता।",
        "عذرًا، لا أستطيع مشاهدة الفيديو.",
    ],
)
def test_a_refusal_is_detected_whatever_text_follows(start):
    assert _refused(CaptionDraft(f"{start} {CAPTIONS['en']}"), Gates(language="")) is Reason.CAPTION_REFUSED


def test_a_text_that_only_repeats_the_prompt_is_rejected():
    prompt = "Describe the setting, the people, what they do in order, the camera and any text on the screen. " * 2
    with pytest.raises(ClipRejected) as refusal:
        check(CaptionDraft(prompt), Gates(min_words=4), prompt)
    assert refusal.value.reason is Reason.CAPTION_REFUSED


@pytest.mark.parametrize(
    ("wanted", "written"),
    [("en", "ru"), ("en", "zh"), ("en", "th"), ("de", "ar"), ("ru", "en"), ("zh", "en"), ("ja", "ko"), ("ko", "ja"),
     ("hi", "en"), ("ar", "hi"), ("el", "ru"), ("th", "zh")],
)  # fmt: skip
def test_a_caption_in_the_script_of_another_language_is_rejected(wanted, written):
    assert _refused(CaptionDraft(CAPTIONS[written]), Gates(language=wanted)) is Reason.CAPTION_LANGUAGE


def test_a_few_words_are_rejected_as_too_short():
    assert _refused(CaptionDraft("A street.")) is Reason.CAPTION_TOO_SHORT


def test_a_rejection_by_a_gate_keeps_the_text_and_the_figures():
    with pytest.raises(ClipRejected) as refusal:
        check(CaptionDraft("A street with cars."), Gates(min_words=40))
    assert refusal.value.text == "A street with cars."
    assert "4 words, fewer than 40" in refusal.value.detail


# The second attempt


def test_a_second_attempt_with_other_sampling_saves_a_clip_and_both_are_counted(clip):
    with StandIn("loop:1", words=80) as engine:
        reply = _with_captioner(engine, lambda captioner: caption_with_gates(captioner, clip))
    first, second = engine.chats
    assert reply.attempts == 2
    assert reply.completion_tokens == first.completion_tokens + second.completion_tokens
    assert {name: first.body[name] for name in ("temperature", "seed")} != {
        name: second.body[name] for name in ("temperature", "seed")
    }


@pytest.mark.parametrize(
    "settings", [{}, {"strategy": "frames-concat"}, {"strategy": "frames-merge"}, {"times": False}]
)
def test_what_the_engine_adds_is_not_stored_whatever_the_strategy(clip, settings):
    with StandIn("reasoning:1.0", words=80) as engine:
        reply = _with_captioner(engine, lambda captioner: caption_with_gates(captioner, clip), **settings)
    assert reply.text
    for text in (reply.text, *(one.text for one in (*reply.segments, *reply.notes))):
        assert "think" not in text and "<" not in text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("empty", Reason.CAPTION_EMPTY), ("short", Reason.CAPTION_TOO_SHORT), ("long", Reason.CAPTION_TRUNCATED),
     ("loop", Reason.CAPTION_LOOPING), ("echo", Reason.CAPTION_REFUSED), ("refusal", Reason.CAPTION_REFUSED),
     ("cyrillic", Reason.CAPTION_LANGUAGE), ("thinking", Reason.CAPTION_REASONING)],
)  # fmt: skip
def test_two_bad_captions_reject_the_clip_and_the_last_text_is_kept(clip, fault, reason):
    with StandIn(f"{fault}:2", words=80) as engine, pytest.raises(ClipRejected) as refusal:
        _with_captioner(engine, lambda captioner: caption_with_gates(captioner, clip))
    assert refusal.value.reason is reason
    assert len(engine.chats) == 2
    assert bool(refusal.value.text) is (fault != "empty")


def test_quarantine_keeps_the_reason_the_figures_and_the_text(tmp_path):
    with StandIn(words=80) as engine:
        pipeline = Pipeline(tmp_path, [engine.url])
        clips = pipeline.put(4)
        engine.plan.set(f"short:digest={pipeline.proxy_digest(clips[2])}")
        pipeline.run()
    outcome = pipeline.outcomes()[clips[2].name]
    assert (outcome.outcome, outcome.reason, outcome.text) == (
        Outcome.QUARANTINED, "caption_too_short", "A street."
    )  # fmt: skip
    assert "2 words" in outcome.detail


# Stored text


def test_cleaning_removes_only_characters_that_json_cannot_hold():
    assert (
        normalized(" A\x00 man\ud83d walks\ud83d\ude00;\r\n\ttwo e\u0301toiles \x1b[0m ")
        == "A man walks😀;\n\ttwo étoiles [0m"
    )


def _refused(reply: CaptionDraft, gates: Gates | None = None) -> Reason | None:
    try:
        check(reply, gates or Gates())
    except ClipRejected as refusal:
        return refusal.reason
    return None


def _with_captioner(engine: StandIn, call: Callable[[Captioner], "asyncio.Future[T]"], **others: Any) -> T:
    settings = Settings.load(engine={"name": "sglang", "model": MODEL, "base_urls": [engine.url], **others})

    async def run() -> T:
        captioner = open_captioner(settings)
        try:
            return await call(captioner)
        finally:
            await captioner.aclose()

    return asyncio.run(run())
