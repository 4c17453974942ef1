"""Write a set for `clipdex eval` from templates: the same scenes and questions in English and in Russian.

    python -m benchmarks.search_sets --language ru ru.jsonl
    CLIPDEX_ENGINE__LANGUAGE=ru clipdex eval ru.jsonl

A scene has a person, a look, a deed, a place, a weather and something in the background. Scenes come in families that
differ in one or two of the six, so most words of a caption are those of others. A question names the person, the deed
and more of the six, as many as only one scene has, with other endings, as nouns, or in other words.
"""

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("en", "ru")
_FAMILY = 5

# Per line: in the caption; with other endings; in other words; in English, then in Russian. Deeds have a noun, too.
_PEOPLE = """
An elderly man | elderly men | pensioners | Пожилой мужчина | пожилые мужчины | старики
A young woman | young women | ladies | Молодая женщина | молодые женщины | девушки
A boy | boys | male pupils | Мальчик | мальчики | школьники
A police officer | police officers | cops | Полицейский | полицейские | стражи порядка
A worker | workers | labourers | Рабочий | рабочие | работники
A waiter | waiters | restaurant staff | Официант | официанты | персонал ресторана
A nurse | nurses | hospital staff | Медсестра | медсестры | персонал больницы
A tourist | tourists | travellers | Турист | туристы | путешественники
A soldier | soldiers | troops | Солдат | солдаты | военные
A fisherman | fishermen | anglers | Рыбак | рыбаки | рыболовы
A gardener | gardeners | plant growers | Садовник | садовники | растениеводы
A courier | couriers | delivery people | Курьер | курьеры | доставщики
"""
_LOOKS = """
in a red jacket | in red jackets | wearing scarlet coats | в красной куртке | в красных куртках | в алой одежде
in a blue cap | in blue caps | with azure hats | в синей кепке | в синих кепках | в голубых шапках
in a yellow raincoat | in yellow raincoats | wearing lemon waterproofs | в жёлтом дождевике | в желтых дождевиках | в лимонных накидках
in a black suit | in black suits | wearing dark formal clothes | в чёрном костюме | в черных костюмах | в тёмной деловой одежде
with a green backpack | with green backpacks | with emerald rucksacks | с зелёным рюкзаком | с зелеными рюкзаками | с изумрудными ранцами
in a white apron | in white aprons | wearing pale pinafores | в белом фартуке | в белых фартуках | в светлых передниках
in an orange vest | in orange vests | wearing bright waistcoats | в оранжевом жилете | в оранжевых жилетах | в ярких безрукавках
in round glasses | with round glasses | wearing spectacles | в круглых очках | с круглыми очками | в оправе с линзами
"""  # noqa: E501
_DEEDS = """
feeds pigeons | feeding a pigeon | giving bread to birds | feeding of pigeons | кормит голубей | кормящие голубя | дают хлеб птицам | кормление голубей
paints a fence | painting fences | putting colour on a barrier | painting of a fence | красит забор | красящие заборы | наносят краску на ограду | покраска забора
repairs a bicycle | repairing bicycles | fixing a bike | repair of a bicycle | чинит велосипед | чинящие велосипеды | ремонтируют байк | починка велосипеда
carries boxes | carrying a box | hauling crates | carrying of boxes | несёт коробки | несущие коробку | тащат ящики | переноска коробок
washes a window | washing windows | cleaning glass | washing of a window | моет окно | моющие окна | чистят стекло | мытьё окна
plays the guitar | playing guitars | making music on strings | guitar playing | играет на гитаре | играющие на гитарах | исполняют музыку на струнах | игра на гитаре
reads a newspaper | reading newspapers | looking through the press | reading of a newspaper | читает газету | читающие газеты | просматривают прессу | чтение газеты
chops vegetables | chopping a vegetable | cutting carrots and cabbage | chopping of vegetables | режет овощи | режущие овощ | шинкуют морковь и капусту | нарезка овощей
plants a tree | planting trees | putting a sapling into the ground | planting of a tree | сажает дерево | сажающие деревья | закапывают саженец | посадка дерева
photographs a bridge | photographing bridges | taking pictures of a river crossing | photography of a bridge | фотографирует мост | фотографирующие мосты | снимают переправу через реку | фотосъёмка моста
sweeps leaves | sweeping a leaf | brushing foliage together | sweeping of leaves | подметает листья | подметающие листву | сгребают опавшую зелень | подметание листьев
climbs a ladder | climbing ladders | going up the rungs | climbing of a ladder | поднимается по лестнице | поднимающиеся по лестницам | лезут вверх по ступеням | подъём по лестнице
walks a dog | walking dogs | strolling with a pet | walking of a dog | выгуливает собаку | выгуливающие собак | гуляют с питомцем | выгул собаки
pushes a pram | pushing prams | rolling a baby carriage | pushing of a pram | толкает коляску | толкающие коляски | катят детскую повозку | толкание коляски
"""  # noqa: E501
_PLACES = """
beside a fountain | beside fountains | next to splashing water | у фонтана | у фонтанов | рядом с бьющей водой
in a park | in parks | among trees and lawns | в парке | в парках | среди деревьев и газонов
at a bus stop | at bus stops | where people wait for the bus | на автобусной остановке | на автобусных остановках | где ждут автобус
in a market | in markets | among stalls | на рынке | на рынках | среди торговых рядов
on a roof | on roofs | on top of a house | на крыше | на крышах | наверху дома
in a kitchen | in kitchens | at the stove | на кухне | на кухнях | у плиты
in front of a school | in front of schools | outside a place of learning | перед школой | перед школами | возле учебного заведения
on a beach | on beaches | on the sand by the sea | на пляже | на пляжах | на песке у моря
in a garage | in garages | in a car workshop | в гараже | в гаражах | в автомастерской
at a railway station | at railway stations | near trains | на вокзале | на вокзалах | около поездов
in a courtyard | in courtyards | between blocks of flats | во дворе | во дворах | между жилыми домами
in a library | in libraries | among bookshelves | в библиотеке | в библиотеках | среди книжных полок
"""  # noqa: E501
_WEATHERS = """
It is raining. | rained on | wet weather | Идёт дождь. | под дождём | мокрая погода
Snow is falling. | falling snow | winter weather | Падает снег. | падающий снег | зимняя погода
The sun shines brightly. | bright sun | clear day | Ярко светит солнце. | при ярком солнце | ясный день
Fog hides the houses. | houses in fog | haze | Туман скрывает дома. | дома в тумане | дымка
It is night, and lamps are lit. | lit lamps at night | darkness | Ночь, и горят фонари. | горящие ночью фонари | темнота
A strong wind bends the branches. | branches in strong winds | storm | Сильный ветер гнёт ветки. | ветки при сильном ветре | буря
"""  # noqa: E501
_BACKGROUNDS = """
A white van is parked behind. | parked white vans | pale minibus standing still | Позади припаркован белый фургон. | припаркованные белые фургоны | светлый микроавтобус на стоянке
A horse lies on the ground nearby. | horses lying on the ground | resting mare | Рядом на земле лежит лошадь. | лежащие на земле лошади | отдыхающая кобыла
A tram passes in the distance. | passing trams | rail vehicle going by | Вдали проезжает трамвай. | проезжающие трамваи | едет рельсовый транспорт
Children play with a ball nearby. | a child playing with balls | football of kids | Рядом дети играют с мячом. | ребёнок, играющий с мячами | детский футбол
A sign reads PHARMACY. | signs of pharmacies | shop for medicine | На вывеске написано «АПТЕКА». | вывески аптек | магазин лекарств
Balloons hang on a wall. | a balloon hanging on walls | festive decoration | На стене висят воздушные шары. | воздушный шар, висящий на стенах | праздничное украшение
A cat watches from a window. | cats watching from windows | kitten behind glass | Из окна смотрит кошка. | кошки, смотрящие из окон | котёнок за стеклом
An excavator digs a hole behind. | excavators digging holes | construction machine at a pit | Позади экскаватор роет яму. | экскаваторы, роющие ямы | строительная техника у котлована
A kiosk sells ice cream. | kiosks selling ice cream | cold dessert for sale | В киоске продают мороженое. | киоски, продающие мороженое | холодный десерт на продажу
Three suitcases stand by a wall. | a suitcase standing by walls | luggage | У стены стоят три чемодана. | чемодан, стоящий у стен | багаж
"""  # noqa: E501

