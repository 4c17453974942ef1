"""How a collection lies on a Qdrant server: quantization, memory, shards, copies, strict mode.

docs/scale.md has the arithmetic of the sizes.
"""

import math
from dataclasses import dataclass
from typing import Any

from qdrant_client import models

from clipdex import config
from clipdex.config import MOST_HNSW_EF, MOST_OVERSAMPLING, Quantization
from clipdex.index.points import DENSE

_MOST_POINTS_PER_WRITE = 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """Hold what is wanted of a collection, see clipdex.config.Index. None leaves it as the server has it."""

    quantization: Quantization | None = None
    vectors_on_disk: bool | None = None
    payload_on_disk: bool | None = None
    shard_number: int | None = None
    replication_factor: int | None = None
    write_consistency_factor: int | None = None
    strict_mode: bool | None = None

    @classmethod
    def of(cls, settings: config.Index) -> "Layout":
        """Return the layout for the expected points, with the fields that are set in its place."""
        sized = next(layout for most, layout in SIZES if settings.expected_points <= most)
        return cls(*(_first(getattr(settings, name), getattr(sized, name)) for name in cls.__slots__))


SIZES = (
    (5_000_000, Layout()),
    (20_000_000, Layout(Quantization.TURBO, vectors_on_disk=True, shard_number=3)),
    (math.inf, Layout(Quantization.TURBO, vectors_on_disk=True, shard_number=12)),
)
"""Layouts by the most points that they are for: around 1, 10 and 100 million."""


def new_collection(layout: Layout, dimension: int) -> dict[str, Any]:
    """Return the arguments of create_collection(). Filters of fields without an index are refused unless allowed."""
    dense = models.VectorParams(size=dimension, distance=models.Distance.COSINE, memory=_memory(layout.vectors_on_disk))
    return {
        "vectors_config": {DENSE: dense},
        "quantization_config": _quantization(layout) if layout.quantization is not Quantization.NONE else None,
        "payload": _payload(layout),
        "shard_number": layout.shard_number,
        "replication_factor": layout.replication_factor,
        "write_consistency_factor": layout.write_consistency_factor,
        "strict_mode_config": _strict_mode(layout.strict_mode is not False),
    }


def changes(layout: Layout, found: models.CollectionConfig) -> dict[str, Any]:
    """Return the arguments of update_collection() that bring a collection to this layout; empty if it has it."""
    params, wanted = found.params, dict[str, Any]()
    dense = params.vectors[DENSE] if isinstance(params.vectors, dict) else None
    if layout.quantization is not None and _differs(layout, found.quantization_config):
        wanted["quantization_config"] = _quantization(layout)
    if dense is not None and _moves(layout.vectors_on_disk, dense.memory, dense.on_disk or False):
        wanted["vectors_config"] = {DENSE: models.VectorParamsDiff(memory=_memory(layout.vectors_on_disk))}
    diff = dict[str, Any]()
    on_disk = params.on_disk_payload is not False
    if _moves(layout.payload_on_disk, params.payload.memory if params.payload else None, on_disk):
        diff["payload"] = _payload(layout)
    for name in ("replication_factor", "write_consistency_factor"):
        if (value := getattr(layout, name)) is not None and value != getattr(params, name):
            diff[name] = value
    if diff:
        wanted["collection_params"] = models.CollectionParamsDiff(**diff)
    strict = bool(found.strict_mode_config and found.strict_mode_config.enabled)
    if layout.strict_mode is not None and layout.strict_mode is not strict:
        wanted["strict_mode_config"] = _strict_mode(layout.strict_mode)
    return wanted


def search_params(settings: config.Index) -> models.SearchParams | None:
    """Return how the vectors are searched; None for the server's defaults.

    The scores of quantized vectors are rescored unless that is turned off: relevance is calibrated on exact cosines.
    """
    quantized = Layout.of(settings).quantization not in (None, Quantization.NONE)
    rescore = _first(settings.rescore, True if quantized else None)
    among = None
    if rescore is not None or settings.oversampling is not None:
        among = models.QuantizationSearchParams(rescore=rescore, oversampling=settings.oversampling)
    if among is None and settings.hnsw_ef is None and not settings.exact:
        return None
    return models.SearchParams(hnsw_ef=settings.hnsw_ef, exact=settings.exact or None, quantization=among)


def _first(value: Any, default: Any) -> Any:
    return default if value is None else value


def _memory(on_disk: bool | None) -> models.Memory | None:
    return None if on_disk is None else models.Memory.COLD if on_disk else models.Memory.CACHED


def _moves(on_disk: bool | None, memory: models.Memory | None, was_on_disk: bool) -> bool:
    """Return whether the wanted place is another one. was_on_disk: by the flag of servers before 1.19"""
    if on_disk is None:
        return False
    return on_disk is not (was_on_disk if memory is None else memory is models.Memory.COLD)


def _payload(layout: Layout) -> models.PayloadStorageParams | None:
    memory = _memory(layout.payload_on_disk)
    return None if memory is None else models.PayloadStorageParams(memory=memory)


def _quantization(layout: Layout) -> Any:
    """Return the configuration. If the vectors are on disk, the quantized ones are pinned to memory."""
    memory = models.Memory.PINNED if layout.vectors_on_disk else None
    match layout.quantization:
        case Quantization.INT8:
            int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, memory=memory)
            return models.ScalarQuantization(scalar=int8)
        case Quantization.TURBO:
            four_bits = models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4, memory=memory)
            return models.TurboQuantization(turbo=four_bits)
        case Quantization.NONE:
            return models.Disabled.DISABLED
        case None:
            return None


def _differs(layout: Layout, found: Any) -> bool:
    match found:
        case None:
            return layout.quantization is not Quantization.NONE
        case models.ScalarQuantization(scalar=inner):
            same = layout.quantization is Quantization.INT8
        case models.TurboQuantization(turbo=inner):
            same = layout.quantization is Quantization.TURBO and inner.bits in (None, models.TurboQuantBitSize.BITS4)
        case _:
            return True
    pinned = inner.memory is models.Memory.PINNED or (inner.memory is None and inner.always_ram)
    return not same or bool(layout.vectors_on_disk and not pinned)


def _strict_mode(enabled: bool) -> models.StrictModeConfig:
    if not enabled:
        return models.StrictModeConfig(enabled=False)
    return models.StrictModeConfig(
        enabled=True,
        unindexed_filtering_retrieve=False,
        unindexed_filtering_update=False,
        search_max_hnsw_ef=MOST_HNSW_EF,
        search_max_oversampling=MOST_OVERSAMPLING,
        upsert_max_batchsize=_MOST_POINTS_PER_WRITE,
    )
