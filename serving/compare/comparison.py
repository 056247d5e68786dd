"""What changes with a new model: for callers, and on a table whose answers are known or not."""

from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving import compatibility
from serving.errors import BadTable, InvalidRecords
from serving.fields import canonical
from serving.model.base import Model, NotExplainable
from serving.records import Columns, of_places
from serving.tables.rows import RowReader
from serving.training import table
from serving.training import target as targets
from serving.training.table import TextTable

Floats = NDArray[np.float64]

# Of the bootstrap: samples of the table's rows, the seed of their random numbers, and the percentiles of an interval
# that holds 95 % of them (Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13).
SAMPLES, SEED, PERCENTILES = 1000, 1, (2.5, 97.5)

# So that a probability of 0 or 1 that is wrong has a loss: the smallest step of a number from 1, as in scikit-learn.
EPSILON = float(np.finfo(np.float64).eps)

# Changes of a probability that are told with their reasons, and reasons of each.
LARGEST, MOST_REASONS = 10, 3


class Measure(NamedTuple):
    """A figure of both models, how much more the new one has, and the interval of that. `direction` is 1 where more is
    better, and -1 where less is."""

    name: str
    old: float
    new: float
    low: float
    high: float
    direction: int

    @property
    def is_worse(self) -> bool:
        """Whether the new model is worse beyond doubt."""
        return self.high < 0 if self.direction > 0 else self.low > 0

    @property
    def is_better(self) -> bool:
        """Whether it is better beyond doubt."""
        return self.low > 0 if self.direction > 0 else self.high < 0


class Change(NamedTuple):
    """A row of the table by its id, or else its number, and what the two models say of it, the reasons in words."""

    id: str
    old: float
    new: float
    old_reasons: str = ""
    new_reasons: str = ""


class Comparison(NamedTuple):
    """What changes. `enter` and `leave` are those whose decision does; `measures` is empty without answers."""

    breaks: list[str]
    thresholds: tuple[float, float]
    rows: int
    left_out: int
    measures: list[Measure]
    enter: list[Change]
    leave: list[Change]
    largest: list[Change]

    @property
    def status(self) -> int:
        """0 where the new model can take the old one's place, 1 where callers would break, 2 where it is worse.

        Worse in AUC or in log loss: the latter is of calibration too, and of all thresholds.
        """
        return 1 if self.breaks else 2 if any(each.is_worse for each in self.measures[:2]) else 0


class _Said:
    """What a model says of rows of a table."""

    def __init__(self, model: Model, columns: Columns):
        self.model, self._columns = model, columns
        self.probabilities = np.array(model.probabilities(columns))
        self.is_yes = self.probabilities >= model.schema.threshold

    def reasons(self, rows: Sequence[int]) -> list[str]:
        """The strongest reasons for what it says of some of them, in words; blank where it has none to give."""
        try:
            found = self.model.reasons(of_places(self._columns, rows))
        except NotExplainable:
            return [""] * len(rows)
        told = self.model.schema.told
        return [
            "; ".join(f"{told(each.field, each.value)} {each.share:+.2f}" for each in reasons[:MOST_REASONS])
            for reasons in found
        ]


def compare(old: Model, new: Model, path: Path, target: str | None = None, positive: Sequence[str] = ()) -> Comparison:
    """Compare two models on the table in a file. Its column `target`, or that of the new model's target, has the
    answers; without that column there are no measures.

    Only rows count that are valid for both models, and have an answer where there are any. Raises `BadTable`, and
    `OSError` where the file cannot be read.
    """
    text = table.read(path)
    answers = _answers(text, target or new.schema.target, positive, is_wanted=target is not None)
    old_columns, old_places = _records(text, old)
    new_columns, new_places = _records(text, new)
    rows = [row for row in old_places if row in new_places and (not answers or answers[row] is not None)]
    if not rows:
        raise BadTable("no row is valid for both models and has an answer")
    old_said = _Said(old, of_places(old_columns, [old_places[row] for row in rows]))
    new_said = _Said(new, of_places(new_columns, [new_places[row] for row in rows]))
    ids = _ids(text, new, rows)
    before, after = old_said.probabilities, new_said.probabilities

    def changes(places: Sequence[int], told: bool = False) -> list[Change]:
        reasons = [each.reasons(places) for each in (old_said, new_said)] if told and places else [repeat("")] * 2
        found = zip(places, *reasons, strict=False)
        return [Change(ids[place], before[place], after[place], *why) for place, *why in found]

    by_probability, by_change = np.argsort(-after, kind="stable"), np.argsort(-abs(after - before), kind="stable")
    return Comparison(
        breaks=compatibility.broken(old.schema, new.schema),
        thresholds=(old.schema.threshold, new.schema.threshold),
        rows=len(rows),
        left_out=len(text.rows) - len(rows),
        measures=_measures(np.array([bool(answers[row]) for row in rows]), old_said, new_said) if answers else [],
        enter=changes([at for at in by_probability if new_said.is_yes[at] and not old_said.is_yes[at]]),
        leave=changes([at for at in by_probability if old_said.is_yes[at] and not new_said.is_yes[at]]),
        largest=changes([at for at in by_change[:LARGEST] if before[at] != after[at]], told=True),
    )


