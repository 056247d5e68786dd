"""How models are packed: which of a file's objects is the vectorizer, which scales its columns, which classifies."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from serving.model.stand_ins import BadModel, Global, Inert

VECTORIZER = ("sklearn.feature_extraction._dict_vectorizer", "DictVectorizer")
PIPELINE = ("sklearn.pipeline", "Pipeline")

SCALERS = {
    ("sklearn.preprocessing._data", name) for name in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")
}

# Centres and factors, by column: what is scaled is the column less the one, times the other.
Folding = tuple[list[float], list[float]]


class Parts(NamedTuple):
    """What a model consists of, as stand-ins or as scikit-learn's objects."""

    vectorizer: Any
    scalers: list[Any]
    classifier: Any

    @property
    def all(self) -> list[Any]:
        """All of them, in order."""
        return [self.vectorizer, *self.scalers, self.classifier]


def parts(packed: Any) -> Parts:
    """The parts of a pair, as tuple, list, dictionary or `Pipeline`, however nested, with scalers between or without.

    Raises `BadModel`.
    """
    steps = [*_steps(packed)]
    vectorizers = [step for step in steps if name_of(step) == VECTORIZER]
    scalers = [step for step in steps if name_of(step) in SCALERS]
    others = [step for step in steps if name_of(step) not in {VECTORIZER, *SCALERS}]
    if len(vectorizers) != 1 or len(others) != 1:
        found = ", ".join(name_of(step)[1] for step in steps) or "nothing of the kind"
        raise BadModel(f"it is not a pair of a DictVectorizer and a classifier, but has {found}")
    return Parts(vectorizers[0], scalers, others[0])


def name_of(step: Any) -> Global:
    """The class of a stand-in or an object."""
    return step.stands_for if isinstance(step, Inert) else (type(step).__module__, type(step).__qualname__)


def state_of(step: Any) -> dict[str, Any]:
    """The attributes of a stand-in or an object."""
    state: dict[str, Any] = step.state if isinstance(step, Inert) else vars(step)
    return state


def _steps(packed: Any, is_told: bool = False) -> Iterator[Any]:
    """The estimators in a packing; in a dictionary, which often tells other things too, those are left out."""
    match packed:
        case tuple() | list():
            for each in packed:
                yield from _steps(each, is_told)
        case dict():
            for each in packed.values():
                yield from _steps(each, is_told=True)
        case _ if name_of(packed) == PIPELINE:
            for _, step in state_of(packed)["steps"]:
                if step is not None and step != "passthrough":
                    yield from _steps(step)
        case _ if not is_told or isinstance(packed, Inert) or hasattr(packed, "get_params"):
            yield packed


def folding(scaler: Inert) -> Folding | None:
    """What a scaler does to each column; None where that is more than a centre and a factor."""
    state = scaler.state
    match scaler.stands_for[1]:
        case "StandardScaler":
            return _shifted(state["with_mean"] and state["mean_"], state["with_std"] and state["scale_"])
        case "RobustScaler":
            return _shifted(state["with_centering"] and state["center_"], state["with_scaling"] and state["scale_"])
        case "MaxAbsScaler" if not state.get("clip"):
            return _shifted(None, state["scale_"])
        case "MinMaxScaler" if not state.get("clip"):
            factors = state["scale_"].values
            return [-each / factor for each, factor in zip(state["min_"].values, factors, strict=True)], factors
    return None


def _shifted(center: Any, scale: Any) -> Folding:
    """The folding of a scaler that subtracts the one and then divides by the other, where there are such."""
    length = len((center or scale).values) if center or scale else 0
    factors = [1 / each for each in scale.values] if scale else [1.0] * length
    return center.values if center else [0.0] * length, factors


def folded(foldings: list[Folding], length: int) -> Folding:
    """What scalers do one after the other: the column less the centre, times the factor."""
    centers, factors = [0.0] * length, [1.0] * length
    for more_centers, more_factors in foldings:
        if more_factors:
            steps = zip(centers, more_centers, factors, strict=True)
            centers = [center + more / factor for center, more, factor in steps]
            factors = [factor * more for factor, more in zip(factors, more_factors, strict=True)]
    return centers, factors
