"""A disk, mount or bucket that goes away: its clips are not missing, and a file that cannot be read costs little."""

import errno
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import boto3
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from clipdex.config import Settings
from clipdex.errors import ClipRejected, Reason, SourceUnavailable, Unavailable
from clipdex.runs.outcomes import Outcome
from clipdex.runs.report import check_report
from clipdex.storage.clip import Clip
from clipdex.storage.filesystem import open_root
from clipdex.storage.source import Source
from tests.support.pipeline import DAY, Pipeline

FOLDER = DAY.replace("-", "/")


class Failing(MemoryFileSystem):
    """Files in memory.

    errors: by a part of a path; such files cannot be read or listed
    hollow: no file has bytes
    ready: an error is raised only when this is true
    """

    protocol = "failing"
    errors: ClassVar[dict[str, OSError]] = {}
    hollow: ClassVar[bool] = False
    ready: ClassVar[Callable[[], bool]] = staticmethod(lambda: True)

    def _check(self, path: str) -> None:
        for part, error in self.errors.items():
            if part in path:
                wait_until(self.ready)
                raise error

    def get_file(self, rpath, lpath, *args, **options):
        self._check(rpath)
        Path(lpath).write_bytes(b"" if self.hollow else super().cat_file(rpath))

    def cat_file(self, path, *args, **options):
        self._check(path)
        return super().cat_file(path, *args, **options)

    def ls(self, path, *args, **options):
        self._check(f"{path}/ls")
        return super().ls(path, *args, **options)


fsspec.register_implementation("failing", Failing, clobber=True)


@pytest.fixture
def failing(tmp_path, engine, monkeypatch) -> Pipeline:
    """Return a pipeline over four clips in a filesystem whose errors a test sets."""
    monkeypatch.setattr(Failing, "errors", {})
    here = Pipeline(tmp_path, [engine.url], batches={"preparing": 2})  # one clip waits for another
    clips = here.put(4)
    root = f"failing:///{tmp_path.name}"
    fs, top = open_root(root)
    for clip in clips:
        fs.pipe_file(f"{top}/{FOLDER}/{clip.name}", clip.read_bytes())
    return Pipeline.of(
        here.settings.model_copy(update={"source": here.settings.source.model_copy(update={"url": root})})
    )


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def empty(folder: Path, kept: Path) -> None:
    """Leave an empty folder, as a mount that goes away does."""
    folder.rename(kept)
    folder.mkdir(parents=True)


def cover(folder: Path, kept: Path) -> None:
    """Leave a folder with another file, as a mount over a folder that is not empty does."""
    empty(folder, kept)
    (folder / "NOT-MOUNTED.txt").write_text("mount me")


def go(folder: Path, kept: Path) -> None:
    folder.rename(kept)


AWAY = {
    "the root is gone": ("", go),
    "the root is empty": ("", empty),
    "the root shows what lies below the mount": ("", cover),
    "the folder of the day is gone": (FOLDER, go),
    "the folder of the day is empty": (FOLDER, empty),
    "the folder of the day shows what lies below the mount": (FOLDER, cover),
}


@pytest.mark.parametrize("case", AWAY)
def test_clips_whose_mount_goes_away_are_not_quarantined_and_the_next_try_captions_them(pipeline, tmp_path, case):
    part, leave = AWAY[case]
    pipeline.put(3)
    (batch,) = pipeline.plan().batches
    folder, kept = pipeline.clips / part, tmp_path / "kept"
    leave(folder, kept)
    for number in (1, 2):
        with pytest.raises(SourceUnavailable, match=r"check the (mount|disk)"):
            pipeline.caption(batch, number)
    assert not any(one.outcome is Outcome.QUARANTINED for one in pipeline.outcomes().values())
    shutil.rmtree(folder, ignore_errors=True)
    kept.rename(folder)
    assert pipeline.caption(batch, 3).new == 3


def test_one_camera_of_several_whose_mount_goes_away_costs_no_clip(pipeline, tmp_path):
    day = pipeline.clips / FOLDER
    for camera, clip in zip("aabb", pipeline.put(4), strict=True):
        (day / camera).mkdir(exist_ok=True)
        clip.rename(day / camera / clip.name)
    (batch,) = pipeline.plan().batches
    empty(day / "b", tmp_path / "kept")
    with pytest.raises(SourceUnavailable, match="2026/11/03/b in"):
        pipeline.caption(batch)
    outcomes = pipeline.outcomes()
    assert sum(one.outcome is Outcome.CAPTIONED for one in outcomes.values()) == 2
    assert not any(one.outcome is Outcome.QUARANTINED for one in outcomes.values())


@pytest.mark.parametrize("clips", [1, 3])
def test_a_clip_that_is_deleted_alone_is_quarantined_as_missing(pipeline, clips):
    gone = pipeline.put(clips)[0]
    (batch,) = pipeline.plan().batches
    gone.unlink()
    pipeline.caption(batch)
    assert pipeline.outcomes()[gone.name].reason == Reason.MISSING


