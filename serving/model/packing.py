"""How models are packed: which of a file's objects is the vectorizer, which scales its columns, which classifies."""

import sys
from collections.abc import Callable, Iterator, Sequence
from operator import add, mul, sub, truediv
from typing import Any, NamedTuple

from serving.fields import Field
from serving.model import grown_by_xgboost
from serving.model.stand_ins import BadModel, Global, Inert, names

VECTORIZER = ("sklearn.feature_extraction._dict_vectorizer", "DictVectorizer")
PIPELINES = {("sklearn.pipeline", "Pipeline"), ("imblearn.pipeline", "Pipeline")}

# Where the classes are whose objects choose rows to train on, and do nothing to a record.
SAMPLERS = ("imblearn.over_sampling.", "imblearn.under_sampling.", "imblearn.combine.")

# What looks for the best of several models, and then is that one.
SEARCHES = {
    *(("sklearn.model_selection._search", name) for name in ("GridSearchCV", "RandomizedSearchCV")),
    *(("sklearn.model_selection._search_successive_halving", f"Halving{how}SearchCV") for how in ("Grid", "Random")),
}

# What often lies beside a model and is none of its parts: what made numbers of the answers.
LABELS = ("sklearn.preprocessing._label", "LabelEncoder")

# Libraries that have no estimators; a value that cannot be read is of none.
OTHERS = frozenset({*sys.stdlib_module_names, "numpy", "pandas", "scipy", ""})

SCALERS = {
    ("sklearn.preprocessing._data", name) for name in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")
}

# Names that an error shows.
MOST_NAMED = 5

# Something done to each column, with an operand of its own.
Operation = tuple[Callable[[float, float], float], list[float]]


class Parts(NamedTuple):
    """What a model consists of, as stand-ins or as scikit-learn's objects."""

    vectorizer: Any
    scalers: list[Any]
    classifier: Any

    @property
    def all(self) -> list[Any]:
        """All of them, in order."""
        return [self.vectorizer, *self.scalers, self.classifier]

    @property
    def scaling(self) -> list[Operation] | None:
        """What the scalers of stand-ins do to all features, one after the other; None where that is more than
        arithmetic. Raises `BadModel` where they are of other columns."""
        features, steps = self.vectorizer.state["feature_names_"], list[Operation]()
        for scaler in self.scalers:
            at = places(scaler, features)
            if (of_columns := operations(scaler, self.vectorizer.state["sparse"] and not is_of_frame(scaler))) is None:
                return None
            for operate, operands in of_columns:
                of_features = [0.0 if operate in (add, sub) else 1.0] * len(features)
                for place, operand in zip(at, operands, strict=True):
                    of_features[place] = operand
                steps.append((operate, of_features))
        return steps


def parts(packed: Any) -> Parts:
    """The parts of a pair, as tuple, list, dictionary or `Pipeline`, however nested, with scalers between or without.

    Raises `BadModel`.
    """
    steps = [*{id(step): step for step in _steps(packed)}.values()]
    vectorizers = [step for step in steps if name_of(step) == VECTORIZER]
    scalers = [step for step in steps if name_of(step) in SCALERS]
    others = [step for step in steps if name_of(step) not in {VECTORIZER, *SCALERS}]
    if len(vectorizers) != 1 or len(others) != 1:
        others_named = sorted(".".join(each) for each in names([packed]))[:MOST_NAMED]
        found = ", ".join([name_of(step)[1] for step in steps] or others_named) or "nothing of the kind"
        advice = _advice(vectorizers, others) if steps else ""
        raise BadModel(f"it is not a pair of a DictVectorizer and a classifier, but has {found}{advice}")
    return Parts(vectorizers[0], scalers, others[0])


def _advice(vectorizers: list[Any], others: list[Any]) -> str:
    """What to do about a packing that is no pair."""
    if len(vectorizers) == 1 and not others:
        return "; the classifier's file can stand beside it, with a comma"
    if not vectorizers and len(others) == 1 and _is_classifier(others[0]):
        return "; the vectorizer's file can stand beside it, with a comma"
    if vectorizers:
        return "; between the two there can be scalers, and nothing else"
    return "; what makes a record's columns can be a DictVectorizer alone"


def _is_classifier(step: Any) -> bool:
    return "classes_" in state_of(step) or name_of(step) in grown_by_xgboost.CLASSES


