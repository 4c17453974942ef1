"""The faults: each a day of clips that something happens to, at a moment that a seed chooses.

A scenario gets a Drill and a seeded random.Random, and returns the state that must be there in the end where it is not
the undisturbed one. What it is called, how it is injected and what must come of it is what docs/reliability.md tells.
"""

import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clipdex.errors import LeaseHeld
from clipdex.index import Collection
from clipdex.runs import leases
from tests.support.chaos import BATCH, CLIPS, IN_FLIGHT, WORDS, Drill, held, small_disk
from tests.support.engine import StandIn
from tests.support.killed import LATER, NOBODY, PERSON
from tests.support.pipeline import DAY
from tests.support.verdict import State, without

Scene = Callable[[Drill, random.Random, State], State | None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """kind: the row of the table; how: it is injected; quick: part of `make test`; drill: how the day is set up.

    again: from a day that is searchable already, every clip of which is captioned anew. own_archive: the scene changes
    files of it. served: the index is on a server.
    """

    name: str
    kind: str
    how: str
    play: Scene
    quick: bool = False
    again: bool = False
    own_archive: bool = False
    served: bool = False
    drill: dict[str, Any] = field(default_factory=dict)


SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str, kind: str, how: str, **options: Any) -> Callable[[Scene], Scene]:
    def register(play: Scene) -> Scene:
        SCENARIOS[name] = Scenario(name, kind, how, play, **options)
        return play

    return register


# Kills: (phase, task, moments, from a day that is indexed already)
KILLS = [
    ("discovering", "discover", ["open:manifests/:1", "open:manifests/:2", "open:runs/:1", "open:leases/:1"], False),
    ("preparing", "caption", ["open:tiny-.*mp4:1", "open:tiny-.*mp4:4", "subprocess.Popen:python:2"], False),
    ("writing a caption", "caption", [f"{event}:captions/:{n}" for event in ("open", "os.rename") for n in (1, 2, 5)],
     False),
    ("writing a poster", "caption", ["open:posters/:1", "os.rename:posters/:3"], False),
    ("telling outcomes", "caption", ["open:outcomes/:1", "os.rename:outcomes/:1"], False),
    ("chunking", "index", ["call:clipdex.index.chunking.split$:1", "call:clipdex.index.chunking.split$:4"], False),
    ("embedding", "index", ["call:_SentenceTransformers._encoded:1", "call:BertLayer.forward:3",
                            "return:_SentenceTransformers._encoded:1"], False),
    ("making the collection", "index", ["open:rebuild/:1", "os.rename:\\.new-:1", "open:\\.alias:1"], False),
    ("upserting", "index", ["call:EdgeIndex.upsert:1", "return:EdgeIndex.upsert:1", "return:EdgeIndex._write:1"],
     False),
    ("telling what is indexed", "index", ["open:outcomes/.*\\.tmp-:1", "os.rename:outcomes/:1"], False),
    ("deleting stale points", "index", ["call:EdgeIndex.delete:1", "return:EdgeIndex.delete:1",
                                        "return:EdgeIndex.upsert:1"], True),
    ("reporting", "report", ["open:reports/:1", "os.rename:ledger/:1", "os.rename:all.jsonl:1", "os.remove::1",
                             "os.remove::3", "open:leases/:2"], False),
]  # fmt: skip


def _killed(phase: str, task: str, moments: list[str], number: signal.Signals) -> Scene:
    def play(drill: Drill, chance: random.Random, state: State) -> None:
        if task != "discover":
            drill.until(task)
        for moment in chance.sample(moments, k=1):
            drill.die(task, at=moment, of=number)

    return play


for _phase, _task, _moments, _again in KILLS:
    for _number in (signal.SIGKILL, signal.SIGTERM):
        scenario(
            f"{_number.name} {_phase}",
            f"{_number.name} of a task: {_phase}",
            f"a hook in the {_task} task sends it the signal at a moment that the seed chooses of {len(_moments)}",
            quick=_number is signal.SIGKILL
            and _phase in ("chunking", "embedding", "upserting", "deleting stale points"),
            again=_again,
        )(_killed(_phase, _task, _moments, _number))


