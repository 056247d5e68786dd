"""Customers from rows of text, as tables have them."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from types import GenericAlias
from typing import Any

import msgspec

from churn.customer import (
    CATEGORIES,
    END,
    FIELDS,
    HALF,
    NUMBERS,
    Customer,
    Field,
    FieldError,
    InvalidCustomers,
    canonical,
    closest,
    from_record,
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
        self._pick = itemgetter(*self._positions)
        self._first = _Remembering(_reader(CATEGORIES[:HALF]))
        self._second = _Remembering(_reader(CATEGORIES[HALF:]))

    def __call__(self, row: Sequence[str], index: int) -> Customer:
        """The customer of a row that has all columns; `index` is its place, for the errors.

        Raises `InvalidCustomers` with every error.
        """
        texts = self._pick(row)
        try:
            return Customer(  # type: ignore[call-arg]  # it cannot count them
                *self._first[texts[:HALF]],
                *self._second[texts[HALF:END]],
                _tenure(texts[END]),
                _monthly(texts[END + 1]),
                _total(texts[END + 2]),
            )
        except (msgspec.DecodeError, UnicodeError):
            # Not as a canonical number is written, or not right: blank total charges, for one.
            record = dict(zip((field.name for field in FIELDS), texts, strict=True))
            return from_record(record, index, numbers_as_text=True)

    def is_field(self, position: int) -> bool:
        """Whether the column at this position is one of a customer's fields."""
        return position in self._positions


class _Remembering(dict[tuple[str, ...], Any]):
    """The results of a function of texts, as far as they were asked for lately."""

    def __init__(self, function: Callable[[tuple[str, ...]], Any]):
        self._function = function

    def __missing__(self, texts: tuple[str, ...]) -> Any:
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        result = self[texts] = self._function(texts)
        return result


def _reader(fields: list[Field]) -> Callable[[tuple[str, ...]], Any]:
    """A function that turns texts into the values of these fields."""
    types = GenericAlias(tuple, tuple(field.type for field in fields))
    return lambda texts: msgspec.convert([canonical(text) for text in texts], types, strict=False)


def _column_errors(field: Field, names: list[str]) -> list[FieldError]:
    if names.count(field.name) == 1:
        return []
    message = "the table has this column more than once"
    if field.name not in names:
        misspelt = closest(field.name, names)
        message = "the table lacks this column" + (f'; is "{misspelt}" a misspelling of it?' if misspelt else "")
    return [FieldError(index=0, field=field.name, message=message, allowed=field.allowed)]
