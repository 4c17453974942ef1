"""Test that discovery sees the clips and nothing else, and reports what it left out and why it found nothing."""

import asyncio
import json
import struct
from datetime import datetime
from pathlib import Path

import av
import pytest

from clipdex import cli
from clipdex.config import DEFAULT_EXCLUDE, Settings
from clipdex.runs.completion import CompletionCriteria
from clipdex.runs.planning import load_plan, plan_run
from clipdex.runs.report import load_report, report_run
from clipdex.runs.survey import survey
from clipdex.storage.artifacts import Store
from clipdex.storage.listing import Skipped
from clipdex.storage.source import Source
from clipdex.video.sandbox.pool import DecoderPool
from tests.support.clips import write_clip
from tests.unit.test_source import put, source

DAY, FOLDER = "2026-11-03", "2026/11/03"
LITTER = [
    "._a.mp4", ".trashed-1790000000-VID_1.mp4", ".pending-1790000000-VID_2.mp4", "@eaDir/a.mp4/SYNOPHOTO_FILM_M.mp4",
    ".thumbnails/a.mp4", "Thumbnails/a.mp4", ".@__thumb/a.mp4", ".Trash-1000/files/a.mp4", ".Trashes/501/a.mp4",
    "$RECYCLE.BIN/S-1-5-21/$RAB12.mp4", "#recycle/a.mp4", "@Recycle/a.mp4", "lost+found/a.mp4", "LOST.DIR/a.mp4",
    "FOUND.000/a.mp4", "System Volume Information/a.mp4", ".Spotlight-V100/a.mp4", ".fseventsd/a.mp4",
    ".TemporaryItems/a.mp4", ".stversions/a~20261103-101500.mp4", ".stfolder/a.mp4", ".syncthing.a.mp4.tmp",
    "~syncthing~a.mp4", ".sync/Archive/a.mp4", ".tmp.drivedownload/a.mp4", "a.mp4.part", "a.mp4.PART", "a.mp4.tmp",
    "a.mp4.crdownload", "a.mp4.partial", "a.mp4.filepart", "a.mp4.download/a.mp4", "a.mp4.lock", ".~lock.a.mp4#",
    "~$a.mp4", ".#a.mp4", ".rsync-partial/a.mp4", ".nfs000000000001.mp4", ".snapshot/hourly.0/a.mp4", ".git/a.mp4",
    "__MACOSX/cam/a.mp4", ".globalTrash/a.mp4", ".SynologyWorkingDirectory/#SynoRecycle/a.mp4", "@sharebin/a.mp4",
    "@__thumb/a.mp4", "SYNOPHOTO_FILM_H264.mp4", "SYNOFILE_THUMB_M.mp4",
]  # fmt: skip


@pytest.mark.parametrize("litter", LITTER)
def test_what_devices_and_shares_leave_is_no_clip(tmp_path, litter):
    root, skipped = {"url": str(tmp_path)}, Skipped()
    put(root, f"{FOLDER}/a.mp4")
    put(root, f"{FOLDER}/cam/{litter}")
    opened = source(root)
    assert [clip.path for clip in opened.day(DAY, skipped)] == [f"{FOLDER}/a.mp4"]
    assert [clip.path for clip in opened.prefix("")] == [f"{FOLDER}/a.mp4"]
    assert skipped.excluded == 1 and skipped.files == 0


def test_litter_on_object_storage_is_no_clip(root):
    for path in ("a.mp4", "._a.mp4", "@eaDir/a.mp4/b.mp4", "trash/.Trash-1000/b.mp4", "b.mp4.part", "c.jpg"):
        put(root, f"{FOLDER}/{path}")
    skipped = Skipped()
    assert [clip.path for clip in source(root).day(DAY, skipped)] == [f"{FOLDER}/a.mp4"]
    assert skipped.to_json() == {".jpg": 1} and skipped.excluded == 4


@pytest.mark.parametrize("name", [".hidden.mp4", "trashed-1.mp4", "a.part.mp4", "[a] #1.mp4", "tmp.mp4"])
def test_unusual_names_of_clips_are_left_in(tmp_path, name):
    put({"url": str(tmp_path)}, f"{FOLDER}/{name}")
    assert [clip.path for clip in source({"url": str(tmp_path)}).day(DAY)] == [f"{FOLDER}/{name}"]