_Row = list[str]
_Table = list[dict[str, _Row]]


def _table(text: str) -> _Table:
    """Return the forms of each line by language."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    return [{"en": row[: len(row) // 2], "ru": row[len(row) // 2 :]} for row in rows]


_TABLES = [_table(text) for text in (_PEOPLE, _LOOKS, _DEEDS, _PLACES, _WEATHERS, _BACKGROUNDS)]
_PERSON, _LOOK, _DEED, _PLACE, _WEATHER, _BACKGROUND = range(6)
_CAPTION, _ENDINGS, _OTHER, _NOUN = range(4)

Scene = tuple[int, ...]
"""The row of each of the six tables."""


@dataclass(frozen=True, slots=True)
class Question:
    """Hold what is named of a scene: indexes of tables; form: _ENDINGS, _OTHER or _NOUN"""

    scene: Scene
    named: tuple[int, ...]
    form: int


def scenes(count: int, rng: random.Random) -> list[Scene]:
    """Return different scenes, in families that share most of the six."""
    found: dict[Scene, None] = {}
    while len(found) < count:
        first = [rng.randrange(len(table)) for table in _TABLES]
        found[tuple(first)] = None
        for _ in range(_FAMILY - 1):
            other = list(first)
            for table in rng.sample(range(len(_TABLES)), rng.choice((1, 2))):
                other[table] = rng.randrange(len(_TABLES[table]))
            found[tuple(other)] = None
    return list(found)[:count]


def questions(found: list[Scene], rng: random.Random) -> Iterator[Question]:
    """Yield a question per scene, where one names no other scene; the forms take turns."""
    for number, scene in enumerate(found):
        more = rng.sample((_LOOK, _PLACE, _WEATHER, _BACKGROUND), 4)
        for size in (2, 3, 4):
            named = (_PERSON, _DEED, *more[:size])
            if sum(all(other[table] == scene[table] for table in named) for other in found) == 1:
                yield Question(scene, named, (_ENDINGS, _OTHER, _NOUN)[number % 3])
                break


def caption(scene: Scene, language: str) -> str:
    person, look, deed, place, weather, background = (
        table[row][language][_CAPTION] for table, row in zip(_TABLES, scene, strict=True)
    )
    return f"{person} {look} {deed} {place}. {weather} {background}"


def query(question: Question, language: str) -> str:
    def words(table: int, form: int) -> str:
        return _TABLES[table][question.scene[table]][language][form]

    if question.form == _NOUN:
        parts = [words(_DEED, _NOUN), *(words(one, _ENDINGS) for one in question.named if one != _DEED)]
    elif question.form == _OTHER:  # two of them in other words: a question of nothing else has no right answer
        parts = [words(one, _OTHER if no < 2 else _ENDINGS) for no, one in enumerate(question.named)]
    else:
        parts = [words(one, _ENDINGS) for one in reversed(question.named)]
    return ", ".join(parts)


def lines(language: str, count: int, seed: int) -> Iterator[dict[str, str]]:
    """Yield the lines of the set. The same count and seed give the same scenes and questions in each language."""
    rng = random.Random(seed)
    found = scenes(count, rng)
    ids = {scene: f"scene-{number:04d}" for number, scene in enumerate(found)}
    for scene, clip_id in ids.items():
        yield {"clip_id": clip_id, "text": caption(scene, language)}
    for question in questions(found, rng):
        yield {"clip_id": ids[question.scene], "query": query(question, language)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--language", choices=LANGUAGES, default="ru")
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="even seeds chose the defaults, odd ones judge them")
    given = parser.parse_args()
    with given.out.open("w", encoding="utf-8") as stream:
        for line in lines(given.language, given.scenes, given.seed):
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
