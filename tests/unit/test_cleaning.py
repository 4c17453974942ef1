"""Test that a caption has nothing of what models add to it, and that what is no caption is refused."""

import json
import random
import time

import pytest

from clipdex.captions.captioner import CaptionDraft, Gates
from clipdex.captions.cleaning import clean
from clipdex.captions.quality import check, cleaned
from clipdex.captions.strategies import prompt_text
from clipdex.errors import ClipRejected, Reason

CAPTION = (
    "A woman in a green raincoat crosses a wet street from left to right while two taxis wait at the lights. She holds "
    "a folded newspaper over her head and looks back once. Behind her, a tram with lit windows slows down, and its "
    "doors open. Rain blurs the neon sign of a pharmacy. The camera stays where it is, slightly above the crowd."
)
THOUGHT = (
    "Okay, so I need to describe this video. In the first frame I see a street, wait, maybe it is evening. The user "
    "wants at least 230 words. Hmm, the number might be 42 or 47, I am not sure."
)
WRAPPED = {
    "a reasoning block": f"<think>\n{THOUGHT}\n</think>\n\n{CAPTION}",
    "a reasoning block of another name": f"<reasoning>{THOUGHT}</reasoning>{CAPTION}",
    "reasoning that began in the prompt": f"{THOUGHT}\n</think>\n\n{CAPTION}",
    "blocks within blocks": f"<think>a<think>{THOUGHT}</think>b</think>{CAPTION}",
    "two blocks": f"<think>{THOUGHT}</think><thinking>{THOUGHT}</thinking>\n{CAPTION}",
    "an empty block": f"<think>\n\n</think>\n\n{CAPTION}",
    "reasoning behind the caption": f"{CAPTION}\n<think>{THOUGHT}</think>",
    "reasoning of Kimi": f"◁think▷{THOUGHT}◁/think▷{CAPTION}",
    "reasoning of Magistral": f"[THINK]{THOUGHT}[/THINK]{CAPTION}",
    "reasoning of Seed": f"<seed:think>{THOUGHT}</seed:think>{CAPTION}",
    "reasoning of Gemma": f"<|channel>thought\n{THOUGHT}<channel|>{CAPTION}<turn|>",
    "channels of gpt-oss": f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final"
    f"<|message|>{CAPTION}<|return|>",
    "channels of gpt-oss without tokens": f"analysisWe need to describe. {THOUGHT}assistantfinal{CAPTION}",
    "an end of turn": f"{CAPTION}<|im_end|>\n<|im_start|>assistant\n",
    "another turn": f"{CAPTION}<|im_end|>\n<|im_start|>user\nWhat else?<|im_end|>\n"
    f"<|im_start|>assistant\n{CAPTION[:90]}",
    "an end of text": f"<bos>{CAPTION}</s></s><eos>",
    "the turns of Llama": f"<|start_header_id|>assistant<|end_header_id|>\n\n{CAPTION}<|eot_id|>",
    "the prompt of Mistral": f"[INST] Describe the clip. [/INST] {CAPTION}</s>",
    "the prompt and roles in words": f"user\nDescribe the clip.\nassistant\n{CAPTION}",
    "a dialogue that goes on": f"{CAPTION}\n\nUser: Is it night?\nAssistant: It is evening.",
    "an end of sentence of DeepSeek": f"{CAPTION}<｜end▁of▁sentence｜>",
    "a box of GLM": f"<|begin_of_box|>{CAPTION}<|end_of_box|>",
    "a box of LaTeX": f"\\boxed{{\\text{{{CAPTION}}}}}",
    "answer tags": f"<think>{THOUGHT}</think>\n<answer>\n{CAPTION}\n</answer>",
    "a fence": f"```text\n{CAPTION}\n```",
    "JSON in a fence": f"Here is the caption:\n```json\n{json.dumps({'caption': CAPTION})}\n```\n"
    "Let me know if it helps!",
    "JSON": json.dumps({"description": CAPTION, "confidence": 0.9, "tags": ["street", "rain"]}),
    "JSON within JSON": json.dumps({"result": json.dumps({"caption": CAPTION})}),
    "a list of JSON": json.dumps([{"start": 0, "end": 9.5, "text": CAPTION}]),
    "quotation marks": f"“{CAPTION}”",
    "a heading": f"## Description\n\n{CAPTION}",
    "a bold label": f"**Description:** {CAPTION}",
    "emphasis": CAPTION.replace("green raincoat", "**green raincoat**").replace("tram", "*tram*"),
    "HTML": f"<p>{CAPTION}</p><br>",
    "a rule": f"---\n{CAPTION}\n---",
    "a pleasantry": f"Sure! Here is a detailed description of the video, as you asked:\n\n{CAPTION}",
    "another pleasantry": f"Certainly! {CAPTION}",
    "an offer": f"{CAPTION}\n\nLet me know if you would like me to describe any part in more detail!",
    "two offers": f"{CAPTION} I hope this helps! Would you like more detail about the tram?",
    "a word count": f"{CAPTION}\n\n(Word count: 61)",
    "all at once": f"<think>{THOUGHT}</think><answer>```\nSure! Here's the caption: **{CAPTION[:-1]}**.\n```"
    "</answer><|im_end|>",
}  # fmt: skip
COURTESIES = {
    "ru": ("Конечно! Вот подробное описание видео:", "Если вам нужны подробности, дайте знать!",
           "Женщина в зелёном плаще переходит мокрую улицу. За ней останавливается трамвай с освещёнными окнами."),
    "zh": ("好的，以下是这段视频的详细描述：", "如果您需要更多细节，请告诉我。",
           "一名穿绿色雨衣的女子穿过湿漉漉的街道。她身后，一辆亮着灯的电车慢慢停下。"),
    "es": ("¡Claro! Aquí tienes una descripción detallada del vídeo:", "Si necesitas más detalles, avísame.",
           "Una mujer con un impermeable verde cruza una calle mojada. Detrás de ella se detiene un tranvía."),
    "de": ("Natürlich! Hier ist eine ausführliche Beschreibung des Videos:", "Lass mich wissen, wenn du mehr brauchst.",
           "Eine Frau im grünen Regenmantel überquert eine nasse Straße. Hinter ihr hält eine Straßenbahn."),
    "fr": ("Bien sûr ! Voici une description détaillée de la vidéo :", "N'hésitez pas si vous voulez plus de détails.",
           "Une femme en imperméable vert traverse une rue mouillée. Derrière elle, un tramway s'arrête."),
}  # fmt: skip
REASONING = {
    "a block that was cut off": f"<think>\n{THOUGHT} {THOUGHT}",
    "a block that was cut off, with its caption": f"<think>{THOUGHT}\n\n{CAPTION}",
    "a block without a caption": f"<think>{THOUGHT}</think>",
    "a channel that was cut off": f"<|channel|>analysis<|message|>{THOUGHT}",
    "reasoning without tags": THOUGHT,
    "reasoning about the user": f"The user wants a description. {CAPTION}",
    "reasoning in Chinese": "用户要求我描述这段视频。首先我看到一条街道，然后有两个骑自行车的人经过。",
    "reasoning in Russian": "Хорошо, мне нужно описать это видео. Сначала я вижу улицу, потом велосипедистов.",
}
MARKUP = {
    "JSON that was cut off": json.dumps({"caption": CAPTION})[:-40],
    "JSON without a caption": '{"objects": ["car", "tram"], "people": 3}',
    "a list of words": "- street\n- evening\n- two taxis\n- a tram\n- rain",
    "too many levels": 40 * "<|" + "im_end" + 40 * "|>" + " " + CAPTION,
    "tags alone": "<answer></answer><|im_end|>assistant",
}
KEPT = {
    "a sentence that begins with Sure": "Sure-footed goats climb the wall of a dam. " + CAPTION,
    "a sentence that begins with Here": "Here and there, people stand under awnings. " + CAPTION,
    "tags on screen": CAPTION + ' The screen shows the tags "<think>" and "</think>" in white letters.',
    "a sign with stars": CAPTION + " A sign reads “*** SALE ***” in red.",
    "a time of day": "10:30 is what the station clock shows. " + CAPTION,
    "numbers at the beginning": "3 men and 2 women wait at the stop. " + CAPTION,
    "paragraphs": CAPTION + "\n\nIn the second half, a bus arrives.\n\nAt the end, the street is empty.",
    "a quotation at both ends": '"Open" reads the sign on the left. ' + CAPTION + ' The other one reads "Closed"',
    "the user interface": "The user interface of a program fills the screen. " + CAPTION,
    "a sentence with if": CAPTION + " If it were not for the rain, the street would be full.",
}