@pytest.mark.parametrize(
    ("exclude", "found"),
    [
        ([], ["._a.mp4", "a.mp4", "a_preview.mp4", "cam/sub/b.mp4", "sub/c.mp4"]),
        (["*_PREVIEW.mp4"], ["._a.mp4", "a.mp4", "cam/sub/b.mp4", "sub/c.mp4"]),
        (["...", "*_preview.*"], ["a.mp4", "cam/sub/b.mp4", "sub/c.mp4"]),
        (["sub/", "._*"], ["a.mp4", "a_preview.mp4"]),
        (["2026/11/03/sub", "..."], ["a.mp4", "a_preview.mp4", "cam/sub/b.mp4"]),
        (["**/cam/*/b.mp4", "[ac].mp4", "..."], ["a_preview.mp4"]),
    ],
)
@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_exclude_is_a_list_of_globs_of_names_and_paths(root, exclude, found):
    for path in ("._a.mp4", "a.mp4", "a_preview.mp4", "cam/sub/b.mp4", "sub/c.mp4"):
        put(root, f"{FOLDER}/{path}")
    clips = source(root, exclude=exclude).day(DAY)
    assert sorted(clip.path.removeprefix(f"{FOLDER}/") for clip in clips) == found


def test_a_folder_that_is_excluded_is_not_listed(tmp_path, monkeypatch):
    put({"url": str(tmp_path)}, f"{FOLDER}/a.mp4")
    put({"url": str(tmp_path)}, "System Volume Information/b.mp4")
    opened = source({"url": str(tmp_path)}, day_pattern="**/{year}/{month}/{day}")
    ls = opened._fs.ls

    def refused(folder, **options):
        if "System" in folder:
            raise PermissionError(folder)
        return ls(folder, **options)

    monkeypatch.setattr(opened._fs, "ls", refused)
    assert [clip.path for clip in opened.day(DAY)] == [f"{FOLDER}/a.mp4"]


@pytest.mark.parametrize("folder", ["Camera [front]", "what?", "a*b", "{x}", "Отпуск 2026", "[!a]", "back\\slash"])
def test_the_name_of_the_root_is_no_pattern(tmp_path, folder):
    root = {"url": str(tmp_path / folder)}
    put(root, "cam-1/2026/11/03/a.mp4")
    for pattern in ("*/{year}/{month}/{day}", "{camera}/{year}/{month}/{day}", "**/{year}/{month}/{day}"):
        assert [clip.path for clip in source(root, day_pattern=pattern).day(DAY)] == ["cam-1/2026/11/03/a.mp4"]


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*/{year}/{month}/{day}", "cam [1]/2026/11/03/a.mp4"),
        ("{camera}/{year}/{month}/{day}/{hour}", "cam/2026/11/3/7/a.mp4"),
        ("*_{year}{month}{day}_*", "VID_20261103_101500.mp4"),
        ("DCIM/*/VID_{year}{month}{day}_*", "DCIM/100/VID_20261103_101500.mp4"),
    ],
)
def test_patterns_are_read_on_object_storage_as_in_a_folder(root, pattern, path):
    put(root, path)
    put(root, path.replace("2026", "2025"))
    opened = source(root, day_pattern=pattern)
    assert [clip.path for clip in opened.day(DAY)] == [path]
    assert {clip.day for clip in opened.prefix("")} == {DAY, "2025-11-03"}


