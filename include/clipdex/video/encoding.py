"""Frame conversion: upright, square pixels, small, one colour space; and encoding of proxies and posters.

All input (10 bits, full range, BT.709 or BT.2020, HDR, display matrix, pixel aspect) is converted to 8-bit yuv420p in
limited-range BT.601, with matching tags. Readers that ignore the tags (OpenCV, older PyAV), common in engines, assume
this matrix.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from enum import Enum
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

from clipdex.errors import ClipRejected, Reason

_CONVERTIBLE = frozenset({1, 4, 5, 6, 7, 9})  # AVCOL_SPC: BT.709, FCC, both of BT.601, SMPTE 240M, BT.2020
_BT601 = 6  # AVCOL_SPC_SMPTE170M, what libswscale calls ITU601
_UNKNOWN_SPACE = 2  # AVCOL_SPC_UNSPECIFIED
_PRIMARIES, _TRANSFERS = frozenset(map(int, ColorPrimaries)), frozenset(map(int, ColorTrc))
_HDR = frozenset({ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67})
_SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND  # ACCURATE_RND: without it, colours darken by 2 to 3 of 255
_POSTER_SIDE = 360
_POSTER_QUALITY, _STILL_QUALITY = 4 * 118, 2 * 118  # the encoder's scale 1 (best) to 31, in units of 1/118
_PANORAMA = 4  # most long side / configured short side
_FRAME_BYTES = 64 * 1024  # average per proxy frame: 32 frames stay below 2 MiB
_PLAIN_LUMA = 12  # luma standard deviation below which a frame is blank: black, a flash, a fade


class FrameConverter:
    """Converts the decoded frames of one clip to small upright pictures.

    shown: displayed size of the clip [pixels]
    size: size of the pictures, see fitted [pixels]
    """

    def __init__(self, first: VideoFrame, pixel_aspect: float, short_side: int, multiple: int = 2) -> None:
        self._coded = first.width, first.height
        self._matrix = _display_matrix(first)
        turned = self._matrix[0]
        coded = (first.width * pixel_aspect, float(first.height))
        self.shown = (round(coded[turned]), round(coded[1 - turned]))
        self.size = fitted(*self.shown, short_side, multiple)
        self._before_turning = (self.size[turned], self.size[1 - turned])
        self._scaler = VideoReformatter()
        self._tone_mapper = VideoReformatter()

    def fits(self, frame: VideoFrame) -> bool:
        """Return whether the frame has the coded size of the first one.

        Its display matrix is not read again: PyAV keeps a frame with side data until the next full garbage collection.
        """
        return (frame.width, frame.height) == self._coded

    def picture(self, frame: VideoFrame) -> VideoFrame:
        """Convert one frame. Raises ClipRejected if its format is not supported.

        Colour tags that cannot be used are replaced by likely ones, and then left out.
        """
        for replace_tags in (_keep_tags, _likely_tags, _no_tags):
            replace_tags(frame)
            try:
                return _upright(self._small(frame), self._matrix)
            except MemoryError:
                raise
            except av.FFmpegError as error:
                failure = error
        kind = f"{frame.width}x{frame.height} {frame.format.name}"
        raise ClipRejected(Reason.UNDECODABLE, f"frames ({kind}) cannot be converted: {failure.strerror}") from failure

    def _small(self, frame: VideoFrame) -> VideoFrame:
        width, height = self._before_turning
        tone: dict[str, Any] = {}
        scaler = self._scaler
        if frame.color_trc in _HDR:
            # The tone mapping table takes 2 s to build per clip; applying it to the small picture is cheap.
            frame = scaler.reformat(frame, width, height, interpolation=_SCALING, threads=1)
            tone = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}
            scaler = self._tone_mapper
        return scaler.reformat(
            frame,
            width,
            height,
            "yuv420p",
            src_colorspace=_likely_space(frame),
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            interpolation=_SCALING,
            threads=1,
            **tone,
        )


def fitted(width: float, height: float, short_side: int, multiple: int = 2) -> tuple[int, int]:
    """Return the proxy size [pixels]: not upscaled, in multiples of multiple, aspect ratio nearly kept."""
    scale = min(1.0, short_side / min(width, height), _PANORAMA * short_side / max(width, height))
    return _snapped(width * scale, multiple), _snapped(height * scale, multiple)


def encode_proxy(pictures: Sequence[VideoFrame], fps: Fraction) -> bytes:
    """Return an H.264 mp4 with picture k at k / fps [s] and its index at the front."""
    out = io.BytesIO()
    options = {"movflags": "+faststart"}  # reads the output back to move the index
    with av.open(out, "w", format="mp4", options=options, io_open=lambda *_: io.BytesIO(out.getvalue())) as container:
        stream = container.add_stream("libx264", rate=fps)
        describe(stream.codec_context, pictures[0], fps)
        rate = round(8 * _FRAME_BYTES * fps)
        # fastdecode halves the decoding time on the engine's event loop, for 7 % more bytes.
        stream.codec_context.options = {
            "preset": "superfast",
            "tune": "fastdecode",
            "crf": "24",
            "bf": "0",
            "rc-lookahead": "0",
            "maxrate": str(rate),
            "bufsize": str(rate),
        }
        for number, picture in enumerate(pictures):
            container.mux(stream.encode(_stamped(picture, number, fps)))
        container.mux(stream.encode(None))
    return out.getvalue()


def encode_poster(pictures: Sequence[VideoFrame]) -> bytes:
    """Return a JPEG of the non-blank picture nearest to the middle."""
    middle = (len(pictures) - 1) / 2
    outwards = sorted(range(len(pictures)), key=lambda number: abs(number - middle))
    chosen = pictures[next((n for n in outwards if _spread(pictures[n]) >= _PLAIN_LUMA), outwards[0])]
    width, height = fitted(chosen.width, chosen.height, _POSTER_SIDE)
    return _jpeg(chosen, width, height, _POSTER_QUALITY)


def encode_stills(pictures: Iterable[VideoFrame]) -> list[bytes]:
    """Return each picture as a JPEG."""
    return [_jpeg(picture, picture.width, picture.height, _STILL_QUALITY) for picture in pictures]


def _jpeg(picture: VideoFrame, width: int, height: int, quality: int) -> bytes:
    still = VideoReformatter().reformat(
        picture, width, height, "yuvj420p", dst_color_range=ColorRange.JPEG, interpolation=_SCALING, threads=1
    )
    context = av.CodecContext.create("mjpeg", "w")
    describe(context, still, Fraction(1))
    context.options = {"flags": "+qscale", "global_quality": str(quality)}
    packets = [*context.encode(_stamped(still, 0, Fraction(1))), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def describe(context: VideoCodecContext, picture: VideoFrame, fps: Fraction) -> None:
    """Set an encoder up for pictures like this one."""
    context.width, context.height, context.pix_fmt = picture.width, picture.height, picture.format.name
    context.time_base, context.framerate, context.thread_count = 1 / fps, fps, 1
    context.color_range, context.colorspace = picture.color_range, _BT601
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709


def _stamped(picture: VideoFrame, number: int, fps: Fraction) -> VideoFrame:
    picture.pts, picture.time_base = number, 1 / fps
    picture.pict_type = PictureType.NONE  # else the encoder reuses the source's picture types
    return picture


def _snapped(length: float, multiple: int) -> int:
    """Round down to even; round to the nearest for larger multiples, as Qwen-VL's processor does."""
    parts = length / multiple
    return max(1, int(parts + 1e-6) if multiple == 2 else round(parts)) * multiple


