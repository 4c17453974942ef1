"""Test what a pipeline returns of one clip, of the days, and of clips that are not in the index."""

import pytest

import clipdex
from clipdex.config import Settings
from clipdex.errors import InvalidFilter, NothingIndexed, UnknownClip
from clipdex.storage.artifacts import caption_path
from tests.support.engine import StandIn
from tests.support.indexes import SMALL, edge_opener, point
from tests.support.pipeline import Pipeline

DAYS = ["2026-11-01", "2026-11-02", "2026-11-03"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Pipeline:
    """One, two and three clips on three days, and an empty file on the last one."""
    with StandIn(words=300) as engine:
        archive = Pipeline(tmp_path_factory.mktemp("archive"), [engine.url])
        for number, day in enumerate(DAYS, 1):
            archive.put(number, day, first=10 * number)
        archive.put(1, DAYS[-1], first=99)[0].write_bytes(b"")
        archive.run(days=DAYS)
    return archive


def test_a_clip_has_its_whole_caption(archive):
    [hit] = archive.search("what is to be seen", limit=1, weak=True)
    clip = archive.clip(hit.clip_id)
    [known] = [one for one in archive.outcomes(day=hit.day).values() if one.clip_id == hit.clip_id]
    stored = archive.store.caption(known.caption_key)
    assert stored is not None and len(hit.text) < len(stored.text)
    assert (clip.text, clip.segments, clip.captioned_at) == (stored.text, stored.segments, stored.created_at)
    assert (clip.uri, clip.day, clip.poster, clip.duration_s) == (hit.uri, hit.day, hit.poster, hit.duration_s)
    assert (clip.engine, clip.width, clip.height) == ("sglang", 64, 48)


def test_a_clip_whose_caption_is_gone_has_the_texts_of_its_chunks(archive):
    [hit] = archive.search("what is to be seen", limit=1, weak=True, where={"day": DAYS[0]})
    [known] = archive.outcomes(day=DAYS[0]).values()
    whole = archive.store.read(caption_path(known.caption_key))
    archive.store.delete([caption_path(known.caption_key)])
    clip = archive.clip(hit.clip_id)
    archive.store.write(caption_path(known.caption_key), whole)
    assert clip.captioned_at == "" and len(clip.segments) > 1
    assert hit.text in {one.text for one in clip.segments} and hit.text in clip.text
    assert clip.text.split()[0] == archive.clip(hit.clip_id).text.split()[0]


def test_an_unknown_clip_and_a_file_of_parts_are_named(tmp_path):
    home = Settings.load(home=tmp_path)
    with pytest.raises(NothingIndexed):
        clipdex.Pipeline(home).clip("a")
    with edge_opener(tmp_path)(SMALL) as index:
        index.ensure()
        index.upsert([point(f"part{n}", f"Part {n}.", key=f"k{n}", part_of="film", part_no=n) for n in range(3)])
    with pytest.raises(UnknownClip, match="the index has no clip 'b'"):
        clipdex.Pipeline(home).clip("b")
    with pytest.raises(UnknownClip, match=r"'film' is a file that is indexed as 3 parts; .*part_of=film"):
        clipdex.Pipeline(home).clip("film")


def test_days_have_their_clips_the_last_one_first(archive):
    def days(**given: object) -> tuple[list[tuple[str, int]], bool]:
        found = archive.days(**given)
        return [(one.value, one.clips) for one in found.values], found.more

    assert days() == ([(DAYS[2], 3), (DAYS[1], 2), (DAYS[0], 1)], False)
    assert days(limit=1) == ([(DAYS[2], 3)], True)
    assert days(limit=1, last=DAYS[1]) == ([(DAYS[1], 2)], True)
    assert days(first=DAYS[1], last=DAYS[1]) == ([(DAYS[1], 2)], False)
    assert days(last="2026-10-31") == ([], False)
    assert days(where={"engine": "detectors"}) == ([], False)
    with pytest.raises(InvalidFilter, match="day: given twice"):
        days(last=DAYS[1], where={"day": DAYS[0]})
    with pytest.raises(InvalidFilter, match=r"3\.11\.2026"):
        days(first="3.11.2026")


def test_the_outcome_of_a_clip_that_is_not_in_the_index_is_found_by_its_day(archive):
    [empty] = [one for one in archive.outcomes(day=DAYS[-1]).values() if one.reason]
    with pytest.raises(UnknownClip):
        archive.clip(empty.clip_id)
    found = archive.outcome(empty.clip_id, DAYS[-1])
    assert found is not None and (found.outcome, found.reason) == ("quarantined", "empty_file")
    assert archive.outcome(empty.clip_id, DAYS[0]) is None
    with pytest.raises(InvalidFilter, match=r"'\.\./x' is not a date"):
        archive.outcome(empty.clip_id, "../x")