def _in_flight(number: signal.Signals) -> Scene:
    def play(drill: Drill, chance: random.Random, state: State) -> None:
        drill.until("caption")
        (engine,) = drill.engines
        engine.latency_s = 0.3
        for _ in range(chance.choice([1, 2])):
            least, running = drill.stored() + chance.randrange(3), chance.randint(1, IN_FLIGHT)
            task = drill.start("caption")
            drill.kill(task, lambda: drill.stored() >= least and drill.in_flight() >= running, number)  # noqa: B023
        engine.latency_s = 0.0

    return play


for _number in (signal.SIGKILL, signal.SIGTERM):
    scenario(
        f"{_number.name} in flight",
        f"{_number.name} of a task: requests in flight",
        "from outside, once or twice, when the seed's number of requests run and of captions are stored",
        quick=True,
    )(_in_flight(_number))


# Engines: trouble that passes.
PASSING = {
    "503": ("503:0.4", "the engine answers 503 to four of ten requests"),
    "500": ("500:0.4", "500 to four of ten"),
    "429": ("429:3:retry_after=1", "429 with Retry-After: 1, three times"),
    "reset in the middle of a body": ("cut:5", "the connection ends half-way through five answers"),
    "reset": ("reset:5", "the connection is reset instead of five answers"),
    "hung": ("hang:2", "two requests are never answered"),
    "slow body": ("drip:2:seconds=0.05", "two answers come a byte at a time"),
    "200 with HTML": ("html:0.4", "a page instead of JSON, four of ten times"),
    "truncated JSON": ("truncated_json:0.4", "half of the JSON, four of ten times"),
    "not JSON at all": ("garbage:4", "256 bytes of anything, four times"),
    "empty choices": ("empty_choices:0.4", "no choice in the answer, four of ten times"),
    "no finish reason": ("no_finish:4", "a choice that has not finished, four times"),
    "aborted": ("abort:4", "finish_reason abort, four times"),
    "a gateway that lost its nodes": ("404:3:code=model_not_found", "404 model_not_found, three times"),
    "unconfirmed refusals": ("400:1", "one 400 that a second try does not confirm"),
}


def _passing(faults: str) -> Scene:
    def play(drill: Drill, chance: random.Random, state: State) -> None:
        for engine in drill.engines:
            engine.plan.set(faults)
        drill.finish()
        drill.injected(sum(bool(request.fault) for request in drill.chats()))

    return play


for _name, (_faults, _how) in PASSING.items():
    scenario(f"engine: {_name}", f"engine: {_name}", _how, quick=_name in ("503", "truncated JSON"))(_passing(_faults))

# Engines: a node that is bad for good, among good ones.
BAD_NODE = {
    "400 to every clip": "400:1.0",
    "422 to every clip": "422:1.0",
    "500 to every clip": "500:1.0",
    "hangs for ever": "hang:1.0",
    "HTML for ever": "html:1.0",
    "404 model_not_found for ever": "404:1.0:code=model_not_found",
}


def _bad_node(faults: str) -> Scene:
    def play(drill: Drill, chance: random.Random, state: State) -> None:
        chance.choice(drill.engines).plan.set(faults)
        drill.finish()
        drill.injected(sum(bool(request.fault) for request in drill.chats()))

    return play


for _name, _faults in BAD_NODE.items():
    scenario(
        f"bad node: {_name}", f"one node of three: {_name}", f"the stand-in is set to {_faults}", drill={"fleet": 3},
        quick=_name == "400 to every clip",
    )(_bad_node(_faults))  # fmt: skip


# Engines: what a person has to repair. No clip may get an outcome for it.
WRONG = {
    "404 for the model": "404:1.0",
    "401": "401:1.0",
    "wrong model in the answer": "wrong_model:1.0",
    "400 to every clip, and no other node": "400:1.0",
    "a redirect": "redirect:1.0",
}


def _wrong(faults: str) -> Scene:
    def play(drill: Drill, chance: random.Random, state: State) -> None:
        (engine,) = drill.engines
        drill.until("caption")
        engine.plan.set(faults)
        drill.repair = lambda: engine.plan.set("")
        drill.finish()
        drill.injected(sum(bool(request.fault) for request in drill.chats()))

    return play


for _name, _faults in WRONG.items():
    scenario(
        f"engine: {_name}", f"engine: {_name}",
        f"the stand-in is set to {_faults}, until a person repairs it and clears",
    )(_wrong(_faults))  # fmt: skip


