"""An archive of several cameras, with the litter of a Mac, a Synology share, Android phones and broken downloads.

Its days are those of Moscow. Every film is from a moment beside midnight, where the day in UTC is another.
"""

import hashlib
import json
import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from clipdex.days import day_of
from clipdex.runs.report import RunReport
from tests.support.clips import numbered, write_clip
from tests.support.pipeline import Pipeline

ZONE = "Europe/Moscow"
DAYS = ("2026-01-13", "2026-01-14", "2026-01-15")

APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(4072)
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + bytes(range(256)) * 8
_MAP = bytes(24) + struct.pack(">HHh", 28, 30, -1)  # of a resource fork without resources
RESOURCE_FORK = struct.pack(">4I", 256, 512, 256, len(_MAP)) + bytes(240) + bytes(256) + _MAP

_ROOT_FOLDERS = (".Spotlight-V100", ".Trashes", "__MACOSX", "@eaDir", "#recycle", ".thumbnails")
_DISGUISED = {
    "Icon.mp4": (APPLE_DOUBLE, "not_a_video"),
    "fork.mp4": (RESOURCE_FORK, "not_a_video"),
    "download.mp4": (b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n" * 9, "not_a_video"),
    "notes.mov": ("Камера у ворот, запись за январь\n".encode() * 40, "not_a_video"),
    "preview.MTS": (JPEG, "not_a_video"),
    "empty.mp4": (b"", "empty_file"),
    "empty too.mov": (b"", "empty_file"),
}


@dataclass(frozen=True, slots=True)
class Film:
    """One good clip. day: in Moscow."""

    path: Path
    camera: str
    recorded_at: datetime

    @property
    def day(self) -> str:
        return day_of(self.recorded_at, ZONE)


@dataclass(slots=True)
class Archive:
    """Films and litter below a folder.

    films: of DAYS, and of the days before and after
    disguised: day and expected reason by path, of litter with the name of a clip
    excluded: paths of files and folders that discovery must leave out
    others: paths of files without the extension of a clip
    """

    root: Path
    films: list[Film] = field(default_factory=list)
    disguised: dict[Path, tuple[str, str]] = field(default_factory=dict)
    excluded: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)

    def __add__(self, other: "Archive") -> "Archive":
        return Archive(
            Path(os.path.commonpath([self.root, other.root])), self.films + other.films,
            self.disguised | other.disguised, self.excluded + other.excluded, self.others + other.others,
        )  # fmt: skip

    def of_days(self, *days: str) -> list[Film]:
        return [film for film in self.films if film.day in days]

    def skipped(self) -> dict[str, int]:
        return Counter(f".{path.name.rpartition('.')[2].lower()}" for path in self.others)

    def points(self, *days: str) -> list[tuple[str, str, str, str]]:
        """Return path, day, camera and time of the films of these days, as points_of() does."""
        return sorted(
            (str(film.path), film.day, film.camera, film.recorded_at.isoformat()) for film in self.of_days(*days)
        )

    def contents(self, *days: str) -> list[str]:
        """Return the digests of the films of these days, as contents_of() does."""
        return sorted(hashlib.sha256(film.path.read_bytes()).hexdigest() for film in self.of_days(*days))

    def counts(self, day: str) -> dict[str, Any]:
        """Return the counts of a run of one day, as results_of() does."""
        films, disguised = len(self.of_days(day)), sum(day == of for of, _ in self.disguised.values())
        return {
            "days": [day], "timezone": ZONE, "planned": films + disguised, "captioned": films, "asked": films,
            "indexed": films, "quarantined": disguised, "conclusive": disguised, "unfinished": 0,
        }  # fmt: skip

    def quarantine(self, day: str) -> dict[str, str]:
        """Return the reason of each file that a run of the day must quarantine, by path."""
        return {str(path): reason for path, (of, reason) in self.disguised.items() if of == day}


def points_of(pipeline: Pipeline) -> list[tuple[str, str, str, str]]:
    """Return path, day, camera and time of each clip in the index."""
    return sorted(
        {
            (one["uri"].removeprefix("file://"), one["day"], one["camera"], one["recorded_at"])
            for one in pipeline.points().values()
        }
    )


def contents_of(pipeline: Pipeline) -> list[str]:
    """Return the digest of the content of each stored caption."""
    return sorted(pipeline.store.read_json(key)["content"] for key in pipeline.store.list("captions"))