# Every extension, and how its file is made: extension of write_clip, its arguments, and a change of the bytes.
MPEG4, MPEG2 = {"codec": "mpeg4"}, {"codec": "mpeg2video", "options": {"g": "12"}}
KINDS = {
    **dict.fromkeys([".mp4", ".m4v", ".mov", ".qt", ".f4v", ".3gp", ".3gpp", ".3g2", ".lrv"], (".mp4", {})),
    **dict.fromkeys([".mpg", ".mpeg", ".mpe", ".vob", ".mod"], (".mpg", MPEG2)),
    **dict.fromkeys([".ts", ".m2t", ".tod"], (".ts", {})),
    **dict.fromkeys([".mts", ".m2ts"], ("m2ts", {})),
    **dict.fromkeys([".avi", ".divx"], (".avi", MPEG4)),
    **dict.fromkeys([".wmv", ".asf"], (".wmv", {"codec": "wmv2"})),
    ".mkv": (".mkv", {}),
    ".webm": (".webm", {"codec": "libvpx", "options": {"deadline": "realtime"}}),
    ".ogv": (".ogv", {"codec": "libvpx", "options": {"deadline": "realtime"}}),
    ".flv": (".flv", {"codec": "flv"}),
    ".mxf": (".mxf", MPEG2),
    ".dav": ("dav", {}),
    ".gif": (".gif", {"codec": "gif", "pix_fmt": "rgb8", "fps": 10}),
}


def make(folder: Path, extension: str) -> Path:
    kind, how = KINDS[extension]
    how = {"seconds": 2.0, "size": (160, 128), **how}
    if kind in ("m2ts", "dav"):
        data = m2ts(write_clip(folder / "a.ts", **how)) if kind == "m2ts" else dav(write_clip(folder / "a.mp4", **how))
    else:
        data = write_clip(folder / f"made{kind}", **how).read_bytes()
    path = folder / f"CLIP{extension.upper()}"
    path.write_bytes(data)
    return path


def m2ts(clip: Path) -> bytes:
    """Return a transport stream in the packets of 192 bytes that camcorders and Blu-ray discs have."""
    data = clip.read_bytes()
    return b"".join(struct.pack(">I", at * 300) + data[at : at + 188] for at in range(0, len(data), 188))


