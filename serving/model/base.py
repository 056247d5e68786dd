"""What the service asks of a model, whatever kind it is."""

import math
from collections.abc import Iterable
from typing import Any, Literal, Protocol

from msgspec import UNSET, Struct

from serving.model.figures import TrainingFigures
from serving.records import Absent, Columns
from serving.schema import Schema


class About(Struct, frozen=True):
    """What is known of a model file; `figures` where its training left them in it."""

    file: str
    sha256: str
    classifier: str
    figures: TrainingFigures | None

    @property
    def id(self) -> str:
        """What every answer calls the model: the start of its SHA-256."""
        return self.sha256[:12]


class Reason(Struct, frozen=True, gc=False):
    """A field's share in what a model says of a record, relative to what it says when nothing is known."""

    field: str
    value: str | int | float | bool | None
    share: float


# What reasons are shares of.
Unit = Literal["log-odds", "probability"]


def logistic(sums: Iterable[float]) -> list[float]:
    """The probabilities that log-odds are."""
    exp = math.exp
    # exp ends at 709; at 700 the probability is 0 to 304 places.
    return [1.0 / (1.0 + exp(-each)) if each > -700.0 else 0.0 for each in sums]


def strongest_first(names: Iterable[str], row: Iterable[Any], shares: Iterable[float]) -> list[Reason]:
    """The reasons of a record: its fields, the values that it gives, and their shares."""
    given = (None if value is UNSET else value for value in row)
    return sorted(map(Reason, names, given, shares), key=lambda reason: -abs(reason.share))


class NotExplainable(ValueError):
    """A model cannot give reasons; the message says why."""


class Model(Protocol):
    """A model of records of a schema.

    `absent` is what a number counts as that is not there; `reasons_unit` is what reasons are shares of, where
    it has them.
    """

    about: About
    schema: Schema
    absent: Absent
    reasons_unit: Unit | None

    def probabilities(self, columns: Columns) -> list[float]:
        """How probable yes is for each record, in [0, 1], in order; the columns are the schema's fields."""

    def reasons(self, columns: Columns) -> list[list[Reason]]:
        """For each record the reasons for its probability, the largest first.

        Their shares add up to the log-odds, or the probability, of the record minus the expected ones: those of the
        average training record for a linear model, and their mean over the training records for trees. Raises
        `NotExplainable`.
        """
