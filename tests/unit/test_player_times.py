"""Times of captions and hits count on the clock of a player of the file; outcomes name the film of several."""

import pytest

from clipdex.config import Chunking
from clipdex.index.chunking import split
from clipdex.storage.caption import Caption, Segment
from tests.support.clips import write_clip
from tests.support.engine import StandIn
from tests.support.indexes import caption
from tests.support.pipeline import DAY, Pipeline
from tests.support.videos import Video, write_videos


class Words:
    max_tokens = 500

    def count_tokens(self, text: str) -> int:
        return len(text.split())


@pytest.fixture
def pipeline(tmp_path):
    with StandIn(words=80) as engine:
        one = Pipeline(tmp_path, [engine.url], sampling={"max_frames": 8})
        (one.clips / DAY.replace("-", "/")).mkdir(parents=True)
        yield one


def test_a_hit_leads_a_player_to_what_it_describes(pipeline):
    write_clip(
        pipeline.clips / DAY.replace("-", "/") / "late.mp4",
        times=[3 + k / 10 for k in range(160)],
        fps=10,
        size=(160, 96),
        audio_seconds=19,
    )
    assert pipeline.run().total("indexed") == 1
    (key,) = {one.caption_key for one in pipeline.outcomes().values()}
    stored = pipeline.store.caption(key)
    assert (stored.start_s, stored.duration_s) == (pytest.approx(3.0, abs=0.01), pytest.approx(16.0, abs=0.01))
    assert [(round(one.start_s, 1), round(one.end_s, 1)) for one in stored.segments] == [(3.0, 11.0), (11.0, 19.0)]
    assert stored.text == "\n\n".join(one.text for one in stored.segments)
    assert "11.0 s" not in stored.text
    times = {(round(one["start_s"], 1), round(one["end_s"], 1)) for one in pipeline.points().values()}
    assert times <= {(3.0, 11.0), (11.0, 19.0), (3.0, 19.0)} and times


def test_the_outcome_of_a_file_with_two_films_names_the_one_that_was_captioned(pipeline):
    path = pipeline.clips / DAY.replace("-", "/") / "dual.mp4"
    write_videos(path, [Video((160, 96), range(30)), Video((160, 96), range(100, 130))])
    assert pipeline.run().total("indexed") == 1
    (outcome,) = pipeline.outcomes().values()
    assert outcome.detail == "video stream 0 (160x96) of several films; not described: stream 1 (160x96)"


def test_a_caption_without_segments_covers_the_pictures_of_its_clip():
    stored = caption("A red car. A blue car.", duration_s=10.0)
    (chunk,) = split(stored, Words(), Chunking())
    assert (chunk.start_s, chunk.end_s) == (0.0, 10.0)
    record = {**stored.to_json(), "start_s": 3.0}
    (chunk,) = split(Caption.from_json(record), Words(), Chunking())
    assert (chunk.start_s, chunk.end_s) == (3.0, 13.0)


def test_a_caption_of_an_earlier_release_starts_at_zero():
    record = caption("A red car.", segments=(Segment(0.0, 10.0, "A red car."),)).to_json()
    del record["start_s"], record["film"]
    assert (Caption.from_json(record).start_s, Caption.from_json(record).end_s) == (0.0, 10.0)