def dav(clip: Path, begins: datetime = datetime(2026, 11, 3, 10, 15)) -> bytes:
    """Return the pictures of a clip as Dahua's recorders write them: a header, H.264 and a footer for each."""
    packets = []
    with av.open(clip) as source:
        stream = source.streams.video[0]
        annexb = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        for packet in source.demux(stream):
            packets += annexb.filter(packet)
        size, rate = (stream.width, stream.height), int(stream.average_rate)
    stamps = sorted(float((packet.pts or 0) * packet.time_base) for packet in packets)
    parts = []
    for number, (packet, stamp) in enumerate(zip(packets, stamps, strict=True)):
        extension = bytes([0x80, 0, size[0] // 8, size[1] // 8, 0x81, 0, 2, rate])
        date = begins.second + int(stamp) | begins.minute << 6 | begins.hour << 12 | begins.day << 17
        date |= begins.month << 22 | (begins.year - 2000) << 26
        length = 24 + len(extension) + len(bytes(packet)) + 8
        head = struct.pack("<4sBBBBIII", b"DHAV", 0xFD, 0, 0, 0, number, length, date)
        head += struct.pack("<HBB", round(stamp * 1000) % 65535, len(extension), 0)
        parts.append(head + extension + bytes(packet) + struct.pack("<4sI", b"dhav", length))
    return b"".join(parts)


def test_every_extension_is_tried():
    assert set(KINDS) == set(Settings.load().source.extensions)


def test_a_file_of_every_extension_is_found_and_decoded_in_the_sandbox(tmp_path):
    (tmp_path / FOLDER).mkdir(parents=True)
    made = {extension: make(tmp_path, extension) for extension in KINDS}
    paths = {extension: path.rename(tmp_path / FOLDER / path.name) for extension, path in made.items()}
    found = {clip.uri.rpartition("/")[2] for clip in source({"url": str(tmp_path)}).day(DAY)}
    assert found == {path.name for path in paths.values()}
    settings = Settings.load()

    async def prepared() -> dict[str, object]:
        async with DecoderPool(settings.video, settings.sampling, 1) as decoders:
            infos = {extension: (await decoders.prepare(path)).info for extension, path in paths.items()}
        return {
            name: (info.width, info.height, pytest.approx(info.duration_s, abs=0.2)) for name, info in infos.items()
        }

    assert asyncio.run(prepared()) == dict.fromkeys(KINDS, (160, 128, 2.0))


@pytest.fixture
def pipeline(tmp_path):
    settings = Settings.load(home=tmp_path, source={"url": str(tmp_path / "clips")})
    return settings, Store.open(settings), Source(settings)


def planned(pipeline, day: str = DAY, prefix: str | None = None):
    settings, store, opened = pipeline
    days = [] if prefix is not None else [day]
    return plan_run(settings, store, opened, "r.1", survey(store, opened, days, CompletionCriteria("f", "c"), prefix))


def test_files_that_are_left_out_are_counted_in_plan_report_and_log(pipeline, tmp_path, caplog):
    caplog.set_level("INFO")
    for name in ("a.mp4", "a.jpg", "b.JPG", "notes", "._a.mp4", "c.mp4.part"):
        put({"url": str(tmp_path / "clips")}, f"{FOLDER}/{name}")
    planned(pipeline)
    report_run(pipeline[1], "r.1")
    for kept in (load_plan(pipeline[1], "r.1"), load_report(pipeline[1], "r.1")):
        assert (kept.skipped, kept.excluded, kept.nothing) == ({".jpg": 2, "(none)": 1}, 2, "")
    assert caplog.text.count("left out: 3 files of other kinds (.jpg 2, (none) 1), 2 excluded") == 2


def test_the_counts_of_extensions_are_bounded():
    skipped = Skipped()
    for number in range(1000):
        skipped.add(f"x.{number}")
        skipped.add("y.jpg")
        skipped.add(f"z.{'long' * 30}{number}")
    counts = skipped.to_json()
    assert len(counts) <= 21 and sum(counts.values()) == 3000 and counts[".jpg"] == counts["(none)"] == 1000


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["cam-1/2026-11-03/a.mp4"], ["cam-1/2026-11-03/a.mp4", "{year}/{month}/{day}", "no day"]),
        (["a.xyz", "cam/b.mp4"], ["cam/b.mp4", "{year}/{month}/{day}"]),
        (["2026/11/03/a.xyz"], ["2026/11/03/a.xyz", "none of the extensions"]),
        (["2026/11/02/a.mp4"], ["2026/11/02/a.mp4", "2026-11-02", "{year}/{month}/{day}"]),
        (["._a.mp4", "@eaDir/a.mp4"], []),
        ([], []),
    ],
)
def test_a_run_that_found_nothing_says_why_with_an_example_and_the_pattern(
    pipeline, tmp_path, caplog, monkeypatch, capsys, files, words
):
    for path in files:
        put({"url": str(tmp_path / "clips")}, path)
    plan = planned(pipeline)
    report_run(pipeline[1], "r.1")
    assert plan.nothing == load_report(pipeline[1], "r.1").nothing
    assert bool(plan.nothing) == bool(words)
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))
    (tmp_path / "clips").mkdir(exist_ok=True)
    assert cli.main(["plan", str(tmp_path / "clips"), "--from", DAY, "--to", DAY]) == 0
    printed = capsys.readouterr().err
    assert cli.main(["plan", str(tmp_path / "clips"), "--from", DAY, "--to", DAY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nothing"] == plan.nothing
    for word in words:
        assert word in plan.nothing and word in printed and word in caplog.text


def test_an_example_is_looked_for_in_few_folders(tmp_path, monkeypatch):
    for number in range(300):
        (tmp_path / f"cam-{number:03d}").mkdir()
    opened = source({"url": str(tmp_path)})
    calls, ls = [], opened._fs.ls
    monkeypatch.setattr(opened._fs, "ls", lambda folder, **options: calls.append(folder) or ls(folder, **options))
    assert opened.why_nothing([DAY]) == ""
    assert len(calls) == 200


def test_a_plan_counts_what_it_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))
    for name in ("a.mp4", "b.jpg", "._a.mp4"):
        put({"url": str(tmp_path / "clips")}, f"{FOLDER}/{name}")
    assert cli.main(["plan", str(tmp_path / "clips"), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["discovered"], counts["skipped"], counts["excluded"]) == ({DAY: 1}, {".jpg": 1}, 1)
    assert cli.main(["plan", str(tmp_path / "clips")]) == 0
    assert "left out: 1 files of other kinds (.jpg 1), 1 excluded" in capsys.readouterr().err


def test_the_default_exclude_is_a_list_without_repeats():
    assert len(DEFAULT_EXCLUDE) == len(set(DEFAULT_EXCLUDE))