@scenario("few clips: 400 to every clip", "engine: 400 to every clip, and few clips in a batch",
          "the stand-in is set to 400:1.0, and batches are small; until a person repairs it and clears",
          drill={"batches": {"size": 4}})  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    (engine,) = drill.engines
    engine.plan.set("400:1.0")
    drill.repair = lambda: engine.plan.set("")
    drill.finish()
    drill.injected(sum(bool(request.fault) for request in drill.chats()))


@scenario("engine: connection refused", "engine: connection refused",
          "the only node stops in the middle of a try, and comes back on its port before the next")  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    drill.until("caption")
    (engine,) = drill.engines
    engine.latency_s = 0.2
    least = chance.randrange(1, 4)
    task = drill.start("caption")
    drill.wait(task, lambda: drill.stored() >= least)
    drill.stop(engine)
    drill.injected()
    drill.end(task)
    drill.serve(StandIn(words=WORDS, port=engine.port))


# Captions that are none: one clip gets them for ever (quarantine, with the reason), all others once (asked again).
CAPTIONS = {
    "huge": "caption_too_long", "loop": "caption_looping", "echo": "caption_refused",
    "refusal": "caption_refused", "empty": "caption_empty", "short": "caption_too_short", "long": "caption_truncated",
    "cyrillic": "caption_language",
}  # fmt: skip
SAID = {"huge": "a caption of 100,000 characters", "loop": "a loop", "echo": "the prompt as an echo",
        "refusal": "a refusal", "empty": "an empty caption", "short": "two words",
        "long": "cut off by max_tokens", "cyrillic": "another language"}  # fmt: skip


def _bad_caption(name: str, reason: str) -> Scene:
    def play(drill: Drill, chance: random.Random, state: State) -> State:
        clip = f"tiny-{chance.choice([n for n in range(CLIPS) if n != 3]):06d}.mp4"
        (engine,) = drill.engines
        engine.plan.set(f"{name}:digest={drill.digest_of(clip)[:16]},{name}")
        drill.finish()
        drill.injected(sum(bool(request.fault) for request in drill.chats()))
        return without(state, [clip], reason)

    return play


for _name, _reason in CAPTIONS.items():
    scenario(
        f"caption: {_name}", f"engine: {SAID[_name]}",
        f"for one clip always (ends as {_reason}), for another once", quick=_name == "loop",
    )(_bad_caption(_name, _reason))  # fmt: skip


@scenario("caption: nul", "engine: NUL and lone surrogates in a caption", "six captions have them", quick=True)
def _(drill: Drill, chance: random.Random, state: State) -> None:
    drill.engines[0].plan.set("nul:6")
    drill.finish()
    drill.injected(6)


# The clips themselves.
@scenario("clip replaced", "a clip replaced between discovery and captioning", "its file is another clip's by then",
          own_archive=True, quick=True)  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> State:
    drill.until("caption")
    old, new = (next(drill.archive.rglob(f"tiny-{n:06d}.mp4")) for n in chance.sample(range(4, CLIPS), 2))
    old.write_bytes(new.read_bytes())
    drill.injected()
    drill.finish()
    return _as_copy(state, old.name, new.name, drill)


@scenario("clip deleted", "a clip deleted between discovery and captioning", "its file goes", own_archive=True)
def _(drill: Drill, chance: random.Random, state: State) -> State:
    drill.until("caption")
    gone = next(drill.archive.rglob(f"tiny-{chance.randrange(4, CLIPS):06d}.mp4"))
    gone.unlink()
    drill.injected()
    return without(state, [gone.name], "missing")


@scenario("source: away", "the archive's mount goes away while a batch is captioned",
          "it leaves no folder, an empty one, or one with other files, as the seed chooses; back at the third try",
          own_archive=True, quick=True,
          drill={"engine": {"in_flight": 1}, "batches": {"size": BATCH, "preparing": 1}})  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    drill.until("caption")
    engine, kept = drill.engines[0], drill.home / "kept"
    engine.latency_s = 0.3
    task = drill.start("caption")
    drill.wait(task, lambda: drill.stored() >= 1)  # most of the batch is not read yet
    drill.archive.rename(kept)
    left = chance.choice(["gone", "empty", "covered"])
    if left != "gone":
        drill.archive.mkdir()
    if left == "covered":
        (drill.archive / "NOT-MOUNTED.txt").touch()
    drill.injected()
    if (code := drill.end(task)) != LATER:
        drill.verdict_so_far.lost.append(f"caption ended with {code} while the archive was away ({left})")
    engine.latency_s = 0.0
    drill.must("caption", ends=LATER)
    if left != "gone":
        shutil.rmtree(drill.archive)
    kept.rename(drill.archive)


