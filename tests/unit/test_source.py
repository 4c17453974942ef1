"""Test which clips belong to a day, and their identity: in a folder and on S3."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from clipdex.config import Settings
from clipdex.errors import ClipRejected, ConfigurationError, Reason, Unavailable
from clipdex.storage.filesystem import open_root
from clipdex.storage.source import Source
from tests.support.odd import GOOD


class Breaking(MemoryFileSystem):
    """An object store whose connections end half-way through each file."""

    protocol = "breaking"
    error: type[BaseException] = ConnectionResetError

    def get_file(self, rpath: str, lpath: str, *args, **options) -> None:
        Path(lpath).write_bytes(self.cat_file(rpath)[: self.size(rpath) // 2])
        raise self.error("half-way")


fsspec.register_implementation("breaking", Breaking, clobber=True)


def put(root: dict, path: str, data: bytes = b"clip") -> None:
    fs, top = open_root(root["url"], root.get("options"), *(_secret(root, name) for name in ("key", "secret")))
    full = f"{top}/{path}"
    if "://" not in root["url"]:
        Path(full).parent.mkdir(parents=True, exist_ok=True)
    fs.pipe_file(full, data)


def _secret(root: dict, name: str):
    from pydantic import SecretStr

    return SecretStr(root[name]) if name in root else None


def source(root: dict, **more) -> Source:
    return Source(Settings.load(source={**root, **more}))


def paths(clips) -> list[str]:
    return sorted(clip.path for clip in clips)


def test_a_day_has_the_clips_below_its_folder(root):
    put(root, "2026/11/03/a.mp4")
    put(root, "2026/11/03/cam/b.MOV")
    put(root, "2026/11/03/notes.txt")
    put(root, "2026/11/04/c.mp4")
    assert paths(source(root).day("2026-11-03")) == ["2026/11/03/a.mp4", "2026/11/03/cam/b.MOV"]


def test_every_kind_of_file_that_can_be_decoded_is_a_clip(root):
    files = {f"a{Path(file).suffix}" for file, _ in GOOD.values()}
    for file in [*files, "a.txt", "a.jpg", "mp4"]:
        put(root, f"2026/11/03/{file}")
    assert {Path(path).name for path in paths(source(root).day("2026-11-03"))} == files


def test_a_day_without_a_folder_has_no_clips(root):
    put(root, "2026/11/03/a.mp4")
    assert list(source(root).day("2026-11-09")) == []


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("{year}-{month}-{day}", "2026-11-03/a.mp4"),
        ("*/{year}/{month}/{day}", "cam-1/2026/11/03/a.mp4"),
        ("**/{year}/{month}/{day}", "site/cam-1/2026/11/03/a.mp4"),
        ("dt={year}-{month}-{day}", "dt=2026-11-03/deep/a.mp4"),
        ("{year}{month}{day}", "20261103/a.mp4"),
    ],
)
def test_the_day_is_read_from_the_pattern(root, pattern, path):
    put(root, path)
    put(root, path.replace("03", "04"))
    assert paths(source(root, day_pattern=pattern).day("2026-11-03")) == [path]


def test_without_a_pattern_the_day_is_that_of_the_file(root):
    put(root, "a.mp4")
    (clip,) = source(root, day_pattern="").prefix("")
    assert paths(source(root, day_pattern="").day(clip.day)) == ["a.mp4"]
    assert list(source(root, day_pattern="").day("2001-01-01")) == []


def test_a_pattern_without_a_day_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="lacks day"):
        source({"url": "/nowhere"}, day_pattern="{year}/{month}")


def test_a_prefix_selects_the_clips_below_it(root):
    put(root, "2026/11/03/cam-1/a.mp4")
    put(root, "2026/11/03/cam-2/b.mp4")
    (clip,) = source(root).prefix("2026/11/03/cam-1/")
    assert clip.day == "2026-11-03"


@pytest.mark.parametrize("prefix", ["../other", "/etc"])
def test_a_prefix_cannot_leave_the_source(root, prefix):
    with pytest.raises(ConfigurationError, match="below"):
        list(source(root).prefix(prefix))


def test_a_clip_keeps_its_identity_when_the_mount_moves(tmp_path):
    for name in ("here", "there"):
        put({"url": str(tmp_path / name)}, "2026/11/03/a.mp4")
    (here,), (there,) = (source({"url": str(tmp_path / name)}).day("2026-11-03") for name in ("here", "there"))
    assert here.clip_id == there.clip_id and here.uri != there.uri


def test_another_source_has_other_clips(root):
    put(root, "2026/11/03/a.mp4")
    (one,), (other,) = (source(root, name=name).day("2026-11-03") for name in ("one", "other"))
    assert one.clip_id != other.clip_id


def test_a_replaced_file_has_another_version(root):
    put(root, "2026/11/03/a.mp4", b"first")
    (before,) = source(root).day("2026-11-03")
    put(root, "2026/11/03/a.mp4", b"second")
    (after,) = source(root).day("2026-11-03")
    assert before.clip_id == after.clip_id and before.version != after.version
    assert source(root).version_now(before) == after.version


def test_fetching_gives_the_bytes_and_their_digest(root, tmp_path):
    put(root, "2026/11/03/a.mp4", b"bytes of a clip")
    opened = source(root)
    (clip,) = opened.day("2026-11-03")
    fetched = opened.fetch(clip, tmp_path, 100)
    assert fetched.path.read_bytes() == b"bytes of a clip"
    assert fetched.content == hashlib.sha256(b"bytes of a clip").hexdigest()
    fetched.discard()
    assert opened.version_now(clip) == clip.version, "discarding must not touch the source"


def test_a_clip_that_has_gone_is_rejected_as_missing(root, tmp_path):
    put(root, "2026/11/03/a.mp4")
    opened = source(root)
    (clip,) = opened.day("2026-11-03")
    UPath(
        clip.uri, **(root.get("options") or {}), **({"key": "test", "secret": "test"} if "key" in root else {})
    ).unlink()
    with pytest.raises(ClipRejected) as refused:
        opened.fetch(clip, tmp_path, 100)
    assert refused.value.reason is Reason.MISSING
    assert opened.version_now(clip) is None


def test_a_file_over_the_limit_is_rejected_without_reading_it(root, tmp_path):
    put(root, "2026/11/03/a.mp4", b"x" * 101)
    opened = source(root)
    (clip,) = opened.day("2026-11-03")
    with pytest.raises(ClipRejected, match="101 bytes, at most 100") as refused:
        opened.fetch(clip, tmp_path, 100)
    assert refused.value.reason is Reason.TOO_LARGE
    assert list(tmp_path.glob("*.mp4")) == []


@pytest.mark.parametrize("error", [ConnectionResetError, PermissionError, FileNotFoundError, KeyboardInterrupt])
def test_a_download_that_breaks_leaves_nothing_on_disk(tmp_path, monkeypatch, error):
    monkeypatch.setattr(Breaking, "error", error)
    root = {"url": "breaking:///archive"}
    for number in range(20):
        put(root, f"2026/11/03/{number}.mp4", bytes(1000))
    opened = source(root)
    clips = list(opened.day("2026-11-03"))
    assert len(clips) == 20
    for clip in clips:
        with pytest.raises((Unavailable, ClipRejected, KeyboardInterrupt)):
            opened.fetch(clip, tmp_path, 5000)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_a_download_needs_room_on_the_disk(root, tmp_path, monkeypatch):
    put(root, "2026/11/03/a.mp4", bytes(1000))
    opened = source(root)
    (clip,) = opened.day("2026-11-03")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=999))
    with pytest.raises(Unavailable, match=r"1000 bytes, 999 are free in .*: set TMPDIR to a larger disk"):
        opened.fetch(clip, tmp_path, 5000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_a_file_that_grew_over_the_limit_is_rejected_and_leaves_nothing_on_disk(root, tmp_path):
    put(root, "2026/11/03/a.mp4")
    opened = source(root)
    (clip,) = opened.day("2026-11-03")
    put(root, "2026/11/03/a.mp4", bytes(300_000))
    with pytest.raises(ClipRejected) as refused:
        opened.fetch(clip, tmp_path, 1000)
    assert refused.value.reason is Reason.TOO_LARGE
    assert list(tmp_path.iterdir()) == []


def test_links_are_followed_only_inside_the_source(tmp_path, caplog):
    put({"url": str(tmp_path / "in")}, "2026/11/03/a.mp4")
    put({"url": str(tmp_path / "out")}, "secret.mp4")
    day = tmp_path / "in/2026/11/03"
    (day / "inside.mp4").symlink_to(day / "a.mp4")
    (day / "outside.mp4").symlink_to(tmp_path / "out/secret.mp4")
    (day / "elsewhere").symlink_to(tmp_path / "out")
    (day / "dangling.mp4").symlink_to(day / "nothing.mp4")
    found = paths(source({"url": str(tmp_path / "in")}).day("2026-11-03"))
    assert [Path(path).name for path in found] == ["a.mp4", "inside.mp4"]
    assert "outside.mp4: a link that leaves" in caplog.text


def test_clips_with_unusual_names_are_found(tmp_path):
    names = ["with space.mp4", "-dash.mp4", "quote'\".mp4", "ünï 名.mp4", "new\nline.mp4", os.fsdecode(b"bad\xff.mp4")]
    for name in names:
        put({"url": str(tmp_path)}, f"2026/11/03/{name}")
    clips = list(source({"url": str(tmp_path)}).day("2026-11-03"))
    assert sorted(Path(clip.path).name for clip in clips) == sorted(names)
    assert len({clip.clip_id for clip in clips}) == len(names)


def test_an_unreadable_folder_is_reported_instead_of_skipped():
    program = """
import os, sys
from clipdex.storage.source import Source
from clipdex.config import Settings
source = Source(Settings.load(source={"url": sys.argv[1]}))
if os.geteuid() == 0:
    os.setuid(65534)  # root may read everything
print([clip.path for clip in source.day("2026-11-03")])
"""
    with tempfile.TemporaryDirectory() as archive:  # not below tmp_path, which is closed to others
        Path(archive).chmod(0o755)
        for camera in ("cam-a", "cam-b"):
            put({"url": archive}, f"2026/11/03/{camera}/a.mp4")
        Path(archive, "2026/11/03/cam-b").chmod(0)
        done = subprocess.run([sys.executable, "-c", program, archive], capture_output=True, text=True)
        Path(archive, "2026/11/03/cam-b").chmod(0o755)
    assert "ConfigurationError" in done.stderr and "cam-b" in done.stderr