@pytest.mark.parametrize("what", WRAPPED)
def test_what_a_model_adds_is_taken_out(what):
    assert clean(WRAPPED[what]).text == CAPTION


@pytest.mark.parametrize("language", COURTESIES)
def test_courtesies_are_taken_out_in_the_languages_of_the_prompts(language):
    before, after, text = COURTESIES[language]
    assert clean(f"{before}\n\n{text}\n\n{after}").text == text


def test_headings_and_lists_become_sentences():
    listed = (
        "# Video\n\n## Setting\n\n- **Place:** A wet street.\n- **Time:** It is evening.\n\n"
        "1. A woman walks.\n2. A tram stops."
    )
    assert clean(listed).text.split("\n") == ["A wet street.", "It is evening.", "", "A woman walks.", "A tram stops."]


@pytest.mark.parametrize(
    "text",
    [
        "[0:00-0:04] A **man** walks.\n\n[0:04-0:09] He stops.",
        "<think>[0:00-0:09] hm</think>[0:00-0:04] A man walks.\n\n[0:04-0:09] He stops.",
    ],
)
def test_the_times_of_paragraphs_stay(text):
    assert clean(text).text == "[0:00-0:04] A man walks.\n\n[0:04-0:09] He stops."


@pytest.mark.parametrize("what", KEPT)
def test_a_caption_stays_as_it_is(what):
    assert clean(KEPT[what]).text == KEPT[what]


