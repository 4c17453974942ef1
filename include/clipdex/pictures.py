"""Pictures: upright, in square pixels, small, in one colour space; a proxy and a poster made of them.

Whatever a clip has (10 bits, full range, BT.601, a display matrix, a pixel aspect), the pictures made here are 8-bit
yuv420p in limited-range BT.709 and are tagged so.
"""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_POSTER_SIDE = 360
_PANORAMA = 4  # the long side is at most so many times the short side that was asked for


class Studio:
    """Turns decoded frames of one clip into upright small pictures.

    shown: the clip's size as a player shows it; size: that of the pictures, even [pixels].
    """

    def __init__(self, first: VideoFrame, pixel_aspect: float, short_side: int) -> None:
        self._matrix = _display_matrix(first)
        self._scaler = VideoReformatter()
        turned = self._matrix[0]
        wide = (first.width * pixel_aspect, float(first.height))
        self.shown = (round(wide[turned]), round(wide[1 - turned]))
        self.size = _fitted(*self.shown, short_side)
        self._before = (self.size[turned], self.size[1 - turned])

    def picture(self, frame: VideoFrame) -> VideoFrame:
        width, height = self._before
        small = self._scaler.reformat(
            frame,
            width,
            height,
            "yuv420p",
            src_colorspace=_guessed_space(frame),
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.AREA,
            threads=1,
        )
        return _upright(small, self._matrix)


def encode_proxy(pictures: Sequence[VideoFrame], fps: Fraction) -> bytes:
    """An H.264 mp4 with picture k at k / fps."""
    out = io.BytesIO()
    with av.open(
        out, "w", format="mp4", options={"movflags": "+faststart"}, io_open=lambda *_: _copy(out)
    ) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / fps
        context.thread_count = 1
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        context.options = {"preset": "veryfast", "crf": "23", "bf": "0"}
        for number, picture in enumerate(pictures):
            picture.pts, picture.time_base = number, 1 / fps
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return out.getvalue()


def encode_poster(pictures: Sequence[VideoFrame]) -> bytes:
    """A JPEG of the picture nearest to the middle that shows something."""
    middle = (len(pictures) - 1) / 2
    by_distance = sorted(range(len(pictures)), key=lambda n: (abs(n - middle), n))
    spreads = {n: _spread(pictures[n]) for n in by_distance}
    chosen = next((n for n in by_distance if spreads[n] >= 12), max(by_distance, key=lambda n: spreads[n]))
    picture = pictures[chosen]
    width, height = _fitted(picture.width, picture.height, _POSTER_SIDE)
    still = VideoReformatter().reformat(
        picture,
        width,
        height,
        "yuvj420p",
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.AREA,
        threads=1,
    )
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuvj420p"
    context.time_base = Fraction(1, 25)
    context.color_range = ColorRange.JPEG
    context.thread_count = 1
    context.options = {"q:v": "4", "flags": "+qscale", "global_quality": str(4 * 118)}
    still.pts, still.time_base = 0, Fraction(1, 25)
    return b"".join(bytes(packet) for packet in [*context.encode(still), *context.encode(None)])


def _copy(out: io.BytesIO) -> io.BytesIO:
    """What faststart reads back while it moves the index to the front."""
    return io.BytesIO(out.getvalue())


def _fitted(width: float, height: float, short_side: int) -> tuple[int, int]:
    scale = min(1.0, short_side / min(width, height), _PANORAMA * short_side / max(width, height))
    return _even(width * scale), _even(height * scale)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _guessed_space(frame: VideoFrame) -> Colorspace | None:
    """What a file that does not say most likely means: BT.601 for standard definition, BT.709 above."""
    if frame.colorspace != _UNSPECIFIED:
        return None
    return Colorspace.ITU709 if frame.height > 576 or frame.width >= 1280 else Colorspace.ITU601


def _display_matrix(frame: VideoFrame) -> tuple[int, bool, bool]:
    """Transposed (0 or 1), then mirrored along x, along y."""
    try:
        data = frame.side_data[SideDataType.DISPLAYMATRIX]
    except KeyError:
        return 0, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), "<i4")[:9]
    turned = int(abs(int(b)) > abs(int(a)))
    return (1, bool(c < 0), bool(b < 0)) if turned else (0, bool(a < 0), bool(d < 0))


def _upright(picture: VideoFrame, matrix: tuple[int, bool, bool]) -> VideoFrame:
    transposed, mirror_x, mirror_y = matrix
    if not any(matrix):
        return picture
    width, height = (picture.height, picture.width) if transposed else (picture.width, picture.height)
    upright = VideoFrame(width, height, "yuv420p")
    for source, target in zip(picture.planes, upright.planes, strict=True):
        pixels = _pixels(source)
        pixels = pixels.T if transposed else pixels
        pixels = pixels[:, ::-1] if mirror_x else pixels
        _pixels(target)[:] = pixels[::-1] if mirror_y else pixels
    upright.colorspace, upright.color_range = picture.colorspace, picture.color_range
    return upright


def _pixels(plane: av.video.plane.VideoPlane) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def _spread(picture: VideoFrame) -> float:
    return float(_pixels(picture.planes[0]).std())
