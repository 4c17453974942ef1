"""The web app without Airflow, over a few clips with playbacks, on a free port of this machine."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import uvicorn
from av.video.frame import VideoFrame

from clipdex.config import Settings
from clipdex.index import Collection, make_points, open_index
from clipdex.index import replace as replace_points
from clipdex.index.chunking import Chunk
from clipdex.index.embeddings import open_embedder
from clipdex.runs.outcomes import ClipOutcome, Outcome, add_to_ledger
from clipdex.storage.artifacts import Store, playback_path, poster_path
from clipdex.storage.caption import Segment
from clipdex.web.app import create_app
from tests.support.indexes import caption

DAY, FPS, LENGTH_S = "2026-11-03", 10, 10
HOSTILE = "<img src=x onerror=alert(1)>"

CLIPS = {
    "lorry": ("A street is empty.", "A green lorry turns left at the crossing.", "The lorry stops."),
    "lorries": ("Two lorries wait.", f"A lorry with the sign {HOSTILE} drives off.", "The yard is empty."),
    "kite": ("A kite flies over a beach.", "The kite falls.", "A child picks it up."),
    "unplayed": ("A lorry stands in the dark.", "Its lights go on.", "It leaves."),
}
"""Captions of three paragraphs: 0 to 4 s, 4 to 8 s and 8 to 10 s. The last clip has no playback."""


@dataclass(frozen=True, slots=True)
class Site:
    url: str


@contextmanager
def served(home: Path) -> Iterator[Site]:
    """Serve an archive until the end of the block."""
    settings = fill(home)
    app = create_app(lambda: settings, lambda: None, lambda request: "/login")
    app.state.backend.load()
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join()


def fill(home: Path) -> Settings:
    settings = Settings.load(home=home, source={"metadata": {"camera": "string"}})
    store, model = Store.open(settings), open_embedder(settings.embedding)
    with open_index(settings, Collection.of(settings, model)) as index:
        index.ensure()
        for number, (clip_id, texts) in enumerate(CLIPS.items()):
            content = f"{number:064x}"
            segments = tuple(map(Segment, (0.0, 4.0, 8.0), (4.0, 8.0, 10.0), texts))
            stored = replace(
                caption(" ".join(texts), key=f"{number:032x}", segments=segments, duration_s=LENGTH_S),
                content=content, poster=poster_path(content),
            )  # fmt: skip
            chunks = [Chunk(no, one.text, one.start_s, one.end_s) for no, one in enumerate(segments)]
            vectors = model.embed_documents([chunk.text for chunk in chunks])
            uri, more = f"file:///archive/{clip_id}.mp4", {"camera": f"cam-{number % 2}"}
            replace_points(index, {clip_id: make_points(clip_id, uri, DAY, stored, chunks, vectors, more)})
            store.write_caption(stored)
            write_film(store, content, number, playable=clip_id != "unplayed")
    broken = ClipOutcome(
        "broken", "/archive/broken.mp4", DAY, "v", Outcome.QUARANTINED, "b", "not_a_video", HOSTILE,
        at="2026-11-04T12:00:00.000+00:00",
    )  # fmt: skip
    add_to_ledger(store, DAY, [broken])
    return settings


def write_film(store: Store, content: str, number: int, *, playable: bool) -> None:
    """Write a playback in which a square moves, with a tone, and its poster."""
    path = Path(store._path(playback_path(content)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": str(FPS)})
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        for step in range(FPS * LENGTH_S):
            picture = np.full((180, 320, 3), (30 + 40 * number, 60, 90), np.uint8)
            left = 3 * step % 280
            picture[70:110, left : left + 40] = 250, 200, 60
            frame = VideoFrame.from_ndarray(picture).reformat(format="yuv420p")
            frame.pts, frame.time_base = step, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    with av.open(path) as film:
        image = next(film.decode(video=0)).to_image()
    if not playable:
        path.unlink()
    poster = Path(store._path(poster_path(content)))
    poster.parent.mkdir(parents=True, exist_ok=True)
    image.save(poster, "JPEG")
