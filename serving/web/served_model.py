"""The model that answers, and its successor."""

from pathlib import Path

from serving.model import trial
from serving.model.stand_ins import BadModel
from serving.prediction import Predictor
from serving.web import logs
from serving.web.metrics import meter
from serving.web.settings import Settings


class ServedModel:
    """The model of the settings' files, as they were when they were last taken over.

    Raises `BadModel`, and `OSError` where a file cannot be read.
    """

    def __init__(self, folder: Path, settings: Settings):
        self._files = [folder / name.strip() for name in settings.model.split(",")]
        self._schema = folder / settings.schema if settings.schema else None
        self._lenient = settings.lenient
        self._take_over()

    def reload(self) -> None:
        """Take over the files as they are now; where they cannot be served, keep the model and say so."""
        try:
            self._take_over()
            meter.model_file("taken_over")
        except (BadModel, OSError) as error:
            meter.model_file("refused")
            logs.model_refused(error)

    def _take_over(self) -> None:
        self.predictor = Predictor(trial.read(self._files, self._schema), self._lenient)
        meter.follow(self.predictor.model.schema)
        logs.model_loaded(self.predictor.model.about)