@pytest.mark.parametrize("name", ["describe", "frame", "merge"])
def test_the_prompts_ask_for_nothing_that_is_taken_out(name):
    """The prompts are prose in the six languages: cleaning must not see courtesies in prose."""
    for code in ("ru", "zh", "es", "de", "fr"):
        *_, last = prompt_text(name, code, 1024).split("\n\n")
        assert clean(last).text == last


@pytest.mark.parametrize(
    ("text", "reason"),
    [(REASONING[what], Reason.CAPTION_REASONING) for what in REASONING]
    + [(MARKUP[what], Reason.CAPTION_MARKUP) for what in MARKUP],
    ids=[*REASONING, *MARKUP],
)  # fmt: skip
def test_an_answer_without_a_caption_is_refused_and_kept(text, reason):
    found = clean(text)
    assert found.reason is reason
    with pytest.raises(ClipRejected) as refusal:
        check(cleaned(CaptionDraft(text)), Gates(language="", min_words=1))
    assert refusal.value.reason is reason
    assert refusal.value.text == found.text == text.strip()


def test_text_of_the_embedded_detectors_is_not_touched():
    text = 'The text "x" </think> is on screen.'
    assert cleaned(CaptionDraft(text), Gates(cleaning=False)).text == text


PIECES = (
    "<think>", "</think>", "<thinking>", "</reasoning>", "◁think▷", "◁/think▷", "<|channel|>analysis<|message|>",
    "<|channel|>final<|message|>", "<|im_end|>", "<|im_start|>user\n", "<|im_start|>assistant\n", "[INST]", "[/INST]",
    "</s>", "<|", "|>", "<", ">", "```", "```json\n", "\n", "\n\n", '{"caption": "', '"}', "{", "}", "[", "]",
    "<answer>", "</answer>", "\\boxed{", "**", "*", "# ", "- ", "1. ", "2. ", "Sure! ", "Here is a description: ",
    "Let me know. ",
    "assistantfinal", "analysis", "“", "”", '"', "[0:00-0:04] ", "user\n", "A man walks along the wet street. ",
    "A tram. ",
    "Okay, so I need to ", "\u0301", "e", "<br>", "<p>", "---\n", "| a | b |\n",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_cleaning_twice_changes_nothing_more(seed):
    """Any mixture of what models add: nested, torn, repeated."""
    chance = random.Random(seed)
    for _ in range(150):
        text = "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 30)))
        once = clean(text)
        assert clean(once.text).text == once.text, text
        assert clean(once.text).reason == once.reason, text


@pytest.mark.parametrize("piece", PIECES)
def test_the_time_of_cleaning_grows_with_the_length_alone(piece):
    """A quadratic step would take 16 times as long for 4 times the text; the limit leaves room for a busy machine."""

    def seconds(count: int) -> float:
        text = piece * count + CAPTION
        best = float("inf")
        for _ in range(2):
            began = time.process_time()
            clean(text)
            best = min(best, time.process_time() - began)
        return best

    count = 20_000 // len(piece) + 1
    assert seconds(4 * count) < 10 * seconds(count) + 0.05