def _answers(text: TextTable, column: str, positive: Sequence[str], is_wanted: bool) -> list[bool | None]:
    """For each row its answer, or nothing where the column is neither there nor asked for."""
    if not is_wanted and canonical(column) not in map(canonical, text.header):
        return []
    return targets.answers(text, text.conventions(), column, positive)


def _records(text: TextTable, model: Model) -> tuple[Columns, dict[int, int]]:
    """The records that a table's rows are for a model, by column, and the place that each of these rows has there."""
    try:
        read = RowReader(model.schema, text.header, delimiter=text.delimiter, absent=model.absent)
    except InvalidRecords as error:
        raise BadTable(f"{error.errors[0].field}: {error.errors[0].message}") from error
    found = read(text.rows)
    valid = [row for row in range(len(text.rows)) if row not in found.wrong]
    return found.records.columns, {row: place for place, row in enumerate(valid)}


def _ids(text: TextTable, model: Model, rows: list[int]) -> list[str]:
    """What rows are called: their ids, or else their numbers in the file."""
    header = [*map(canonical, text.header)]
    if model.schema.id and canonical(model.schema.id) in header:
        place = header.index(canonical(model.schema.id))
        return [text.rows[row][place] for row in rows]
    return [f"row {text.numbers[row]}" for row in rows]


def _measures(answers: Floats, old: _Said, new: _Said) -> list[Measure]:
    """AUC, log loss, calibration and gain of both, with the intervals of their differences."""
    if answers.all() or not answers.any():
        raise BadTable("all rows that are valid for both models have the same answer")
    chosen = int(old.is_yes.sum()) or -(-len(answers) // 10)
    both = [_measured(answers.astype(float), each.probabilities, chosen) for each in (old, new)]
    everybody = np.ones(len(answers))
    values = [measured(everybody) for measured in both]
    random, number = np.random.default_rng(SEED), len(answers)
    differences = []
    for _ in range(SAMPLES):
        times = np.bincount(random.integers(0, number, number), minlength=number).astype(float)
        differences.append(both[1](times) - both[0](times))
    low, high = np.percentile(differences, PERCENTILES, axis=0)
    names = ("AUC", 1), ("log loss", -1), ("calibration error", -1), (f"yes among the {chosen:,} most probable", 1)
    return [
        Measure(name, float(before), float(after), float(least), float(most), direction)
        for (name, direction), before, after, least, most in zip(names, *values, low, high, strict=True)
    ]


def _measured(answers: Floats, probabilities: Floats, chosen: int) -> Callable[[Floats], Floats]:
    """What gives the four figures of rows that count so many times each.

    The calibration error is the mean distance, over tenths of the rows by probability, between what was predicted and
    what came of it (Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
    2015).
    """
    order = np.argsort(-probabilities, kind="stable")
    answers, probabilities = answers[order], probabilities[order]
    starts = np.flatnonzero(np.diff(probabilities, prepend=2.0))  # of rows with the same probability
    safe = np.clip(probabilities, EPSILON, 1 - EPSILON)
    losses = -np.where(answers, np.log(safe), np.log1p(-safe))
    tenths = np.unique(np.arange(min(10, len(order))) * len(order) // min(10, len(order)))

    def figures(times: Floats) -> Floats:
        times = times[order]
        yes, no = (np.add.reduceat(times * each, starts) for each in (answers, 1 - answers))
        # Pairs of a yes and a no in the right order; one of equal probability is half a pair.
        right = (yes * (no.sum() - no.cumsum() + no / 2)).sum()
        taken = np.clip(chosen - (times.cumsum() - times), 0, times)
        off = np.add.reduceat(times * (probabilities - answers), tenths)
        number = times.sum()
        return np.array(
            [right / (yes.sum() * no.sum()), times @ losses / number, abs(off).sum() / number, taken @ answers]
        )

    return figures
