"""Engine selection. The dependencies of an engine are imported only if it is selected."""

from typing import TYPE_CHECKING

from clipdex.captions.captioner import Captioner
from clipdex.captions.model import Model
from clipdex.config import EngineName, Settings
from clipdex.errors import ConfigurationError

if TYPE_CHECKING:  # planning imports this module and must not load a decoder
    from clipdex.captions.preflight import NodeReport
    from clipdex.captions.preflight.cache import Records


def open_captioner(settings: Settings, records: "Records | None" = None) -> Captioner:
    """Return the captioner of the configured engine, without connecting or loading a model.

    records: where the preflights of nodes are kept; None for this process alone
    """
    if settings.engine.name is EngineName.DETECTORS:
        from clipdex.captions.detectors import Detectors

        return Detectors(settings)
    from clipdex.captions.strategies import ModelCaptioner

    return ModelCaptioner(settings, _model(settings, records))


def _model(settings: Settings, records: "Records | None") -> Model:
    if settings.engine.name is EngineName.TRANSFORMERS:
        from clipdex.captions.local.model import TransformersModel

        return TransformersModel(settings)
    from clipdex.captions.http.model import ServerModel

    return ServerModel(settings, records=records)


async def inspect_nodes(settings: Settings, records: "Records | None" = None) -> "list[NodeReport]":
    """Check each node of the engine anew. Raises ConfigurationError if the engine has none."""
    if settings.engine.name in (EngineName.DETECTORS, EngineName.TRANSFORMERS):
        raise ConfigurationError(
            f"the engine {settings.engine.name} runs in this process and has no nodes to check: set "
            "CLIPDEX_ENGINE__NAME to sglang, vllm or tensorrt-llm, and CLIPDEX_ENGINE__BASE_URLS"
        )
    from clipdex.captions.http.model import ServerModel

    model = ServerModel(settings, records=records)
    try:
        return await model.reports()
    finally:
        await model.aclose()