@scenario("source: litter", "litter beside the clips, more than there are clips",
          "attributes of a Mac, pages, zeros, thumbnails, with names of clips", own_archive=True)  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> State:
    folder = next(drill.archive.rglob("tiny-000000.mp4")).parent
    kinds = [b"\0\5\x16\7" + bytes(4092), b"<html>404</html>", bytes(9000), b"\xff\xd8\xff\xe0" + bytes(99)]
    names = [f"not-a-film-{number:02d}.mov" for number in range(2 * CLIPS)]
    for name in names:
        (folder / name).write_bytes(chance.choice(kinds))
    drill.injected(len(names))
    return without(state, names, "not_a_video")


def _as_copy(state: State, name: str, of: str, drill: Drill) -> State:
    """The state in which one clip has another's content. Point ids follow from clip and caption."""
    from clipdex.index import point_id

    rest = without(state, [name], "replaced")
    (clip_id,) = {point["clip_id"] for point in state.points.values() if point["uri"].endswith(f"/{name}")}
    (uri,) = {point["uri"] for point in state.points.values() if point["uri"].endswith(f"/{name}")}
    copied = {
        point_id(clip_id, point["caption_key"], point["chunk_no"]): {**point, "clip_id": clip_id, "uri": uri}
        for point in state.points.values()
        if point["uri"].endswith(f"/{of}")
    }
    quarantine = {one: reason for one, reason in rest.quarantine.items() if one != name}
    return State(rest.points | copied, rest.captions, quarantine, state.indexed)


# The index inside the process.
@scenario("edge: locked", "Qdrant Edge: its lock is held by another process",
          "another process holds the lock file for longer than the first try waits", quick=True,
          drill={"index": {"lock_wait_s": 0.3}})  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    drill.until("index")
    with held(drill.pipeline.settings.edge_path / "lock"):
        drill.must("index", chance.randrange(drill.batches), ends=LATER)
    drill.injected()


# The index on a server, which is a stand-in before qdrant-client's own local mode.
SERVED = {
    "refuses": ([(".* /collections/.*", "refuse", 3)], "503 to the first three requests"),
    "asks to come back": ([("PUT /collections/[^/]+/points$", "busy", 2)], "429 with Retry-After to two writes"),
    "slow": ([(".*", "slow", 12)], "0.3 s before each of twelve answers"),
    "hangs": ([("PUT /collections/[^/]+/points$", "hang", 1)], "a write is never answered (timeout 1 s)"),
    "resets": ([("PUT /collections/[^/]+/points$", "reset", 1)], "a connection is reset before the write is applied"),
    "times out after the write was applied": (
        [("PUT /collections/[^/]+/points$", "applied", 2)], "points are written, no answer comes; twice"),
    "times out after the collection was made": (
        [("PUT /collections/[^/]+$", "applied", 1)], "the collection is made, no answer comes"),
    "times out after the alias was set": (
        [("POST /collections/aliases$", "applied", 1)], "the alias is set, no answer comes"),
    "times out after points were deleted": (
        [("POST /collections/[^/]+/points/delete$", "applied", 1)], "stale points are deleted, no answer comes"),
    "denies the key": ([(".* /collections/.*", "deny", 1)], "403, until a person repairs it and clears"),
}  # fmt: skip


def _served(trouble: list[tuple[str, str, int]]) -> Scene:
    def play(drill: Drill, chance: random.Random, state: State) -> None:
        server = drill.qdrant
        if "delete" in trouble[0][0]:
            for engine in drill.engines:
                engine.words = 700
            drill.until("")
            for engine in drill.engines:
                engine.words = 400
                engine.requests.clear()
            drill.recaption, drill.plans = True, 0
        drill.until("index")
        server.trouble = list(trouble)
        drill.finish()
        drill.injected(len(server.told))

    return play


for _name, (_trouble, _how) in SERVED.items():
    scenario(f"server: {_name}", f"Qdrant server: {_name}", _how, served=True,
             quick=_name == "times out after the write was applied")(_served(_trouble))  # fmt: skip