def results_of(report: RunReport) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the counts of a run, and the reason of each file that it quarantined, by path."""
    totals = ("planned", "captioned", "asked", "indexed", "quarantined", "unfinished")
    counts = {
        "days": [one.day for one in report.days],
        "timezone": report.timezone,
        "conclusive": report.conclusive,
        **{name: report.total(name) for name in totals},
    }
    return counts, {line["uri"].removeprefix("file://"): line["reason"] for line in report.quarantine}


def environment(pipeline: Pipeline, pattern: str) -> dict[str, str]:
    """Return the environment of a pipeline over an archive in the days of Moscow, with cameras as metadata."""
    source = {"TIMEZONE": ZONE, "DAY_PATTERN": pattern, "METADATA": json.dumps({"camera": "string"})}
    return pipeline.environment() | {f"CLIPDEX_SOURCE__{name}": value for name, value in source.items()}


def recorders(root: Path) -> Archive:
    """Write recorders with camera, date and time in the path: {camera}/{year}-{month}-{day}/*_{hour}{minute}{second}.

    The modification times are those of a later copy.
    """
    archive, copied = Archive(root), datetime(2026, 2, 1, tzinfo=UTC)
    for number, camera in enumerate(("Camera [front]", "cam-[12]", "cam-1", "Ворота #2")):
        folders = {}
        for count, moment in enumerate(_moments()):
            local = moment.astimezone(ZoneInfo(ZONE))
            folder = root / camera / f"{local:%Y-%m-%d}"
            folders[folder] = f"{local:%Y-%m-%d}"
            name = f"REC_{local:%H%M%S}{('.mp4', '.MOV', '.ts')[number % 3]}"
            archive.films.append(Film(_film(folder / name, 100 * number + count), camera, moment))
        for folder, day in folders.items():
            _litter(archive, folder, [day])
    _root_litter(archive)
    _set_times(root, copied)
    return archive


def phones(root: Path) -> Archive:
    """Write phones with the camera in the path and the day in the modification time; metadata.csv has the cameras."""
    archive, rows = Archive(root), ["file_name;camera"]
    folders = {"iPhone Анна": "DCIM/100APPLE", "Pixel [8]": "DCIM/Camera", "NAS": "Photos/MobileBackup"}
    for number, (camera, below) in enumerate(folders.items()):
        folder = root / camera / below
        for count, moment in enumerate(_moments()):
            path = _film(folder / f"IMG_{count:04d}{('.MOV', '.mp4', '.3gp')[number % 3]}", 500 + 100 * number + count)
            archive.films.append(Film(path, camera, moment))
            rows.append(f"{path.relative_to(root)};{camera}")
        _litter(archive, folder, DAYS)
    _root_litter(archive)
    (root / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    (root / "._metadata.csv").write_bytes(APPLE_DOUBLE)
    archive.excluded.append(root / "._metadata.csv")
    _set_times(root, next(_moments()))
    for path, (day, _) in archive.disguised.items():
        _set_time(path, datetime.fromisoformat(f"{day}T00:00:01").replace(tzinfo=ZoneInfo(ZONE)))
    for film in archive.films:
        _set_time(film.path, film.recorded_at)
    return archive


def _moments() -> Iterator[datetime]:
    """Yield the first and the last seconds of each day, and the seconds before and after all of them."""
    first, last = (datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(ZONE)) for day in (DAYS[0], DAYS[-1]))
    for hours in range(0, 24 * (1 + (last - first).days) + 1, 24):
        for seconds in (-5, 5):
            yield (first + timedelta(hours=hours, seconds=seconds)).astimezone(UTC)


def _film(path: Path, number: int) -> Path:
    """Write a film of a second with unique content, in the format of MP4 or of a transport stream."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = ".ts" if path.suffix == ".ts" else ".mp4"
    made = path.with_name(f"making{suffix}")
    shown = lambda frame, size: numbered(number, size)  # noqa: E731
    write_clip(made, seconds=1, fps=5, size=(64, 48), picture=shown, options={"preset": "ultrafast"})
    return made.rename(path)


def _litter(archive: Archive, folder: Path, days: Iterable[str]) -> None:
    """Write litter beside the films of a folder, some of it films that were deleted or made for a preview."""
    names = sorted(path.name for path in folder.iterdir())
    film = (folder / names[0]).read_bytes()
    deleted = film[:-8] + b"a film that no one wants"
    for name in names:
        _put(archive.excluded, folder / f"._{name}", APPLE_DOUBLE)
    name = names[0]
    for excluded in (
        f".trashed-1790000000-{name}", f".pending-1790000000-{name}", f"{name}.tmp", f".~lock.{name}#", f"{name}.lock",
        f".#{name}",
    ):  # fmt: skip
        _put(archive.excluded, folder / excluded, deleted)
    _put(archive.excluded, folder / f"{name}.part", film[: len(film) // 2])
    _put(archive.excluded, folder / "._.DS_Store", APPLE_DOUBLE)
    (folder / "@eaDir" / f"{name}@SynoEAStream").parent.mkdir()
    (folder / "@eaDir" / f"{name}@SynoEAStream").write_bytes(APPLE_DOUBLE)
    for top, below in {"@eaDir": f"{name}/SYNOPHOTO_FILM_M.mp4", ".thumbnails": f"{name}"}.items():
        _put([], folder / top / below, deleted)
        archive.excluded.append(folder / top)
    _put([], folder / "@eaDir" / name / "SYNOFILE_THUMB_M.png", JPEG)
    for other, data in {
        ".DS_Store": b"\0\0\0\1Bud1" + bytes(2000), "Thumbs.db": bytes.fromhex("d0cf11e0a1b11ae1") + bytes(2000),
        "desktop.ini": b"[.ShellClassInfo]", ".nomedia": b"", f"{name}.jpg": JPEG,
    }.items():  # fmt: skip
        _put(archive.others, folder / other, data)
    for day in days:
        for disguised, (data, reason) in _DISGUISED.items():
            path = folder / f"{day} {disguised}"
            _put([], path, data)
            archive.disguised[path] = (day, reason)


def _root_litter(archive: Archive) -> None:
    """Write the folders of a Mac, a share and a phone at the top, with films below folders like those of a camera."""
    film = archive.films[0].path.read_bytes() + b"\0\0\0\x08free"
    for name in _ROOT_FOLDERS:
        for below in ("501/deleted_120000.mp4", *(f"{day}/deleted_120000.mp4" for day in DAYS)):
            _put([], archive.root / name / below, film)
        archive.excluded.append(archive.root / name)
    _put(archive.others, archive.root / ".DS_Store", b"\0\0\0\1Bud1" + bytes(2000))


def _put(kept: list[Path], path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    kept.append(path)


def _set_times(root: Path, moment: datetime) -> None:
    for folder, _, files in os.walk(root):
        for name in files:
            _set_time(Path(folder, name), moment)


def _set_time(path: Path, moment: datetime) -> None:
    os.utime(path, (moment.timestamp(),) * 2)