def _keep_tags(frame: VideoFrame) -> None:
    pass


def _likely_tags(frame: VideoFrame) -> None:
    """Replace the tags without a meaning. HDR has the primaries of BT.2020, and nearly all video a limited range."""
    is_hdr = frame.color_trc in _HDR
    if frame.color_primaries not in _PRIMARIES:
        frame.color_primaries = ColorPrimaries.BT2020 if is_hdr else ColorPrimaries.UNSPECIFIED
    if frame.color_trc not in _TRANSFERS:
        frame.color_trc = ColorTrc.UNSPECIFIED
    if frame.colorspace not in _CONVERTIBLE and not frame.format.is_rgb:
        frame.colorspace = _UNKNOWN_SPACE
    if frame.color_range not in (ColorRange.MPEG, ColorRange.JPEG):
        frame.color_range = ColorRange.UNSPECIFIED


def _no_tags(frame: VideoFrame) -> None:
    frame.color_primaries, frame.color_trc = ColorPrimaries.UNSPECIFIED, ColorTrc.UNSPECIFIED
    frame.colorspace, frame.color_range = _UNKNOWN_SPACE, ColorRange.UNSPECIFIED


def _likely_space(frame: VideoFrame) -> Colorspace | None:
    """Guess the colour space if its tag is missing or invalid: BT.601 for standard definition, BT.709 above."""
    if frame.format.is_rgb or frame.colorspace in _CONVERTIBLE:
        return None
    return Colorspace.ITU709 if frame.height > 576 or frame.width >= 1280 else Colorspace.ITU601


def _display_matrix(frame: VideoFrame) -> tuple[int, bool, bool]:
    """Return the display transform: transpose (1) or not (0), mirror along x, mirror along y; none if unreadable."""
    try:
        sides: Any = frame.side_data
        data = sides.get("DISPLAYMATRIX")
        matrix = None if data is None else np.frombuffer(bytes(data), "<i4")[:5]
    except (ValueError, KeyError, av.FFmpegError):
        matrix = None
    if matrix is None or len(matrix) < 5:
        return 0, False, False
    a, b, _, c, d = (int(number) for number in matrix)
    return (1, c < 0, b < 0) if abs(b) > abs(a) else (0, a < 0, d < 0)


def _unnamed(kind: type[Enum], value: object) -> Enum:
    """Return a member for side data that FFmpeg has and PyAV has no name for, such as EXIF or a view's number."""
    member = object.__new__(kind)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


# Without it, PyAV raises ValueError for all side data of a frame, the display matrix included, if one kind has no name.
SideDataType._missing_ = classmethod(_unnamed)  # type: ignore[method-assign, assignment]


def _upright(picture: VideoFrame, matrix: tuple[int, bool, bool]) -> VideoFrame:
    transposed, mirrored_x, mirrored_y = matrix
    if not any(matrix):
        return picture
    width, height = (picture.height, picture.width) if transposed else (picture.width, picture.height)
    upright = VideoFrame(width, height, "yuv420p")
    for source, target in zip(picture.planes, upright.planes, strict=True):
        pixels = _pixels(source).T if transposed else _pixels(source)
        _pixels(target)[:] = pixels[:: -1 if mirrored_y else 1, :: -1 if mirrored_x else 1]
    upright.colorspace, upright.color_range = picture.colorspace, picture.color_range
    return upright


def _pixels(plane: VideoPlane) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a view of a plane's bytes without row padding."""
    buffer: Any = plane
    return np.frombuffer(buffer, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _spread(picture: VideoFrame) -> float:
    return float(_pixels(picture.planes[0]).std())
