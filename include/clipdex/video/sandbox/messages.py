"""Messages between the pool and its decoder processes: a length, a JSON header, and bytes.

An answer comes from a process that a hostile file may control, so every field is checked.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from clipdex.errors import ClipRejected, Reason
from clipdex.video import Part, Prepared, VideoInfo, Window
from clipdex.video.boxes import is_playback

MOST_HEADER_BYTES = 2**20
MOST_BYTES = 64 * 2**20
_MOST_TEXT = 300  # characters


def framed(header: dict[str, Any], *blobs: bytes) -> bytes:
    """Encode one message: the header's length in four bytes, the header, the blobs."""
    text = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode()
    return b"".join((len(text).to_bytes(4, "big"), text, *blobs))


def _found_by_decoder(reason: Reason) -> Reason:
    if not reason.seen_by_decoder:
        raise ValueError("a reason that a decoder finds is expected")
    return reason


def _moment_or_nothing(text: str) -> str:
    if text and datetime.fromisoformat(text).utcoffset() != timedelta(0):
        raise ValueError("a time in UTC is expected")
    return text


_Pixels = Annotated[int, Field(gt=0, lt=2**31)]
_Seconds = Annotated[float, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Info(_Checked):
    duration_s: _Positive
    width: _Pixels
    height: _Pixels
    fps: _Positive
    codec: Annotated[str, Field(max_length=_MOST_TEXT)]
    bytes: Annotated[int, Field(ge=0, lt=2**63)]
    start_s: _Seconds = 0.0
    film: Annotated[str, Field(max_length=_MOST_TEXT)] = ""
    recorded_at: Annotated[str, Field(max_length=40), AfterValidator(_moment_or_nothing)] = ""


class _Window(_Checked):
    start_s: _Seconds
    end_s: _Positive
    times: Annotated[tuple[_Seconds, ...], Field(min_length=1)]


class _Clip(_Checked):
    info: _Info
    windows: Annotated[tuple[_Window, ...], Field(min_length=1)]
    proxy_fps: _Positive
    width: _Pixels
    height: _Pixels
    playback: bool = False


class _Cut(_Checked):
    start_s: _Seconds
    end_s: _Positive
    part_s: _Positive
    number: Annotated[int, Field(ge=0)]
    from_s: _Seconds
    place: Annotated[int, Field(ge=0, lt=64)]


class _Part(_Checked):
    number: Annotated[int, Field(ge=0)]
    last: bool
    start_s: _Seconds
    end_s: _Positive


class Answer(_Checked):
    """A decoder's answer. Empty after its start; else one of clip, rejected and failed.

    For a file that is cut, cut comes first; then, per part, part with clip, with rejected, or alone if it is skipped.
    passed: no answer yet, but a further part of the file was read or decoded

    blobs: sizes of the poster, 0 if there is none, of each window's proxy, and of the playback, if there is one [bytes]
    rejected: the reason, with its detail, and the limit that the clip exceeds
    failed: a disk error
    """

    blobs: tuple[Annotated[int, Field(ge=0, le=MOST_BYTES)], ...]
    clip: _Clip | None = None
    rejected: Annotated[Reason, AfterValidator(_found_by_decoder)] | None = None
    detail: str = ""
    limit: Literal["", "max_duration_s", "max_file_s", "max_pixels", "max_bytes"] = ""
    found: Annotated[float, Field(ge=0)] = 0.0
    failed: str | None = None
    cut: _Cut | None = None
    part: _Part | None = None
    passed: bool = False

    @classmethod
    def parsed(cls, header: bytes) -> Answer:
        """Parse the header. Raises ValueError for an invalid one."""
        answer = cls.model_validate_json(header)
        if sum(answer.blobs) > MOST_BYTES:
            raise ValueError(f"at most {MOST_BYTES} bytes expected, found {sum(answer.blobs)}")
        return answer

    def prepared(self, blobs: list[bytes]) -> Prepared:
        """Return the clip. Raises ClipRejected, OSError for a disk error, ValueError for an invalid answer."""
        if rejection := self.rejection:
            raise rejection
        if self.failed is not None:
            raise OSError(self.failed[:_MOST_TEXT])
        if self.clip is None:
            raise ValueError("a clip expected, found an empty answer")
        if len(blobs) != 1 + len(self.clip.windows) + self.clip.playback:
            raise ValueError(f"a poster and {len(self.clip.windows)} proxies expected, found {len(blobs)} files")
        poster, *proxies = blobs[: 1 + len(self.clip.windows)]
        playback = blobs[-1] if self.clip.playback else b""
        if playback and not is_playback(playback):
            raise ValueError("a playback expected, found another file")
        return Prepared(
            info=VideoInfo(**dict(self.clip.info)),
            windows=tuple(
                Window(**dict(window), proxy=proxy) for window, proxy in zip(self.clip.windows, proxies, strict=True)
            ),
            proxy_fps=self.clip.proxy_fps,
            width=self.clip.width,
            height=self.clip.height,
            poster=poster,
            playback=playback,
            part=Part(self.part.number, self.part.last) if self.part else None,
        )

    @property
    def rejection(self) -> ClipRejected | None:
        if self.rejected is None:
            return None
        return ClipRejected(self.rejected, self.detail[:_MOST_TEXT], limit=self.limit, found=self.found)
