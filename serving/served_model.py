"""The model that answers, and its successor."""

from pathlib import Path

from serving import logs, trial
from serving.metrics import meter
from serving.pickles import BadModel


class ServedModel:
    """The model of a file, as it was when it was last taken over.

    Raises `BadModel`, and `OSError` where the file cannot be read.
    """

    def __init__(self, file: Path):
        self._file = file
        self.model = trial.read(file)

    def reload(self) -> None:
        """Take over the file as it is now; where that cannot be served, keep the model and say so."""
        try:
            self.model = trial.read(self._file)
        except (BadModel, OSError) as error:
            meter.model_file("refused")
            logs.model_refused(error)
        else:
            meter.model_file("taken_over")
            logs.model_loaded(self.model.about)
