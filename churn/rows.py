"""Customers from rows of text, as tables have them."""

from collections.abc import Mapping, Sequence
from operator import getitem, itemgetter
from typing import Any

import msgspec

from churn.customer import (
    CATEGORIES,
    END,
    FIELDS,
    FIRST,
    NUMBERS,
    SECOND,
    Batch,
    Combination,
    Field,
    FieldError,
    InvalidCustomers,
    canonical,
    closest,
    first_halves,
    from_record,
    second_halves,
)

# So that texts that never repeat do not pile up.
MOST_REMEMBERED = 10_000

_tenure, _monthly, _total = (msgspec.json.Decoder(field.type).decode for field in NUMBERS)


class BadTable(ValueError):
    """A table cannot be used; the message says where and why, in one line."""


class RowReader:
    """Reads rows with these columns, and remembers the combinations of texts it has read.

    The columns may be spelt as the raw table does. Raises `InvalidCustomers` where a field is
    missing or there twice.
    """

    def __init__(self, columns: Sequence[str]):
        names = [canonical(column) for column in columns]
        errors = [error for field in FIELDS for error in _column_errors(field, names)]
        if errors:
            raise InvalidCustomers(errors, who="The table's header is")
        self._positions = [names.index(field.name) for field in FIELDS]
        self._pick_first = itemgetter(*self._positions[FIRST])
        self._pick_second = itemgetter(*self._positions[SECOND])
        self._pick_numbers = itemgetter(*self._positions[END:])
        self._first = _Remembering(CATEGORIES[FIRST], first_halves)
        self._second = _Remembering(CATEGORIES[SECOND], second_halves)

    def __call__(self, row: Sequence[str], index: int, batch: Batch) -> None:
        """Add the customer of a row that has all columns to a batch; `index` is its place, for the errors.

        Raises `InvalidCustomers` with every error.
        """
        try:
            first = self._first[self._pick_first(row)]
            second = self._second[self._pick_second(row)]
            tenure_text, monthly_text, total_text = self._pick_numbers(row)
            tenure, monthly, total = _tenure(tenure_text), _monthly(monthly_text), _total(total_text)
        except (KeyError, msgspec.DecodeError, UnicodeError):
            # Not as a canonical number is written, or not right: blank total charges, for one.
            record = {field.name: row[position] for field, position in zip(FIELDS, self._positions, strict=True)}
            batch += Batch.of([from_record(record, index, numbers_as_text=True)])
            return
        batch.first.append(first)
        batch.second.append(second)
        batch.tenure.append(tenure)
        batch.monthlycharges.append(monthly)
        batch.totalcharges.append(total)

    def is_field(self, position: int) -> bool:
        """Whether the column at this position is one of a customer's fields."""
        return position in self._positions


class _Remembering(dict[tuple[str, ...], Combination]):
    """What texts of these categories stand for, as far as it was asked for lately. Raises `KeyError` for others."""

    def __init__(self, categories: list[Field], combinations: Mapping[tuple[Any, ...], Combination]):
        self._allowed = [{str(value): value for value in field.allowed} for field in categories]
        self._combinations = combinations

    def __missing__(self, texts: tuple[str, ...]) -> Combination:
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        values = tuple(map(getitem, self._allowed, map(canonical, texts)))
        combination = self[texts] = self._combinations[values]
        return combination


def _column_errors(field: Field, names: list[str]) -> list[FieldError]:
    if names.count(field.name) == 1:
        return []
    message = "the table has this column more than once"
    if field.name not in names:
        misspelt = closest(field.name, names)
        message = "the table lacks this column" + (f'; is "{misspelt}" a misspelling of it?' if misspelt else "")
    return [FieldError(index=0, field=field.name, message=message, allowed=field.allowed)]