def test_a_missing_clip_that_is_listed_again_is_captioned_by_the_next_run(pipeline, tmp_path):
    gone = pipeline.put(3)[0]
    (batch,) = pipeline.plan("r.1").batches
    gone.rename(tmp_path / "kept.mp4")
    pipeline.caption(batch)
    pipeline.index(batch)
    pipeline.report("r.1")
    (tmp_path / "kept.mp4").rename(gone)
    report = pipeline.run("r.2")
    assert (report.total("planned"), report.total("indexed")) == (1, 1)
    assert pipeline.plan("r.3").to_do == 0


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.EACCES])
def test_a_source_that_fails_as_a_whole_fails_the_batch(failing, number):
    (batch,) = failing.plan().batches
    Failing.errors[failing.settings.source_url.rpartition("/")[2]] = OSError(number, "away")
    with pytest.raises(SourceUnavailable):
        failing.caption(batch)
    assert failing.outcomes() == {}
    Failing.errors.clear()
    assert failing.caption(batch, 2).new == 4


def test_an_archive_that_denies_every_clip_but_lists_them_fails_the_batch_once(failing):
    Failing.errors[".mp4"] = PermissionError(errno.EACCES, "denied")
    (batch,) = failing.plan("r.1").batches
    with pytest.raises(SourceUnavailable, match="4 of 4 clips cannot be read"):
        failing.caption(batch)
    assert {one.outcome for one in failing.outcomes("r.1").values()} == {Outcome.FAILED}
    failing.report("r.1")
    report = failing.run("r.2")
    check_report(report, failing.settings.quarantine)
    assert [line["reason"] for line in report.quarantine] == ["unreadable"] * 4
    Failing.errors.clear()
    assert failing.run("r.3").total("indexed") == 4


def test_films_that_the_source_gives_empty_are_not_quarantined_as_empty(failing, monkeypatch):
    (batch,) = failing.plan().batches
    monkeypatch.setattr(Failing, "hollow", True)
    with pytest.raises(Unavailable, match="bytes expected, the source gave none"):
        failing.caption(batch, 1)
    monkeypatch.setattr(Failing, "hollow", False)
    assert failing.caption(batch, 2).new == 4


def test_a_clip_that_stays_unreadable_is_tried_each_night_and_the_day_stays_green(failing):
    Failing.errors["000000.mp4"] = PermissionError(errno.EACCES, "denied")
    for run in ("r.1", "r.2", "r.3"):
        report = failing.run(run)
        check_report(report, failing.settings.quarantine)
        assert [line["reason"] for line in report.quarantine] == ["unreadable"]
    assert report.total("planned") == 1
    Failing.errors.clear()
    assert failing.run("r.4").total("indexed") == 1


def test_a_download_that_always_breaks_is_retried_for_a_run_and_then_keeps_no_run_red(failing):
    Failing.errors["000000.mp4"] = ConnectionResetError(errno.ECONNRESET, "reset")
    (batch,) = failing.plan("r.1").batches
    with pytest.raises(Unavailable, match="1 of 4 clips are left"):
        failing.caption(batch)
    failing.index(batch)
    failing.report("r.1")
    report = failing.run("r.2")
    check_report(report, failing.settings.quarantine)
    assert [line["reason"] for line in report.quarantine] == ["unreadable"]
    Failing.errors.clear()
    assert failing.run("r.3").total("indexed") == 1


@pytest.mark.slow
def test_a_download_that_breaks_while_others_succeed_is_quarantined(failing, monkeypatch):
    Failing.errors["000000.mp4"] = ConnectionResetError(errno.ECONNRESET, "reset")
    monkeypatch.setattr(Failing, "ready", staticmethod(lambda: failing.store.list("captions") != []))
    report = failing.run("r.1")
    assert [line["reason"] for line in report.quarantine] == ["unreadable"]
    assert report.total("indexed") == 3


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails with EIO")
def test_a_clip_on_a_damaged_place_of_a_disk_is_unreadable_by_itself(tmp_path):
    source = Source(Settings.load(source={"url": "/proc/self"}))
    with pytest.raises(ClipRejected, match="cannot be read") as refused:
        source.fetch(Clip("id", "file:///proc/self/mem", "mem", "v", 0, DAY), tmp_path, 100)
    assert refused.value.reason is Reason.UNREADABLE


def bucket(s3_endpoint: str, name: str):
    access = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_endpoint, **access)
    client.create_bucket(Bucket=name)
    options = {"endpoint_url": s3_endpoint, "client_kwargs": {"region_name": "us-east-1"}}
    source = {"url": f"s3://{name}/archive", "key": "test", "secret": "test", "options": options}
    return client, Source(Settings.load(source=source))


def test_a_bucket_that_is_deleted_makes_no_clip_missing(s3_endpoint, tmp_path):
    client, source = bucket(s3_endpoint, "deleted-bucket")
    client.put_object(Bucket="deleted-bucket", Key=f"archive/{FOLDER}/a.mp4", Body=b"clip")
    (clip,) = source.day(DAY)
    client.delete_object(Bucket="deleted-bucket", Key=f"archive/{FOLDER}/a.mp4")
    with pytest.raises(ClipRejected, match="deleted since"):
        source.fetch(clip, tmp_path, 100)
    client.delete_bucket(Bucket="deleted-bucket")
    with pytest.raises(SourceUnavailable, match="does not exist"):
        source.fetch(clip, tmp_path, 100)


def test_another_disk_at_the_root_makes_no_clip_missing(tmp_path):
    archive, other = tmp_path / "archive", Path("/proc")
    if not other.is_dir():
        pytest.skip("needs a second file system")
    clip = archive / FOLDER / "a.mp4"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"clip")
    link = tmp_path / "mounted"
    link.symlink_to(archive)
    source = Source(Settings.load(source={"url": str(link)}))
    (known,) = source.day(DAY)
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(SourceUnavailable, match="another disk"):
        source.fetch(known, tmp_path, 100)