def is_of_frame(scaler: Any) -> bool:
    """Whether a scaler was fitted on the columns of a data frame, which have names."""
    return state_of(scaler).get("feature_names_in_") is not None


def places(scaler: Any, features: Sequence[str]) -> list[int]:
    """Which of the vectorizer's features each of a scaler's columns is.

    One that was fitted on a data frame knows its columns' names: often it scaled the table's numbers before the
    vectorizer took them, and then has fewer, or in another order. Raises `BadModel` where they are not features.
    """
    if not is_of_frame(scaler):
        if (width := state_of(scaler).get("n_features_in_", len(features))) != len(features):
            raise BadModel(f"its {name_of(scaler)[1]} is of {width} columns, and its vectorizer makes {len(features)}")
        return [*range(len(features))]
    named = state_of(scaler)["feature_names_in_"]
    columns = named.values if isinstance(scaler, Inert) else named.tolist()
    at = {feature: place for place, feature in enumerate(features)}
    if others := [str(column) for column in columns if column not in at][:MOST_NAMED]:
        raise BadModel(
            f"its {name_of(scaler)[1]} was fitted on columns that its vectorizer does not make: {', '.join(others)}"
        )
    return [at[column] for column in columns]


def name_of(step: Any) -> Global:
    """The class of a stand-in or an object."""
    return step.stands_for if isinstance(step, Inert) else (type(step).__module__, type(step).__qualname__)


def state_of(step: Any) -> dict[str, Any]:
    """The attributes of a stand-in or an object."""
    state: dict[str, Any] = step.state if isinstance(step, Inert) else vars(step)
    return state


def _steps(packed: Any) -> Iterator[Any]:
    """The estimators in a packing; what it tells besides is left out."""
    match packed:
        case tuple() | list():
            for each in packed:
                yield from _steps(each)
        case dict():
            yield from _steps([*packed.values()])
        case _ if name_of(packed) in SEARCHES and "best_estimator_" in state_of(packed):
            yield from _steps(state_of(packed)["best_estimator_"])
        case _ if name_of(packed) in PIPELINES:
            for _, step in state_of(packed)["steps"]:
                if step is not None and step != "passthrough":
                    yield from _steps(step)
        case _ if isinstance(packed, Inert) or hasattr(packed, "get_params"):
            module = name_of(packed)[0]
            if name_of(packed) != LABELS and module.split(".")[0] not in OTHERS and not module.startswith(SAMPLERS):
                yield packed


def operations(scaler: Inert, is_sparse: bool) -> list[Operation] | None:
    """What a scaler does to each column of a matrix, to the last bit; None where that is more than arithmetic."""
    state, center, scale = scaler.state, None, None
    match scaler.stands_for[1]:
        case "StandardScaler":
            center, scale = state["with_mean"] and state["mean_"], state["with_std"] and state["scale_"]
        case "RobustScaler":
            center, scale = state["with_centering"] and state["center_"], state["with_scaling"] and state["scale_"]
        case "MaxAbsScaler" if not state.get("clip"):
            scale = state["scale_"]
        case "MinMaxScaler" if not state.get("clip"):
            return [(mul, state["scale_"].values), (add, state["min_"].values)]
        case _:
            return None
    found: list[Operation] = [(sub, center.values)] if center else []
    if scale:  # of a sparse matrix scikit-learn multiplies by the reciprocals
        found.append((mul, [1 / each for each in scale.values]) if is_sparse else (truediv, scale.values))
    return found


def folded(steps: list[Operation], length: int) -> tuple[list[float], list[float]]:
    """What operations come to: the column less a centre, times a factor; the centres and the factors of all columns.

    Raises `ValueError` where one is of other than so many columns.
    """
    centers, factors = [0.0] * length, [1.0] * length
    for operate, operands in steps:
        if operate in (add, sub):
            sign = 1 if operate is sub else -1
            moved = zip(centers, operands, factors, strict=True)
            centers = [center + sign * operand / factor for center, operand, factor in moved]
        else:
            factors = [operate(factor, operand) for factor, operand in zip(factors, operands, strict=True)]
    return centers, factors


def features(field: Field, separator: str) -> dict[str, str | None]:
    """A field's features by the names that DictVectorizer gives them: a text is one-hot, and a number, here None, is
    itself."""
    texts = (value for value in field.values if isinstance(value, str))
    one_hot: dict[str, str | None] = {f"{field.name}{separator}{text}": text for text in texts}
    return one_hot if field.type == "string" else one_hot | {field.name: None}
