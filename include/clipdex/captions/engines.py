"""The engine that the settings name. What an engine needs is imported only where it is chosen."""

from clipdex.captions.caption import Captioner
from clipdex.captions.model import Model
from clipdex.config import EngineName, Settings


def open_captioner(settings: Settings) -> Captioner:
    """Nothing is connected or loaded yet: the fingerprint costs nothing."""
    if settings.engine.name is EngineName.DETECTORS:
        from clipdex.captions.detectors import Detectors

        return Detectors(settings)
    from clipdex.captions.strategies import ModelCaptioner

    return ModelCaptioner(settings, _model(settings))


def _model(settings: Settings) -> Model:
    if settings.engine.name is EngineName.TRANSFORMERS:
        from clipdex.captions.local.model import TransformersModel

        return TransformersModel(settings)
    from clipdex.captions.http.model import ServerModel

    return ServerModel(settings)
