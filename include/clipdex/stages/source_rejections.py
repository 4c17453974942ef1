"""Rejections by the source: whether clips are missing or unreadable by themselves, or their disk is away.

A mount that goes away can leave the root of an archive in place: it may hold one camera only, or cover other files.
Therefore other clips are witnesses. Clips are missing by themselves if others are in their folder, and unreadable by
themselves if others of the batch can be read.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from clipdex.errors import Reason, SourceUnavailable, Unavailable
from clipdex.runs.outcomes import ClipOutcome
from clipdex.stages.rejection_policy import PolicyViolation
from clipdex.storage.clip import Clip
from clipdex.storage.source import Source

_WITNESSES = 3


def source_violation(
    source: Source, clips: Sequence[Clip], rejected: Mapping[str, ClipOutcome]
) -> PolicyViolation | None:
    """Return a violation if clips seem to be missing or unreadable because a disk, mount or bucket is away.

    clips: of the batch; rejected: by clip_id
    """
    try:
        return _violation(source, clips, rejected)
    except Unavailable as error:
        return PolicyViolation(Reason.MISSING, str(error), SourceUnavailable)


def _violation(source: Source, clips: Sequence[Clip], rejected: Mapping[str, ClipOutcome]) -> PolicyViolation | None:
    reasons = {clip.clip_id: outcome.reason for clip in clips if (outcome := rejected.get(clip.clip_id))}
    missing = [clip for clip in clips if reasons.get(clip.clip_id) == Reason.MISSING]
    unreadable = [clip for clip in clips if reasons.get(clip.clip_id) == Reason.UNREADABLE]
    others = [clip for clip in clips if reasons.get(clip.clip_id) not in (Reason.MISSING, Reason.UNREADABLE)]
    if folder := _vanished(source, clips, missing):
        return PolicyViolation(
            Reason.MISSING,
            f"{folder} in {source.url} is gone, or none of its planned clips is there any more: check the mount or the "
            "disk; no clip counts as missing. If it was deleted, run the day again",
            SourceUnavailable,
        )
    if unreadable and not _any_readable(source, others) and (others or len(unreadable) > 1):
        return PolicyViolation(
            Reason.UNREADABLE,
            f"{len(unreadable)} of {len(clips)} clips cannot be read from {source.url}, and none of the others: check "
            "its mount, its permissions or its key",
            SourceUnavailable,
        )
    return None


def _vanished(source: Source, clips: Sequence[Clip], missing: Sequence[Clip]) -> str | None:
    """Return a folder that went away as a whole, None if its clips were deleted one by one."""
    gone = {clip.path for clip in missing}
    planned: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        planned[_folder(clip.path)].append(clip)
    for folder in sorted({_folder(path) for path in gone}):
        left = [clip for clip in planned[folder] if clip.path not in gone]
        if any(source.version_now(clip) for clip in left) or source.has_clips(folder):
            continue
        alone = len(planned[folder]) == 1
        if not (alone and (source.names(folder) is not None or source.names(_folder(folder)))):
            return folder or "."
    return None


def _any_readable(source: Source, clips: Sequence[Clip]) -> bool:
    return any(source.can_read(clip) for clip in clips[:_WITNESSES])


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
