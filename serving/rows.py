"""Customers from rows of text, as tables have them."""

from collections.abc import Sequence
from operator import getitem, itemgetter
from typing import Any

import msgspec
from msgspec.structs import astuple

from serving.customer import (
    CATEGORIES,
    END,
    FIELDS,
    NUMBERS,
    Field,
    FieldError,
    InvalidCustomers,
    Row,
    canonical,
    closest,
    error_of,
    from_record,
)

# So that other spellings of values do not pile up: so many are remembered, and of none more characters.
MOST_REMEMBERED, LONGEST_REMEMBERED = 1000, 100

_read_numbers = [msgspec.json.Decoder(field.type).decode for field in NUMBERS]


class BadTable(ValueError):
    """A table cannot be used; the message says where and why, in one line."""


class RowReader:
    """Reads rows with these columns.

    The columns may be spelt as the raw table does. Raises `InvalidCustomers` where a field is
    missing or there twice.
    """

    def __init__(self, columns: Sequence[str]):
        names = [canonical(column) for column in columns]
        errors = [error for field in FIELDS for error in _column_errors(field, names)]
        if errors:
            raise InvalidCustomers(errors, who="The table's header is")
        self._positions = [names.index(field.name) for field in FIELDS]
        self._pick_categories = itemgetter(*self._positions[:END])
        self._pick_numbers = itemgetter(*self._positions[END:])
        self._values = [_Values(field) for field in CATEGORIES]

    def __call__(self, cells: Sequence[str], index: int = 0) -> Row:
        """The customer of a row's cells, one for each column.

        `index` is its place, for the errors. Raises `InvalidCustomers` with every error.
        """
        try:
            numbers = [read(text) for read, text in zip(_read_numbers, self._pick_numbers(cells), strict=True)]
            return (*map(getitem, self._values, self._pick_categories(cells)), *numbers)
        except (KeyError, msgspec.DecodeError, UnicodeError):
            # Not as a canonical number is written, or not right: blank total charges, for one.
            record = {field.name: cells[position] for field, position in zip(FIELDS, self._positions, strict=True)}
            return astuple(from_record(record, index, numbers_as_text=True))[: len(FIELDS)]

    def is_field(self, position: int) -> bool:
        """Whether the column at this position is one of a customer's fields."""
        return position in self._positions


class _Values(dict[str, Any]):
    """What texts of a category stand for, in any spelling. Raises `KeyError` for those that are no value."""

    def __init__(self, field: Field):
        self._allowed = {str(value): value for value in field.allowed}
        super().__init__(self._allowed)

    def __missing__(self, text: str) -> Any:
        value = self._allowed[canonical(text)]
        if len(self) < MOST_REMEMBERED and len(text) <= LONGEST_REMEMBERED:
            self[text] = value
        return value


def _column_errors(field: Field, names: list[str]) -> list[FieldError]:
    if names.count(field.name) == 1:
        return []
    message = "the table has this column more than once"
    if field.name not in names:
        misspelt = closest(field.name, names)
        message = "the table lacks this column" + (f'; is "{misspelt}" a misspelling of it?' if misspelt else "")
    return [error_of(field, message)]
