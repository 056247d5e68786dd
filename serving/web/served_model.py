"""The model that answers, and its successor."""

from pathlib import Path

from serving.compatibility import BreaksCallers, broken
from serving.model import trial
from serving.model.base import Model
from serving.model.stand_ins import BadModel
from serving.prediction import Predictor
from serving.web import logs
from serving.web.metrics import meter
from serving.web.settings import Settings, variable


class ServedModel:
    """The model of the settings' files, as they were when they were last taken over.

    Raises `BadModel`, and `OSError` where a file cannot be read.
    """

    def __init__(self, folder: Path, settings: Settings):
        self._files = [folder / name.strip() for name in settings.model.split(",")]
        self._schema = folder / settings.schema if settings.schema else None
        self._lenient = settings.lenient
        self._may_break_callers = settings.allow_schema_change
        # Why the files were not taken over when they were last to be.
        self.refusal = ""
        self._take_over(trial.read(self._files, self._schema))

    def reload(self) -> None:
        """Take over the files as they are now; where they cannot be served, or would break callers, keep the model and
        say so."""
        try:
            model = trial.read(self._files, self._schema)
            differences = broken(self.predictor.model.schema, model.schema, self._lenient)
            if differences and not self._may_break_callers:
                allow = f"{variable('allow_schema_change')}=1 takes it over all the same"
                raise BreaksCallers(f"it would break callers: {'; '.join(differences)} ({allow})")
            self._take_over(model)
            self.refusal = ""
            meter.model_file("taken_over")
        except (BadModel, BreaksCallers, OSError) as error:
            self.refusal = (error.strerror or "") if isinstance(error, OSError) else str(error)
            meter.model_file("refused")
            logs.model_refused(error)

    def _take_over(self, model: Model) -> None:
        self.predictor = Predictor(model, self._lenient)
        meter.follow(model)
        logs.model_loaded(model.about)
