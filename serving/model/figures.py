"""What training found out about a model: the figures that ride inside the model file."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from serving.model.stand_ins import BadModel

# The classifier's attribute that holds the figures, as plain dictionaries and lists.
ATTRIBUTE = "serving_figures_"

# Figures of a kind that a page can show, and points of a line.
MOST_FIGURES, MOST_POINTS = 1000, 100_000


class AUC(Struct, frozen=True):
    """Areas under the ROC curve: of the folds, their mean and standard deviation, and of the test part."""

    folds: Annotated[list[float], Meta(max_length=MOST_FIGURES)]
    mean: float
    deviation: float
    test: float


class Decile(Struct, frozen=True):
    """A tenth of the test part by probability: the mean probability, and the share of yes."""

    records: int
    predicted: float
    observed: float


class Choice(Struct, frozen=True):
    """What a threshold means on the test part.

    `chosen` are the records whose probability reaches the threshold: `positives` of them are yes, `negatives` no.
    """

    threshold: float
    chosen: int
    positives: int
    negatives: int


Share = Annotated[float, Meta(ge=0, le=1)]
Edges = Annotated[list[int | float], Meta(max_length=MOST_FIGURES)]


class Probabilities(Struct, frozen=True):
    """How the probabilities of the test part are distributed: where bins end, and the share of each."""

    edges: Edges
    shares: Annotated[list[Share], Meta(max_length=MOST_FIGURES)]


class TrainingFigures(Struct, frozen=True):
    """How a model was trained, and how good it is.

    `C` is that of a logistic regression. `positive_rate` is that of the whole table, `log_loss`, `calibration`, `roc`
    (pairs of false and true positive rate) and `thresholds` are of the test part. `averages` are the features of the
    average training record. `example_probability` is what the model said of the schema's example. `table_sha256` is of
    the prepared table: a JSON array a record, its fields and its target. `shares` are those of each field's bins in
    the whole table (see `serving.distribution`), `edges` where those of numbers end, and `probabilities` is how the
    test part was scored.
    """

    rows: Annotated[int, Meta(ge=1)]
    training_rows: int
    test_rows: Annotated[int, Meta(ge=1)]
    test_positives: int
    positive_rate: float
    C: float | None
    auc: AUC
    log_loss: float
    calibration: Annotated[list[Decile], Meta(max_length=MOST_FIGURES)]
    roc: Annotated[list[tuple[float, float]], Meta(max_length=MOST_POINTS)]
    thresholds: Annotated[list[Choice], Meta(max_length=MOST_FIGURES)]
    averages: Annotated[dict[str, float], Meta(max_length=MOST_POINTS)]
    example_probability: float
    versions: dict[str, str]
    table_sha256: str
    shares: Annotated[dict[str, dict[str, Share]], Meta(max_length=MOST_POINTS)] = {}
    edges: Annotated[dict[str, Edges], Meta(max_length=MOST_POINTS)] = {}
    probabilities: Probabilities | None = None


def of(state: dict[str, Any]) -> TrainingFigures | None:
    """The figures in a classifier's attributes; None for a model that another script trained.

    Raises `BadModel` where they are damaged: too many, of another shape, or no numbers.
    """
    if ATTRIBUTE not in state:
        return None
    try:
        figures = msgspec.convert(state[ATTRIBUTE], TrainingFigures)
        if not all(map(math.isfinite, _numbers(state[ATTRIBUTE]))):
            raise ValueError("some are no numbers")
        known = figures.probabilities
        for edges in [*figures.edges.values(), *([known.edges] if known else [])]:
            if not edges or any(low >= high for low, high in pairwise(edges)):
                raise ValueError("the ends of bins are not in order")
        if known and len(known.shares) != len(known.edges) + 2:
            raise ValueError("the probabilities have other bins than shares")
    except (ValueError, OverflowError) as error:  # msgspec's is one
        raise BadModel(f"its training figures cannot be used: {error}") from error
    return figures


def _numbers(figures: Any) -> Iterator[float]:
    match figures:
        case dict():
            yield from _numbers([*figures.values()])
        case list() | tuple():
            for each in figures:
                yield from _numbers(each)
        case int() | float():
            yield figures
