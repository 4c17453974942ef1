"""More like this clip: the clips whose captions mean the same, from the stored vectors, without an embedding model."""

from collections.abc import Callable, Sequence

from clipdex.config import Settings
from clipdex.index import Filters, Hit, Index, Query, Sparse, open_index
from clipdex.index.clips import points_of
from clipdex.index.diversity import diversified, mean_vector, pool
from clipdex.index.search import ClipHit, clip_hit
from clipdex.index.where import Where, in_index, parse

_CHUNKS_PER_CLIP = 4


def similar(
    index: Index,
    clip_id: str,
    *,
    limit: int = 10,
    filters: Filters | None = None,
    related: bool = False,
    diversity: float = 0.0,
) -> list[ClipHit]:
    """Return the clips most similar to a clip, best first. Their score is the cosine of their best chunk.

    clip_id: of a clip, or of a file that is cut into parts
    related: include exact copies of it, and parts of the same file
    Raises UnknownClip, IndexUnavailable.
    """
    own = points_of(index, clip_id)
    vectors = index.vectors(sorted({hit.payload["clip_id"] for hit in own}))
    target = mean_vector([vector for of_clip in vectors.values() for vector in of_clip]).tolist()
    kept, wanted_clips = in_index(index, filters), pool(limit, diversity)
    wanted = wanted_clips * _CHUNKS_PER_CLIP + len(own)
    is_left_out = _left_out(own, clip_id, related)
    while True:
        hits = index.nearest(Query(target, Sparse((), ()), wanted, kept)).dense
        groups: dict[str, list[Hit]] = {}
        for hit in sorted(hits, key=lambda hit: (-round(hit.score, 6), hit.id)):
            if not is_left_out(hit):
                groups.setdefault(hit.payload["clip_id"], []).append(hit)
        if len(groups) >= wanted_clips or len(hits) < wanted:
            clips = [clip_hit(group) for group in groups.values()]
            return diversified(index, clips[:wanted_clips], limit, diversity)
        wanted *= 4


def similar_once(
    settings: Settings,
    clip_id: str,
    *,
    limit: int = 10,
    where: Where | None = None,
    related: bool = False,
    diversity: float = 0.0,
) -> list[ClipHit]:
    """Open the index and return similar(). Raises InvalidFilter, NothingIndexed if the alias is unset."""
    filters = parse(where, settings)
    with open_index(settings) as index:
        return similar(index, clip_id, limit=limit, filters=filters, related=related, diversity=diversity)


def _left_out(own: Sequence[Hit], clip_id: str, related: bool) -> Callable[[Hit], bool]:
    """Return a function: whether a point is of the clip itself, or related to it and to be left out.

    own: the points of the clip, or of all parts of the file. Copies share their caption, or, captioned under other
    settings, their poster, which is named for the content.
    """
    clips = {clip_id, *(hit.payload["clip_id"] for hit in own)}
    files, keys, posters = (
        {value for hit in own if (value := hit.payload.get(name))} for name in ("part_of", "caption_key", "poster")
    )

    def is_left_out(hit: Hit) -> bool:
        payload = hit.payload
        clip, file = payload["clip_id"], payload.get("part_of")
        if clip in clips or file == clip_id:
            return True
        if related:
            return False
        copied = payload.get("caption_key") in keys or payload.get("poster") in posters
        return copied or file in files or clip in files

    return is_left_out
