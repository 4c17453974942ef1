"""Video of strangers: whatever a file holds, the worker goes on, and the clip is captioned or rightly refused.

The whole of it, some thousand files: make hostile.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipdex.errors import Reason
from tests.support.engine import MODEL, StandIn
from tests.support.hostile import DAMAGES, damaged, specimen
from tests.support.judge import Verdict, judged
from tests.support.odd import GOOD, NAMES, Clips, odd
from tests.support.pipeline import DAY


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Clips:
    return Clips(tmp_path_factory.mktemp("good"))


def _wrong(verdicts: list[Verdict]) -> list[str]:
    return [f"{one.name}: {one.result} ({one.detail}): {one.wrong}" for one in verdicts if one.wrong]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "wrong-extension", "names", "odd", "no-clip", "past-limits"])
def test_odd_video_is_prepared_and_what_is_no_clip_is_refused_for_what_it_is(clips, tmp_path, kind):
    verdicts = asyncio.run(judged([one for one in odd() if one.kind == kind], clips, tmp_path))
    assert verdicts
    assert _wrong(verdicts) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*DAMAGES, "cut-at-box"])
def test_damage_costs_the_worker_nothing_and_is_called_by_its_name(clips, tmp_path, kind):
    specimens = [one for one in damaged(clips, each=2) if one.kind == kind]
    verdicts = asyncio.run(judged(specimens[:: 8 if kind == "cut-at-box" else 1], clips, tmp_path))
    assert len(verdicts) >= len(GOOD)
    assert _wrong(verdicts) == []


# Each was called by a wrong name once.
@pytest.mark.parametrize(
    "name",
    [
        "header-bits/mp4/15",
        "header-bits/mov/0",
        "payload-bits/mkv/0",
        "payload-bits/flv/0",
        "payload-bits/mp4/3",
        "payload-bits/mpg/10",
        "lying-field/avi/14",
        "zeroed-run/faststart/0",
        "doubled-run/fragments/4",
        "begun-twice/webm/0",
        "begun-twice/flv/1",
        "begun-twice/flv/12",
        "boxes-swapped/ogv/21",
    ],
)
def test_what_was_misjudged_once_is_not_again(clips, tmp_path, name):
    assert _wrong(asyncio.run(judged([specimen(name)], clips, tmp_path))) == []


@pytest.mark.slow
def test_an_archive_of_odd_names_and_odd_files_is_ingested_to_the_last_file(clips, tmp_path):
    archive, elsewhere = tmp_path / "archive" / DAY.replace("-", "/"), tmp_path / "elsewhere.mp4"
    archive.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        # Clips of different content: what follows the last box is no part of it.
        (archive / name).write_bytes(clips.bytes("faststart") + b"\0\0\0\x0cfree" + number.to_bytes(4, "big"))
    elsewhere.write_bytes(clips.bytes("mkv"))
    (archive / "out.mp4").symlink_to(elsewhere)
    (archive / "round.mp4").symlink_to(archive / "round.mp4")
    (archive / "nowhere.mp4").symlink_to(archive / "gone")
    (archive / "in.mp4").symlink_to(archive / "-rf.mp4")
    os.mkfifo(archive / "pipe.mp4")
    (archive / "folder.mp4").mkdir()
    (archive / "empty.mp4").touch()
    (archive / "page.mp4").write_text("<html>")
    (archive / "cut.mp4").write_bytes(clips.bytes("mp4")[:2000])

    told = _ingested(tmp_path)

    assert told["unfinished"] == 0
    refused = {one["uri"].rpartition("/")[2]: one["reason"] for one in told["clips"] if one["reason"]}
    assert refused == {
        "empty.mp4": Reason.EMPTY_FILE,
        "page.mp4": Reason.NOT_A_VIDEO,
        "cut.mp4": Reason.TRUNCATED_FILE,
    }
    assert told["captioned"] == len(NAMES) + 1  # in.mp4 shows what -rf.mp4 does
    assert told["asked"] == len(NAMES)


def _ingested(home: Path) -> dict:
    with StandIn(words=400) as engine:
        environment = {
            **os.environ,
            "CLIPDEX_HOME": str(home),
            "CLIPDEX_ENGINE__NAME": "sglang",
            "CLIPDEX_ENGINE__MODEL": MODEL,
            "CLIPDEX_ENGINE__BASE_URLS": json.dumps([engine.url]),
        }
        command = [sys.executable, "-m", "clipdex.cli", "ingest", str(home / "archive"), "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return json.loads(done.stdout)
