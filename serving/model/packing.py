"""How models are packed: which of a file's objects is the vectorizer, which scales its columns, which classifies."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from serving.model.stand_ins import BadModel, Global, Inert

VECTORIZER = ("sklearn.feature_extraction._dict_vectorizer", "DictVectorizer")
PIPELINE = ("sklearn.pipeline", "Pipeline")

SCALERS = {
    ("sklearn.preprocessing._data", name) for name in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")
}

# Factors and summands, by column: what is scaled is the column times the one plus the other.
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


def _steps(packed: Any) -> Iterator[Any]:
    match packed:
        case tuple() | list():
            for each in packed:
                yield from _steps(each)
        case dict():  # which often says other things of the model too
            for each in packed.values():
                if isinstance(each, Inert) or hasattr(each, "get_params") or isinstance(each, tuple | dict):
                    yield from _steps(each)
        case _ if name_of(packed) == PIPELINE:
            for _, step in state_of(packed)["steps"]:
                if step is not None and step != "passthrough":
                    yield from _steps(step)
        case _:
            yield packed


def folding(scaler: Inert) -> Folding | None:
    """What a scaler does to each column; None where that is more than a factor and a summand."""
    state = scaler.state
    match scaler.stands_for[1]:
        case "StandardScaler":
            return _shifted(state["with_mean"] and state["mean_"], state["with_std"] and state["scale_"])
        case "RobustScaler":
            return _shifted(state["with_centering"] and state["center_"], state["with_scaling"] and state["scale_"])
        case "MaxAbsScaler" if not state.get("clip"):
            return _shifted(None, state["scale_"])
        case "MinMaxScaler" if not state.get("clip"):
            return state["scale_"].values, state["min_"].values
    return None


def _shifted(center: Any, scale: Any) -> Folding:
    """The folding of a scaler that subtracts the one and then divides by the other, where there are such."""
    length = len((center or scale).values) if center or scale else 0
    factors = [1 / each for each in scale.values] if scale else [1.0] * length
    centers = center.values if center else [0.0] * length
    return factors, [-each * factor for each, factor in zip(centers, factors, strict=True)]


def folded(weights: list[float], intercept: float, foldings: list[Folding]) -> tuple[list[float], float]:
    """The weights and the intercept that give of unscaled columns what these give of scaled ones."""
    for factors, summands in reversed(foldings):
        if factors:
            intercept += sum(weight * each for weight, each in zip(weights, summands, strict=True))
            weights = [weight * each for weight, each in zip(weights, factors, strict=True)]
    return weights, intercept
