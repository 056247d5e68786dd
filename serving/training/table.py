"""The training table: a file read as text, and its records in the order of a schema."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from msgspec.structs import replace

from serving.distribution import deciles
from serving.errors import BadTable, FieldError, InvalidRecords, TooMuch
from serving.fields import Field, canonical
from serving.records import fill, of_places
from serving.schema import Schema
from serving.tables import workbook
from serving.tables.numbers import Conventions
from serving.tables.reader import Table
from serving.tables.rows import RowReader

# Columns that an error names of a table.
MOST_COLUMNS = 30

# How a Parquet file begins, and what gzip has packed.
PARQUET, GZIP = b"PAR1", b"\x1f\x8b"


class TextTable(NamedTuple):
    """A table as it was written: rows of as many cells as the header has, the number of each in its file, where the
    header is 1, and the delimiter between cells."""

    header: list[str]
    rows: list[list[str]]
    numbers: Sequence[int]
    delimiter: str = ","

    def conventions(self) -> Conventions:
        """How each of its columns writes its numbers."""
        found = Conventions(self.delimiter, range(len(self.header)))
        found.learn(self.columns())
        return found

    def only(self, places: Sequence[int]) -> "TextTable":
        """The rows in these places."""
        return self._replace(rows=[self.rows[place] for place in places], numbers=[self.numbers[at] for at in places])

    def columns(self) -> list[Sequence[str]]:
        """Its cells by column."""
        return [*zip(*self.rows, strict=True)] if self.rows else [() for _ in self.header]


class TrainingTable(NamedTuple):
    """Rows of values in the order of the schema's fields, and for each whether the answer was yes.

    The schema knows what the numbers of the whole table were like. For a logistic regression's fit they are made
    comparable, unless they are to be taken `as_they_are`.
    """

    schema: Schema
    rows: list[tuple[Any, ...]]
    target: list[bool]
    as_they_are: bool = False

    def records(self, rows: Any) -> list[dict[str, Any]]:
        """The records in these rows, as DictVectorizer takes them."""
        return [dict(zip(self.schema.names, self.rows[row], strict=True)) for row in rows]


def read(path: Path, names: Sequence[str] = ()) -> TextTable:
    """The table in a file: CSV, Excel, or Parquet where pyarrow is installed.

    With `names` it has no header but these. Raises `BadTable`, and `OSError` where it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(PARQUET))
        if start == PARQUET:
            return of_frame(as_text(_parquet(path)))
        if start.startswith(GZIP):
            raise BadTable("it is packed with gzip: unpack it first")
        file.seek(0)
        try:
            with Table(file, limits=workbook.OWN) as table:
                began, delimiter = table.line, table.delimiter
                # A spreadsheet writes the rows that were emptied below a table.
                numbered = [(cells, table.line) for cells, _ in table.rows() if any(map(str.strip, cells))]
                found = TextTable(table.header, [cells for cells, _ in numbered], [at for _, at in numbered], delimiter)
        except TooMuch as error:
            raise BadTable(str(error)) from error
    if names:
        rows, numbers = [found.header, *found.rows], [began, *found.numbers]
        found = found._replace(header=[*names], rows=rows, numbers=numbers)
    for number, cells in zip(found.numbers, found.rows, strict=True):
        if len(cells) != len(found.header):
            what = "names" if names else "header"
            more = ""
            if cells is found.rows[0] and not names:
                more = f" (is row {began} the header? delete what is above it)"
            raise BadTable(f"row {number}: it has {len(cells)} cells, and the {what} {len(found.header)}{more}")
    if not found.rows:
        raise BadTable("it has no rows")
    return found


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """A data frame's values as text, as a CSV has them: what is not there is blank, and a float reads back the same."""
    text: pd.DataFrame = frame.astype(object).map(lambda value: "" if pd.isna(value) else str(value))
    return text


def of_frame(frame: pd.DataFrame) -> TextTable:
    """The table of a data frame that holds text."""
    rows = [list(cells) for cells in frame.itertuples(index=False, name=None)]
    return TextTable([*map(str, frame.columns)], rows, range(2, len(rows) + 2))


def records(text: TextTable, schema: Schema, answers: Sequence[bool | None]) -> TrainingTable:
    """The records of a table, and the answer to each; rows without an answer are none. Raises `BadTable`."""
    found = {schema.meant(name) for name in text.header}
    if missing := [name for name in schema.names if name not in found]:
        shown = ", ".join(text.header[:MOST_COLUMNS])
        raise BadTable(f"it lacks the column {', '.join(missing)} (it has {shown})")
    try:
        read_rows = RowReader(replace(schema, id=None), text.header, delimiter=text.delimiter)
    except InvalidRecords as twice:
        raise BadTable(f"{twice.errors[0].field}: {twice.errors[0].message}") from twice
    columns, wrong = read_rows.values(text.rows)
    if errors := [error for row, each in wrong.items() if answers[row] is not None for error in each]:
        raise BadTable(_in_one_line(sorted(errors, key=lambda error: error.index), text))
    answered = [row for row, answer in enumerate(answers) if answer is not None]
    filled = of_places([*columns], answered)
    fields = tuple(
        _with_bounds(field, column) if not field.is_category and field.least is None else field
        for field, column in zip(schema.fields, filled, strict=True)
    )
    fill(schema, filled)
    rows = [*zip(*filled, strict=True)]
    return TrainingTable(replace(schema, fields=fields), rows, [bool(answers[row]) for row in answered])


def place_of(text: TextTable, name: str) -> int:
    """The place of a column by its name in any spelling. Raises `BadTable` where there is none, or more than one."""
    places = [place for place, title in enumerate(text.header) if canonical(title) == canonical(name)]
    if len(places) == 1:
        return places[0]
    if places:
        raise BadTable(f"it has the column {name} {len(places)} times")
    raise BadTable(f"it lacks the column {name} (it has {', '.join(text.header[:MOST_COLUMNS])})")


def _with_bounds(field: Field, values: Sequence[Any]) -> Field:
    """The field with the least, the greatest and the deciles of a column's numbers."""
    ordered = sorted(+value for value in values if isinstance(value, int | float))  # of true it makes 1
    if not ordered:
        return field
    return replace(field, least=ordered[0], greatest=ordered[-1], deciles=tuple(deciles(ordered)))


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise BadTable("it is a Parquet file, which needs the package pyarrow: pip install pyarrow") from error
    except ValueError as error:  # pyarrow's own exceptions are
        raise BadTable(f"it is no Parquet file that can be read: {error}") from error


def _in_one_line(errors: list[FieldError], text: TextTable) -> str:
    first = errors[0]
    message = f"row {text.numbers[first.index]}, {first.field}: {first.message}"
    if isinstance(first.allowed, tuple):
        message += f" ({', '.join(map(str, first.allowed))})"
    if len(errors) > 1:
        message += f"; and {len(errors) - 1} more errors"
    return message
