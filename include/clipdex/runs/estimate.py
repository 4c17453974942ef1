"""Estimate: batches and hours of a run before it starts, from measured rates."""

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from clipdex.config import EngineName, Settings
from clipdex.errors import ConfigurationError
from clipdex.presets import DETECTORS, PROFILES
from clipdex.runs.planning import batch_size
from clipdex.runs.survey import Survey
from clipdex.runs.vanished import VanishedFolder
from clipdex.storage.listing import Skipped


@dataclass(slots=True)
class Totals:
    """Sum up surveys.

    discovered, to_do, moved: number of clips by day
    points_only: number of clips in to_do, by day, that have a caption
    vanished: folders without their clips
    skipped: the files that are no clips; nothing: why no clip was found
    """

    discovered: dict[str, int] = field(default_factory=dict)
    to_do: dict[str, int] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    points_only: dict[str, int] = field(default_factory=dict)
    vanished: list[VanishedFolder] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    nothing: str = ""

    def add(self, found: Survey) -> None:
        self.discovered |= found.discovered
        self.to_do |= {day: len(clips) for day, clips in found.to_do.items()}
        self.moved |= found.moved
        self.points_only |= found.points_only
        self.vanished += found.vanished
        self.skipped += found.skipped

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "skipped": self.skipped.to_json(), "excluded": self.skipped.excluded}


@dataclass(frozen=True, slots=True)
class Speed:
    """Hold the expected throughput. workers: GPUs or cores; clips_per_second: of each [1/s]; None if unknown."""

    workers: int
    clips_per_second: float | None
    basis: str
    on_gpus: bool = True


def expected_speed(settings: Settings, gpus: int | None, profile: str | None, rate: float | None) -> Speed:
    """Return the throughput to plan with: the given rate, or what was measured with a profile or the detectors.

    rate: clips/s of one GPU. Raises ConfigurationError for GPUs or a profile without a measured or given rate.
    """
    workers, of_all = gpus or 1, f"{gpus or 1} GPUs at"
    if rate is not None:
        return Speed(workers, rate, f"{of_all} {rate:g} clips/s each")
    if profile is not None:
        measured = PROFILES[profile]
        if measured is None:
            raise ConfigurationError(
                f"the profile {profile} was never measured: give --clips-per-second-per-gpu, such as the clips/s that "
                "the log of a first batch shows"
            )
        each = f"{of_all} {measured.clips_per_second:g} clips/s each"
        return Speed(workers, measured.clips_per_second, f"{each}, profile {profile}, {measured.conditions}")
    known = ", ".join(name for name, measured in PROFILES.items() if measured)
    needed = f"give --profile ({known}) or --clips-per-second-per-gpu"
    if gpus is not None:
        raise ConfigurationError(f"--gpus needs a rate: {needed}")
    if settings.engine.name is not EngineName.DETECTORS:
        return Speed(workers, None, needed)
    cores, each_core = os.cpu_count() or 1, DETECTORS.clips_per_second
    basis = f"{cores} cores at {each_core:g} clips/s each, detectors, {DETECTORS.conditions}"
    return Speed(cores, each_core, basis, on_gpus=False)


def estimate(settings: Settings, totals: Totals, speed: Speed) -> dict[str, Any]:
    """Return batches and hours; hours and rates are None if the speed is unknown.

    A clip that has a caption is part of a batch, and takes no time of the engine.
    """
    by_day = totals.to_do
    clips = sum(by_day.values())
    to_caption = clips - sum(totals.points_only.values())
    size = settings.batches.size
    # Every day is a run of its own, but for a number of clips without days.
    sizes = {day: size if day == "all" else batch_size(settings.batches, [count]) for day, count in by_day.items()}
    batches = {day: -(-count // sizes[day]) for day, count in by_day.items()}
    each = speed.clips_per_second
    return {
        "clips": clips,
        "batches": sum(batches.values()),
        "batches_by_day": batches,
        "batch_size": max(sizes.values(), default=size),
        "clips_per_second": None if each is None else each * speed.workers,
        "hours": None if each is None else to_caption / (each * speed.workers) / 3600,
        "gpu_seconds_per_clip": 1 / each if each is not None and speed.on_gpus else None,
        "basis": speed.basis,
    }
