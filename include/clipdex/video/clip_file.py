"""ClipFile: a clip opened for reading, by its path or by a file descriptor that another process passed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from clipdex.errors import ClipRejected, Reason


class ClipFile:
    """One open clip. Close it after use.

    descriptor: owned by this object
    name: file name; FFmpeg considers its extension when it guesses the format
    bytes: file size
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        self.bytes = os.lseek(descriptor, 0, os.SEEK_END)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file. Raises ClipRejected for a missing or irregular file, OSError for a disk error."""
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise ClipRejected(Reason.UNDECODABLE, "a file expected, found a folder or a device")
            # O_NONBLOCK: do not wait for a writer if a FIFO took the file's place meanwhile.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ClipRejected(Reason.MISSING, "a file expected, found none at its path") from None
        try:
            return cls(descriptor, path.name)
        except OSError:
            os.close(descriptor)
            raise

    def reader(self) -> ClipReader:
        """Return a new reader at the start of the file."""
        return ClipReader(self)

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ClipReader:
    """A file object for PyAV with a position of its own, so that several read one ClipFile."""

    def __init__(self, file: ClipFile) -> None:
        self.name = file.name
        self._file = file
        self._position = 0

    def read(self, size: int) -> bytes:
        """Return at most size bytes from the position, b"" at the end. Raises OSError for a disk error."""
        if self._position >= self._file.bytes:  # a file in memory has the position 2^63 - 1, and no byte after it
            return b""
        data = os.pread(self._file.descriptor, size, self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position and return it [bytes], or a negative error number where a file has no such position.

        FFmpeg goes on from the former position then, as it does with a file that it opened itself.
        """
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.bytes}[whence]
        try:
            self._position = os.lseek(self._file.descriptor, base + offset, os.SEEK_SET)
        except (OSError, OverflowError):
            return -errno.EINVAL
        return self._position

    def tell(self) -> int:
        return self._position
