"""ClipReader: what FFmpeg finds in a file is the same as if it had opened the file itself."""

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from clipdex.config import VideoLimits
from clipdex.video import ClipFile, probe
from tests.support.hostile import specimen
from tests.support.odd import Clips


@pytest.fixture
def disk() -> Iterator[Path]:
    """Return a folder on a disk: a filesystem in memory has positions that ext4 lacks."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_header_that_points_beyond_the_filesystem_costs_only_itself(disk: Path) -> None:
    """A bit of its ASF header asks for a position of 2^48; FFmpeg's own file protocol goes on where it was."""
    path = specimen("header-bits/wmv/25").make(Clips(disk / "good"), disk)
    with av.open(str(path)) as container:
        pictures = sum(1 for _ in container.decode(video=0))
    assert pictures == 50
    assert probe(path, VideoLimits()).duration_s == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("position", [-1, 2**63 - 1, 2**70])
def test_a_position_that_no_file_has_leaves_the_reader_where_it_was(tmp_path: Path, position: int) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"0123456789")
    with ClipFile.open(path) as file:
        reader = file.reader()
        assert reader.seek(4) == 4
        if reader.seek(position) == -errno.EINVAL:  # tmpfs has a position 2^63 - 1
            assert reader.tell() == 4
            assert reader.read(2) == b"45"
        else:
            assert (position, reader.read(2)) == (2**63 - 1, b"")
