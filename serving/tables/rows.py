"""Rows of text, as tables have them -> columns of values."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from serving import errors
from serving.errors import MOST_SUGGESTIONS, FieldError, InvalidRecords
from serving.fields import CANONICAL_BLANKS, Field, canonical
from serving.records import ZERO, Absent, Columns, Records, Unusual, fill, note_unusual, nothing, of_places
from serving.schema import Schema
from serving.tables.numbers import Cells, Conventions, Plain, bare, with_point
from serving.turns import in_turns

# So that other spellings of values do not pile up: so many are remembered, and of none more characters.
MOST_REMEMBERED, LONGEST_REMEMBERED = 1000, 100


class Rows(NamedTuple):
    """The records of rows, and by a row's place the errors of those that are none."""

    records: Records
    wrong: dict[int, list[FieldError]]


class RowReader:
    """Reads rows with these columns as records of a schema; they come from a table with this delimiter.

    Raises `InvalidRecords` where a field is missing or there twice. A `lenient` reader takes what is missing or not
    allowed as counting nothing, and notes it as unusual.
    """

    def __init__(
        self, schema: Schema, header: Sequence[str], lenient: bool = False, delimiter: str = ",", absent: Absent = ZERO
    ):
        self._schema = schema
        self._lenient = lenient
        self._absent = absent
        exact = {*header} & schema.names.keys()
        # A column in the schema's own spelling wins over other spellings of it.
        names = [name if name in exact or schema.meant(name) in exact else schema.meant(name) for name in header]
        times = Counter(names)
        wrong: list[FieldError] = []
        for field in schema.fields:
            if times[field.name] > 1:
                wrong.append(errors.error_of(field, "the table has this column more than once"))
            elif not times[field.name] and not lenient:
                is_searched = len(wrong) < MOST_SUGGESTIONS
                misspelt = errors.closest(field.name, [*names, *header], schema) if is_searched else None
                wrong.append(errors.missing(field, "the table lacks this column", misspelt))
        if wrong:
            raise InvalidRecords(wrong, schema, who="The table's header is")
        # None for a column that is not there.
        self._positions = [names.index(field.name) if field.name in times else None for field in schema.fields]
        # Of all columns, since one tells how another may be meant.
        self._numbers = Conventions(delimiter, range(len(header)))
        self._readers = [
            _reader(field, self._plain(at)) for field, at in zip(schema.fields, self._positions, strict=True)
        ]

    def __call__(self, rows: Sequence[Cells]) -> Rows:
        """The records of rows that have all columns."""
        columns, wrong = self.values(rows)
        ignored: Unusual = {}
        if self._lenient:
            ignored, wrong = {row: [error.field or "" for error in each] for row, each in wrong.items()}, {}
        finished: Columns = [*columns]
        if wrong:
            finished = of_places(finished, [row for row in range(len(rows)) if row not in wrong])
        records = Records("csv", finished, ignored, fill(self._schema, finished))
        note_unusual(self._schema, records)
        return Rows(records, wrong)

    def values(self, rows: Sequence[Cells]) -> tuple[list[list[Any]], dict[int, list[FieldError]]]:
        """The values in rows by column, None for a blank, and by row what is wrong with them.

        It is done column by column, which takes half the time of row by row.
        """
        by_position = [*zip(*rows, strict=True)]
        decided = self._numbers.learn(by_position) if rows else []
        for place, at in enumerate(self._positions):
            if at in decided:
                self._readers[place] = _reader(self._schema.fields[place], self._plain(at))
        columns: list[list[Any]] = []
        wrong: dict[int, list[FieldError]] = {}
        for field, read, at in zip(self._schema.fields, self._readers, self._positions, strict=True):
            if at is None:
                columns.append([nothing(field, UNSET, self._absent)] * len(rows))
                for row in range(len(rows)):
                    wrong.setdefault(row, []).append(FieldError(index=row, field=field.name, message="missing"))
                continue
            cells = by_position[at] if rows else ()
            try:
                columns.append([*map(read, cells)])
            except UNREAD:
                plain = self._numbers[at]
                columns.append(
                    [self._value(field, read, plain, cell, row, wrong) for row, cell in in_turns(enumerate(cells))]
                )
        return columns, wrong

    def _value(
        self,
        field: Field,
        read: Callable[[str], Any],
        plain: Plain,
        cell: str,
        row: int,
        wrong: dict[int, list[FieldError]],
    ) -> Any:
        try:
            return read(cell)
        except UNREAD:
            pass
        try:
            return _read(field, plain, cell)
        except ValueError:
            wrong.setdefault(row, []).append(errors.wrong(field, cell, row))
        try:
            text = canonical(plain(cell))
        except ValueError:
            return nothing(field, UNSET, self._absent)
        number = field.number_of(text)
        return nothing(field, None if text in CANONICAL_BLANKS else UNSET if number is None else number, self._absent)

    def _plain(self, position: int | None) -> Plain:
        return str if position is None else self._numbers[position]

    @property
    def has_decimal_comma(self) -> bool:
        """Whether most columns of which it is known have a comma as decimal sign."""
        return self._numbers.has_most_commas

    def fields(self) -> dict[int, Field]:
        """The fields that the table has, by the positions of their columns."""
        by_position = zip(self._positions, self._schema.fields, strict=True)
        return {position: field for position, field in by_position if position is not None}


UNREAD = (ValueError, msgspec.DecodeError)


class _Values(dict[str, Any]):
    """What texts stand for in a field with values, in any spelling. Raises `ValueError` for others."""

    def __init__(self, field: Field, plain: Plain):
        super().__init__(field.texts)
        self._field = field
        self._plain = plain

    def __missing__(self, text: str) -> Any:
        value = _read(self._field, self._plain, text)
        if len(self) < MOST_REMEMBERED + len(self._field.texts) and len(text) <= LONGEST_REMEMBERED:
            self[text] = value
        return value


def _reader(field: Field, plain: Plain) -> Callable[[str], Any]:
    """The fastest way to read most of a field's cells."""
    if not field.is_number:
        return _Values(field, plain).__getitem__
    decode = msgspec.json.Decoder(field.decoded()).decode
    return (lambda cell: decode(plain(cell))) if plain is with_point else decode


def _read(field: Field, plain: Plain, cell: str) -> Any:
    """The value of any cell. Raises `ValueError` where it has none."""
    # A value such as 50% is itself, and no number with a unit.
    has_unit = field.type == "string" and bare(cell) != cell
    is_text = has_unit or cell in field.texts or canonical(cell) in field.spellings
    return field.read(cell if is_text else plain(cell), from_text=True)
