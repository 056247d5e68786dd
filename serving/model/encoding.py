"""A field's values -> what the tests of trees say of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from struct import Struct
from typing import Any

from serving.fields import Field
from serving.model.packing import Operation
from serving.model.trees import Column, Ensemble
from serving.turns import in_turns

# What a test says of a value: the place of the child that it leads to, in a node of (test, left, right).
LEFT, RIGHT = 1, 2

# From ranks of single tests, 0 and 1, to their results.
AS_RESULTS = bytes.maketrans(bytes([0, 1]), bytes([LEFT, RIGHT]))

# In the machine's own format, in which a number that is too large becomes infinite.
_float = Struct("f")


class _Feature:
    """One of the vectorizer's features, with its columns: first those with thresholds, then the splits by category."""

    def __init__(self, columns: Sequence[Column], ensemble: Ensemble, scaling: Sequence[tuple[Any, float]]):
        self.width = len(columns)
        self.tests = sum(column.size for column in columns)
        self._ensemble = ensemble
        self._scaling = scaling
        self._columns = [column for column in columns if not column.codes]
        self._either = [bytes([RIGHT] * column.size + [LEFT] * column.size) for column in self._columns]
        self._splits = [column for column in columns if column.codes]
        self._known = frozenset().union(*(column.codes.known for column in self._splits if column.codes))
        self._by_category: dict[float | None, bytes] = {}

    def ranks(self, value: float) -> list[int]:
        """The rank of a value in each column."""
        compared = self._compared(value)
        found = [column.rank(compared) for column in self._columns]
        return [*found, *self._ranks_in_splits(compared)] if self._splits else found

    def results(self, value: float) -> bytes:
        """The result of each test, LEFT or RIGHT."""
        compared = self._compared(value)
        found = b""
        for column, either in zip(self._columns, self._either, strict=True):
            rank, size = column.rank(compared), column.size
            found += either[size - rank : 2 * size - rank]
        return found + self._ranks_in_splits(compared).translate(AS_RESULTS) if self._splits else found

    def ranks_of_numbers(self, numbers: Any) -> Any:
        """The ranks of an array of numbers, by number and column."""
        import numpy as np  # noqa: PLC0415 (a record that comes alone does without)

        for operate, operand in self._scaling:
            numbers = operate(numbers, operand)
        with np.errstate(over="ignore"):
            numbers = numbers.astype(np.float32 if self._ensemble.is_single else np.float64)
        numbers = np.where(numbers == self._ensemble.missing, math.nan, numbers)
        found = [column.ranks(numbers)[:, None] for column in self._columns]
        if self._splits:
            different, places = np.unique(numbers, return_inverse=True)
            found.append(np.array([[*self._ranks_in_splits(each)] for each in in_turns(different.tolist())])[places])
        return np.concatenate(found, axis=1)

    def _compared(self, value: float) -> float:
        """The number that is compared with thresholds; NaN is missing."""
        for operate, operand in self._scaling:
            value = operate(value, operand)
        if self._ensemble.is_single:
            [value] = _float.unpack(_float.pack(value))
        return math.nan if value == self._ensemble.missing else value

    def _ranks_in_splits(self, category: float) -> bytes:
        """The ranks in splits by category, of which there may be thousands: worked out once for each category.

        None stands for all that is missing.
        """
        key = category if category in self._known else None
        if (found := self._by_category.get(key)) is None:
            given = math.nan if key is None else key
            found = self._by_category[key] = bytes(column.rank(given) for column in self._splits)
        return found


class Encoder:
    """The ranks of a field's values in the columns of its features, and the results of their tests.

    `columns` has those of each feature that is tested, by the text that it is one-hot for, or None for a number.
    """

    def __init__(
        self,
        field: Field,
        columns: Mapping[str | None, Sequence[Column]],
        ensemble: Ensemble,
        scaling: Sequence[Operation],
    ):
        self.field = field
        self._features = [
            _Feature(of, ensemble, [(operate, operands[of[0].feature]) for operate, operands in scaling])
            for of in columns.values()
        ]
        self.width = sum(feature.width for feature in self._features)
        self._places = {text: place for place, text in enumerate(columns)}
        self._columns = [*pairwise(accumulate((feature.width for feature in self._features), initial=0))]
        self._tests = [*pairwise(accumulate((feature.tests for feature in self._features), initial=0))]
        # What a value comes to that has none of the features.
        self._ranks = [rank for feature in self._features for rank in feature.ranks(ensemble.absent)]
        self._results = b"".join(feature.results(ensemble.absent) for feature in self._features)

    def _feature(self, value: Any) -> tuple[int | None, float]:
        """The place of a value's feature, where it has one that is tested, and what it is in it."""
        is_number = isinstance(value, int | float)
        return self._places.get(None if is_number else value), float(value) if is_number else 1.0

    def ranks(self, value: Any) -> list[int]:
        """The rank of a value in each column."""
        place, number = self._feature(value)
        found = self._ranks[:]
        if place is not None:
            start, end = self._columns[place]
            found[start:end] = self._features[place].ranks(number)
        return found

    def ranks_of_numbers(self, numbers: Any) -> Any:
        """The ranks of an array of numbers, by number and column, in a field of numbers alone that are tested."""
        return self._features[0].ranks_of_numbers(numbers)

    def ranks_of_value(self) -> Callable[[Any], list[int]]:
        """What gives the rank of a value in each column."""
        return self._features[0].ranks if self.field.is_number and self._features else self.ranks

    def results(self) -> Callable[[Any], bytes]:
        """What gives each test's result of a value, LEFT or RIGHT, in the order of the tests."""
        if self.field.is_number and self._features:
            return self._features[0].results
        return Remembered(self._results_of).__getitem__

    def _results_of(self, value: Any) -> bytes:
        place, number = self._feature(value)
        if place is None:
            return self._results
        start, end = self._tests[place]
        return self._results[:start] + self._features[place].results(number) + self._results[end:]


class Remembered(dict[Any, Any]):
    """What a field's values come to, of which those that are no numbers are remembered."""

    def __init__(self, of_value: Callable[[Any], Any]):
        super().__init__()
        self._of_value = of_value

    def __missing__(self, value: Any) -> Any:
        found = self._of_value(value)
        if not isinstance(value, float):
            self[value] = found
        return found