@scenario(
    "server: down", "Qdrant server: down", "its port is closed for a try, and open again for the next", served=True
)
def _(drill: Drill, chance: random.Random, state: State) -> None:
    drill.until("index")
    drill.qdrant.down()
    drill.must("index", ends=LATER)
    drill.injected()
    drill.qdrant.up()


@scenario("server: another dimension", "Qdrant server: a collection of another dimension",
          "a collection of 8 dimensions exists under the name; a person removes it and clears",
          served=True)  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    from qdrant_client import models

    from clipdex.index.embeddings import open_embedder
    from clipdex.index.points import DENSE

    settings, client = drill.pipeline.settings, drill.qdrant.client
    name = Collection.name_for(settings, open_embedder(settings.embedding))
    client.create_collection(name, {DENSE: models.VectorParams(size=8, distance=models.Distance.COSINE)})
    drill.until("index")
    drill.must("index", ends=PERSON)
    drill.injected()
    client.delete_collection(name)


# The store.
@scenario("store: disk full", "store: the disk is full",
          "the store lies on a tmpfs of some KiB, which a person makes larger")  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    drill.until("caption")
    with small_disk(drill.pipeline.settings.state / "store", chance.choice([24, 32, 48])) as grow:
        drill.must("caption", ends=1)
        drill.injected()
        grow()
        drill.finish()


@scenario("index: disk full", "Qdrant Edge: the disk is full",
          "the index lies on a tmpfs of 1 to 40 MiB, which a person makes larger")  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    drill.until("index")
    with small_disk(drill.pipeline.settings.edge_path, 1024 * chance.choice([1, 8, 24, 40])) as grow:
        drill.must("index")
        drill.injected()
        grow()
        drill.finish()


@scenario("store: permission denied", "store: permission denied", "a try runs as a user who may not write there")
def _(drill: Drill, chance: random.Random, state: State) -> None:
    phase = chance.choice(["caption", "index", "report"])
    drill.until(phase)
    drill.must(phase, uid=NOBODY)
    drill.injected()


def _torn(drill: Drill, chance: random.Random, prefix: str, least: int = 0) -> None:
    """Cut one object of the store somewhere."""
    store = drill.pipeline.store
    path = drill.pipeline.settings.state / "store" / chance.choice(store.list(prefix))
    whole = path.read_bytes()
    path.write_bytes(whole[: chance.randrange(least, len(whole) - 1)])
    drill.injected()


TORN = {
    "caption": ("captions", "index", "its clip is captioned again"),
    "outcomes": ("outcomes", "caption again", "the next try repeats the lost work"),
    "manifest": ("manifests", "caption", "the task reports it, and discover makes it again"),
    "plan": ("runs", "caption", "the task reports it, and discover makes it again"),
    "lease": ("leases", "report", "the day is given back all the same"),
    "ledger": ("ledger", "", "the next run of the day does what it does not know of"),
    "report": ("reports", "", "the next run writes its own"),
}


def _partial(prefix: str, before: str) -> Scene:
    def play(drill: Drill, chance: random.Random, state: State) -> None:
        again = before.endswith(" again")
        drill.until("index" if again else before)
        _torn(drill, chance, prefix)
        if prefix == "captions":
            drill.asked_again = True
        if again:
            drill.task("caption", 0)
        if prefix in ("manifests", "runs"):
            if all(drill.task("caption", batch) == 0 for batch in range(2)):
                drill.verdict_so_far.lost.append("no task noticed that what it has to do is torn")
            drill.task("discover")
        if not before:
            drill.task("discover")

    return play


for _name, (_prefix, _before, _how) in TORN.items():
    scenario(f"torn: {_name}", f"store: a torn {_name}", f"an object is cut at a place that the seed chooses; {_how}",
             quick=_name in ("outcomes", "manifest"))(_partial(_prefix, _before))  # fmt: skip


# Clocks.
@scenario("clock: ahead, then back", "the clock jumps", "a worker's clock is hours ahead while it captions or indexes, "
          "and right again afterwards")  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    phase = chance.choice(["caption", "index"])
    drill.until(phase)
    for batch in range(drill.batches):
        assert drill.task(phase, batch, clock_s=chance.choice([3, -3]) * 3600) == 0
        drill.injected()


