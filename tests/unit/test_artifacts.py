"""The artifact store on a folder and on S3: atomic writes, listings, and corrupt objects."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem

from clipdex.config import Settings
from clipdex.storage.artifacts import Store, caption_path, run_name
from clipdex.storage.caption import Caption, Segment


class FirstObjectAppears(S3FileSystem):
    """S3, where something is written just after a folder was listed as empty."""

    cachable = False
    first: str

    async def _info(self, *args: Any, **options: Any) -> Any:
        await self._pipe_file(self.first, b"{}")
        return await super()._info(*args, **options)


@pytest.fixture
def store(root) -> Store:
    return Store.open(Settings.load(store=root))


def a_caption(key: str = "ab12") -> Caption:
    return Caption(
        key=key, content="c0", text="A red car. 紅い車", segments=(Segment(0.0, 2.5, "A red car."),), fingerprint="f",
        engine="sglang", model="m", prompt_tokens=3, completion_tokens=5, seconds=1.5, attempts=1, finish_reason="stop",
        created_at="2026-11-03T00:00:00+00:00", run="r", duration_s=2.5, width=64, height=48,
    )  # fmt: skip


def test_written_objects_are_read_and_listed(store):
    store.write("a/b/one.bin", b"1")
    store.write("a/two.bin", b"2")
    store.write("a/two.bin", b"22")
    assert store.read("a/two.bin") == b"22"
    assert store.list("a") == ["a/b/one.bin", "a/two.bin"]
    assert store.exists("a/two.bin") and not store.exists("a/three.bin")


def test_an_empty_store_lists_nothing_and_reads_nothing(store):
    assert store.list("outcomes/day=2026-11-03") == []
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    assert store.caption("ab12") is None


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_a_folder_whose_first_object_appears_while_it_is_listed_is_no_object(store, root):
    fs = FirstObjectAppears(key="test", secret="test", use_listings_cache=False, **root["options"])
    inside = root["url"].removeprefix("s3://")
    fs.first = f"{inside}/leases/day=2026-11-03/00000001.json"
    assert Store(fs, inside).list("leases/day=2026-11-03") == []
    assert store.list("leases/day=2026-11-03") == ["leases/day=2026-11-03/00000001.json"]


def test_deleting_a_missing_object_is_no_error(store):
    store.write("a/one", b"1")
    store.delete(["a/one", "a/one", "a/never"])
    assert store.list("a") == []


def test_only_one_of_concurrent_writers_creates_a_key(store):
    winners = []

    def create(name: str) -> None:
        if store.create("leases/one", name.encode()):
            winners.append(name)

    threads = [threading.Thread(target=create, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert store.read("leases/one").decode() == winners[0]


def test_a_stored_caption_is_read_back_unchanged(store):
    store.write_caption(a_caption())
    assert store.caption("ab12") == a_caption()


@pytest.mark.parametrize("corrupt", [b"", b'{"key": "ab12", "cont', b"[]", b'{"key": "ab12"}', b"\xff\xfe"])
def test_a_corrupt_caption_counts_as_missing_and_is_logged(store, corrupt, caplog):
    store.write(caption_path("ab12"), corrupt)
    assert store.caption("ab12") is None
    assert "captions/ab/ab12.json" in caplog.text


def test_a_truncated_line_is_skipped_and_logged(store, caplog):
    store.write("lines.jsonl", json.dumps({"n": 1}).encode() + b'\n{"n": 2\n{"n": 3}\n')
    assert [line["n"] for line in store.read_lines("lines.jsonl")] == [1, 3]
    assert "lines.jsonl line 2" in caplog.text


def test_a_failed_write_keeps_the_old_object_and_leaves_no_temporary_file(tmp_path):
    store = Store.open(Settings.load(store={"url": str(tmp_path)}))
    store.write("a/one", b"old")
    with pytest.raises(TypeError):
        store.write("a/one", "not bytes")  # type: ignore[arg-type]
    assert store.read("a/one") == b"old"
    assert [path.name for path in Path(tmp_path, "a").iterdir()] == ["one"]


def test_a_run_id_becomes_a_plain_key():
    assert run_name("backfill__2026-11-05T00:00:00+00:00") == "backfill__2026-11-05T00-00-00-00-00"
