"""Any other classifier that gives probabilities, scored by scikit-learn."""

from functools import partial
from typing import Any

from msgspec import UNSET

from serving.model import packing, pickles
from serving.model.base import About, NotExplainable, Reason, Unit
from serving.model.packing import Parts
from serving.model.sound import require_sound_trees
from serving.model.stand_ins import BadModel, Global
from serving.records import ZERO, Columns
from serving.schema import Schema
from serving.turns import in_turns

# Records that scikit-learn scores at once, in which nobody else is answered.
SCORED_AT_ONCE = 1000


class SklearnModel:
    """A vectorizer, scalers and a classifier of the scikit-learn that is installed."""

    def __init__(self, data: list[bytes], inert: Parts, named: set[Global], schema: Schema, about: About):
        """Of pickles that the installed scikit-learn wrote. Raises `BadModel` for another's."""
        # They take a second, and a linear model does without.
        import joblib  # noqa: PLC0415
        import sklearn  # noqa: PLC0415

        state = inert.classifier.state
        if "classes_" not in state and ("coef_" in state or about.classifier.endswith("Regressor")):
            raise BadModel(f"its {about.classifier} is no classifier: it answers no yes/no question")
        if not (written_by := state.get("_sklearn_version")):
            raise BadModel(f"its {about.classifier} is no classifier of scikit-learn")
        if written_by != sklearn.__version__:
            raise BadModel(
                f"its {about.classifier} was written by scikit-learn {written_by}, and {sklearn.__version__} is "
                "installed: what scikit-learn itself scores must be of its version; train it again, or install that one"
            )
        parts = packing.parts([pickles.load(each, named) for each in data])
        require_sound_trees(parts.classifier, len(parts.vectorizer.feature_names_))
        if not hasattr(parts.classifier, "predict_proba"):
            raise BadModel(f"its {about.classifier} gives no probabilities")
        if (classes := len(parts.classifier.classes_)) != 2:
            raise BadModel(f"it has {classes} classes, and a yes/no question two")
        self.schema = schema
        self.about = about
        self.absent = ZERO
        self.reasons_unit: Unit | None = None
        self._parts = parts
        # Whatever n_jobs it was trained with: processes of joblib's would outlive a worker, and hold up its end.
        self._in_this_process = partial(joblib.parallel_config, backend="sequential")
        self._scalers = [(scaler, packing.places(scaler, parts.vectorizer.feature_names_)) for scaler in parts.scalers]
        for scaler in parts.scalers:  # or it warns of columns without names
            vars(scaler).pop("feature_names_in_", None)

    def probabilities(self, columns: Columns) -> list[float]:
        """How probable yes is for each record."""
        names, rows = self.schema.names, [*zip(*columns, strict=True)]
        found: list[float] = []
        for start in in_turns(range(0, len(rows), SCORED_AT_ONCE)):
            block = rows[start : start + SCORED_AT_ONCE]
            records = [
                {name: value for name, value in zip(names, row, strict=True) if value is not UNSET} for row in block
            ]
            matrix: Any = self._parts.vectorizer.transform(records)
            for scaler, places in self._scalers:
                matrix = _scaled(matrix, scaler, places)
            with self._in_this_process():
                found += self._parts.classifier.predict_proba(matrix)[:, 1].tolist()
        return found

    def reasons(self, columns: Columns) -> list[list[Reason]]:  # noqa: ARG002 (as the others take it)
        """It has none."""
        scored = f"this {self.about.classifier} is scored by scikit-learn itself"
        raise NotExplainable(f"Reasons are given by linear models and trees, and {scored}.")


def _scaled(matrix: Any, scaler: Any, places: list[int]) -> Any:
    """A matrix of features of which a scaler has scaled the columns in these places."""
    if places == [*range(matrix.shape[1])]:
        return scaler.transform(matrix)
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    dense[:, places] = scaler.transform(dense[:, places])
    return dense
