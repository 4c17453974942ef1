"""The command that compares public files with plain decoding: it finds what differs, and only that."""

import asyncio
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import corpus_files
from benchmarks.comparison import compare, proxy_thumbs, timelines
from benchmarks.corpus import Judged, Verdict, found, judge, the_film
from benchmarks.plain import PlainDecoder
from clipdex.config import Sampling, VideoLimits
from clipdex.video import prepare
from tests.support.clips import write_clip


@pytest.fixture
def film(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return write_clip(tmp_path / "files" / "film.mp4", seconds=3, fps=10)


def judged(folder: Path) -> dict[str, Judged]:
    return {one.name: one for one in asyncio.run(judge(list(found([folder])), 2**20, None))}


def test_a_film_equals_its_plain_decoding_and_a_text_is_refused_rightly(film):
    film.with_name("text.mp4").write_text("no film" * 100)
    results = judged(film.parent)
    assert {name: one.verdict for name, one in results.items()} == {
        "film.mp4": Verdict.EQUAL,
        "text.mp4": Verdict.RIGHTLY,
    }
    assert (results["film.mp4"].numbers["pictures"], results["film.mp4"].numbers["sampled"]) == (30, 6)


def test_wrong_times_pictures_and_durations_are_found(film, tmp_path):
    prepared = prepare(film, VideoLimits(), Sampling())
    with PlainDecoder(tmp_path) as plain:
        seen, arrays = plain.decode(film)
    stream = the_film(seen)
    line = next(timelines(seen, stream, arrays))
    proxies = proxy_thumbs(prepared)
    assert compare(prepared, proxies, line).differences == []
    wrong = {
        "duration": replace(line, end_s=line.end_s + 0.3),
        "start": replace(line, lead_s=0.2),
        "frames": replace(line, thumbs=np.roll(line.thumbs, 5, axis=0)),
        "pictures": replace(line, thumbs=np.tile(np.arange(16, dtype=np.uint8) * 16, (30, 16, 1))),
    }
    assert {name for name, other in wrong.items() if name not in compare(prepared, proxies, other).differences} == set()


def test_a_film_turned_by_its_container_equals_its_plain_decoding(tmp_path):
    (tmp_path / "files").mkdir()
    write_clip(tmp_path / "files" / "turned.mp4", seconds=2, turned=90)
    assert judged(tmp_path / "files")["turned.mp4"].verdict is Verdict.EQUAL


def test_films_are_taken_out_of_clones_and_packages(film, tmp_path, monkeypatch):
    clone, packages = tmp_path / "repositories" / "someone+films", tmp_path / "packages"
    clone.mkdir(parents=True)
    packages.mkdir()
    (clone / "a.mp4").write_bytes(film.read_bytes())
    (clone / "again.mp4").write_bytes(film.read_bytes())
    (clone / "code.ts").write_text("export const film = 1\n" * 100)
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm films"):
        subprocess.run(["git", "-C", clone, *command.split()], check=True)
    with zipfile.ZipFile(packages / "films-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("films/b.mp4", film.read_bytes() + b"\0\0\0\x08free")
    film.unlink()
    monkeypatch.setattr("sys.argv", ["corpus_files", str(tmp_path)])
    corpus_files.main()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert {name: (one["kind"], one.get("version")) for name, one in manifest.items()} == {
        "someone+films/a.mp4": ("repository", None),
        "films/films/b.mp4": ("package", "1.2"),
    }
    assert {name for _, name in found([tmp_path / "files"])} == set(manifest)