@scenario("clock: behind in a second run", "the clock jumps back between two runs of a day",
          "a clip goes to quarantine; in the next run, on a clock an hour behind, it is retried and captioned",
          quick=True)  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    clip = f"tiny-{chance.choice([n for n in range(CLIPS) if n != 3]):06d}.mp4"
    (engine,) = drill.engines
    engine.plan.set(f"loop:digest={drill.digest_of(clip)[:16]}")
    drill.until("")
    engine.plan.set("")
    drill.wishes = (("retry_quarantined", ("caption_looping",)),)
    for phase in ("discover", "caption", "index", "report"):
        assert drill.task(phase, clock_s=-3600.0) == 0
    drill.injected()


# Two at once.
@scenario("two runs of a day", "two runs of the same day at once", "both start together; who is second waits for the "
          "lease, as Airflow's retries do", quick=True)  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    both = [drill.start("discover"), drill.start("discover", run="s.1")]
    codes = [drill.end(task) for task in both]
    if sorted(codes) != [0, LATER]:
        drill.verdict_so_far.lost.append(f"two runs of a day took it with {codes}")
    drill.injected()
    second = "s.2"
    if codes[1] == 0:
        drill.name, second = "s", "r.2"
    drill.finish()
    assert drill.task("discover", run=second) == 0
    if drill.plan_of(second).to_do:
        drill.verdict_so_far.lost.append("the second run found work that the first had done")


@scenario("a lease runs out", "a day is taken over from a run that is still at work",
          "a captioning or indexing task is stopped (SIGSTOP) for longer than its lease; another run takes the day and "
          "does all of it; the task goes on, and must end before it requests or indexes anything", quick=True,
          drill={"batches": {"size": BATCH, "lease_s": 1.5}})  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    phase = chance.choice(["caption", "index"])
    drill.until(phase)
    drill.engines[0].latency_s = 0.5
    late = drill.start(phase)
    if phase == "caption":
        least = chance.randrange(3)
        drill.wait(late, lambda: drill.stored() >= least and drill.in_flight() >= 1)
    else:
        drill.wait(late, lambda: len(drill.pipeline.store.list("rebuild")) > 0)
    late.stop()
    drill.injected()
    drill.engines[0].latency_s = 0.0
    while (code := drill.task("discover", run="s.1")) == LATER:
        pass
    assert code == 0
    for batch in range(len(drill.plan_of("s.1").batches)):
        assert drill.task("caption", batch, run="s.1") == 0
        assert drill.task("index", batch, run="s.1") == 0
    requests = len(drill.chats())
    late.go_on()
    if (code := drill.end(late)) != LATER:
        drill.verdict_so_far.lost.append(f"the task that was late ended with {code}")
    if len(drill.chats()) > requests:
        drill.verdict_so_far.lost.append("the task that was late sent a request")
    assert drill.task("report", run="s.1") == 0


@scenario("backfill beside the nightly run", "a backfill beside the nightly run",
          "another run holds the day: the nightly run waits, and goes on when it is given back")  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    leases.acquire(drill.pipeline.store, DAY, "backfill.1", 600)
    drill.must("discover", ends=LATER)
    drill.injected()
    try:
        leases.acquire(drill.pipeline.store, DAY, "third.1", 600)
        drill.verdict_so_far.lost.append("a third run took the day")
    except LeaseHeld:
        leases.release(drill.pipeline.store, DAY, "backfill.1")


# All of it.
@scenario("storm", "everything together", "a fleet of three with four kinds of trouble each, and kills in every task",
          drill={"fleet": 3})  # fmt: skip
def _(drill: Drill, chance: random.Random, state: State) -> None:
    for engine in drill.engines:
        kinds = chance.sample(["503:0.1", "500:0.1", "html:0.1", "cut:0.1", "hang:1", "truncated_json:0.1", "reset:0.1",
                               "empty_choices:0.1", "429:1:retry_after=0.5", "nul:0.2"], 4)  # fmt: skip
        engine.plan.set(",".join(kinds))
    for _, task, moments, again in chance.sample(KILLS, len(KILLS)):
        if not again and chance.random() < 0.6:
            kill = chance.choice(moments), chance.choice([signal.SIGKILL, signal.SIGTERM])
            drill.storms.setdefault(task, []).append(kill)
    drill.finish()
    drill.injected(sum(bool(request.fault) for request in drill.chats()))
