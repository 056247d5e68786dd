"""The training table: records in the table's order, and what became of each."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from msgspec.structs import replace

from serving.errors import BadTable, FieldError, InvalidRecords
from serving.fields import Constraints, Field
from serving.records import Columns, fill
from serving.schema import Schema
from serving.tables import workbook
from serving.tables.reader import Row, Table
from serving.tables.rows import RowReader

# The number of the first record's row, as a spreadsheet counts: the header is row 1.
FIRST_ROW = 2

# Columns that an error names of a table.
MOST_COLUMNS = 30


class TrainingTable(NamedTuple):
    """Rows of values in the order of the schema's fields, and for each whether the answer was yes.

    The schema knows what the numbers of the whole table were like.
    """

    schema: Schema
    rows: list[tuple[Any, ...]]
    target: list[bool]

    def records(self, rows: Any) -> list[dict[str, Any]]:
        """The records in these rows, as DictVectorizer takes them."""
        return [dict(zip(self.schema.names, self.rows[row], strict=True)) for row in rows]


def read(path: Path, schema: Schema) -> TrainingTable:
    """The training table of a file, CSV or Excel. Raises `BadTable`, and `OSError` where it cannot be read."""
    with path.open("rb") as file:
        try:
            known = {*schema.names, schema.target}
            with Table(file, lambda name: schema.meant(name) in known, limits=workbook.OWN) as table:
                return of_rows(table.header, table.blocks(), schema, table.delimiter)
        except (BadTable, workbook.TooLarge) as error:
            raise BadTable(f"{path}: {error}") from error


def from_frame(frame: pd.DataFrame, schema: Schema) -> TrainingTable:
    """The training table of a data frame that holds text. Raises `BadTable`."""
    rows: list[Row] = [(list(cells), None) for cells in frame.itertuples(index=False, name=None)]
    return of_rows([*frame.columns], [rows], schema)


def of_rows(header: list[str], blocks: Iterable[list[Row]], schema: Schema, delimiter: str = ",") -> TrainingTable:
    """The training table of rows of text, in blocks, that come from a table with this delimiter. Raises `BadTable`."""
    target = Field(schema.target, "string", constraints=Constraints(required=True, enum=("yes", "no")))
    found = [schema.meant(name) for name in header]
    if missing := [name for name in (*schema.names, target.name) if name not in found]:
        raise BadTable(f"it lacks the column {', '.join(missing)} (it has {', '.join(header[:MOST_COLUMNS])})")
    whole = replace(schema, fields=(*schema.fields, target), id=None)
    try:
        read_rows = RowReader(whole, header, delimiter=delimiter)
    except InvalidRecords as invalid:
        raise BadTable(_in_one_line(invalid.errors)) from invalid
    columns: list[list[Any]] = [[] for _ in whole.fields]
    errors: list[FieldError] = []
    number = 0
    for block in blocks:
        fitting = [(row, cells) for row, (cells, _) in enumerate(block, number) if len(cells) == len(header)]
        found_here, wrong = read_rows.values([cells for _, cells in fitting])
        for column, values in zip(columns, found_here, strict=True):
            column.extend(values)
        errors += [replace(error, index=fitting[row][0]) for row, each in wrong.items() for error in each]
        for row, (cells, _) in enumerate(block, number):
            if len(cells) != len(header):
                message = f"it has {len(cells)} cells, and the header has {len(header)}"
                errors.append(FieldError(index=row, message=message))
        number += len(block)
    if errors:
        raise BadTable(_in_one_line(sorted(errors, key=lambda error: error.index)))
    if not number:
        raise BadTable("it has no rows")
    answers = columns.pop()
    if len({*answers}) == 1:
        raise BadTable(f"{schema.target} is {answers[0]} in every row: a model needs both to learn from")
    fields = tuple(
        _with_bounds(field, column) if field.is_number else field
        for field, column in zip(schema.fields, columns, strict=True)
    )
    filled: Columns = [*columns]
    fill(schema, filled)
    rows = [*zip(*filled, strict=True)]
    return TrainingTable(replace(schema, fields=fields), rows, [answer == "yes" for answer in answers])


def _with_bounds(field: Field, values: list[Any]) -> Field:
    """The field with the least, the greatest and the deciles of a column; blanks are none of them."""
    numbers = [value for value in values if value is not None]
    steps = [step / 10 for step in range(11)]
    least, *deciles, greatest = np.quantile(np.array(numbers), steps, method="inverted_cdf").tolist()
    return replace(field, least=least, greatest=greatest, deciles=tuple(deciles))


def _in_one_line(errors: list[FieldError]) -> str:
    first = errors[0]
    message = f"row {first.index + FIRST_ROW}{f', {first.field}' if first.field else ''}: {first.message}"
    if isinstance(first.allowed, tuple):
        message += f" ({', '.join(map(str, first.allowed))})"
    if len(errors) > 1:
        message += f"; and {len(errors) - 1} more errors"
    return message
