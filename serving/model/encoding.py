"""A field's values -> what the tests of trees say of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any

from serving.fields import Field
from serving.model.packing import Operation
from serving.model.trees import Column, Ensemble

# What a test says of a value: the place of the child that it leads to, in a node of (test, left, right).
LEFT, RIGHT = 1, 2

# In the machine's own format, in which a number that is too large becomes infinite.
_float = Struct("f")


class Encoder:
    """The ranks of a field's values in the columns of its features, and the results of their tests.

    `texts` has for each feature the text that it is one-hot for, or None for a number.
    """

    def __init__(
        self,
        field: Field,
        columns: Sequence[Column],
        texts: Mapping[int, str | None],
        ensemble: Ensemble,
        scaling: Sequence[Operation] | None,
    ):
        self.field = field
        self.columns = columns
        self._ensemble = ensemble
        self._scaling = [
            [(operate, operands[column.feature]) for operate, operands in scaling or ()] for column in columns
        ]
        absent = math.nan if ensemble.absent_is_missing else 0.0
        self._without = [self._rank(place, absent) for place in range(len(columns))]
        # By text, or None, the places of its columns.
        self._places: dict[str | None, list[int]] = {}
        for place, column in enumerate(columns):
            self._places.setdefault(texts[column.feature], []).append(place)
        self._either = [bytes([RIGHT] * column.size + [LEFT] * column.size) for column in columns]

    def ranks(self, value: Any) -> list[int]:
        """The rank of a value in each column."""
        found = self._without[:]
        if isinstance(value, int | float):
            for place in self._places.get(None, ()):
                found[place] = self._rank(place, value)
        else:
            for place in self._places.get(value, ()):
                found[place] = self._rank(place, 1.0)
        return found

    def _rank(self, place: int, value: float) -> int:
        """The rank of what the vectorizer makes of a value in one of its columns."""
        for operate, operand in self._scaling[place]:
            value = operate(value, operand)
        if self._ensemble.is_single:
            [value] = _float.unpack(_float.pack(value))
        return self.columns[place].rank(math.nan if value == self._ensemble.missing else value)

    def ranks_of_numbers(self, numbers: Any, place: int) -> Any:
        """The ranks of an array of numbers in one of the columns, whose feature is a number."""
        import numpy as np  # noqa: PLC0415 (a record that comes alone does without)

        for operate, operand in self._scaling[place]:
            numbers = operate(numbers, operand)
        with np.errstate(over="ignore"):
            numbers = numbers.astype(np.float32 if self._ensemble.is_single else np.float64)
        return self.columns[place].ranks(np.where(numbers == self._ensemble.missing, math.nan, numbers))

    def results(self) -> Callable[[Any], bytes]:
        """What gives each test's result of a value, LEFT or RIGHT, in the order of the tests."""
        return self._results if self.field.is_number else _Results(self._results).__getitem__

    def _results(self, value: Any) -> bytes:
        found = (
            either[len(either) // 2 - rank : len(either) - rank]
            for rank, either in zip(self.ranks(value), self._either, strict=True)
        )
        return b"".join(found)


class _Results(dict[Any, bytes]):
    """The results of a field's values as they come, of which those that are no numbers are remembered."""

    def __init__(self, of_value: Callable[[Any], bytes]):
        super().__init__()
        self._of_value = of_value

    def __missing__(self, value: Any) -> bytes:
        found = self._of_value(value)
        if not isinstance(value, float):
            self[value] = found
        return found
