"""Engine selection. The dependencies of an engine are imported only if it is selected."""

from clipdex.captions.captioner import Captioner
from clipdex.captions.model import Model
from clipdex.config import EngineName, Settings


def open_captioner(settings: Settings) -> Captioner:
    """Return the captioner of the configured engine, without connecting or loading a model."""
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
