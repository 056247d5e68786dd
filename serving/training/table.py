"""The training table: records in the table's order, and what became of each."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from serving.errors import FieldError
from serving.fields import Field, canonical
from serving.rows import BadTable, RowReader
from serving.schema import Schema

# The line of a CSV that holds the first record.
FIRST_LINE = 2

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
    """The training table of a CSV file. Raises `BadTable`, and `OSError` where it cannot be read."""
    try:
        # As text, blanks included: the schema reads the numbers, as it does when serving.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise BadTable(f"{path} is not a CSV table: {reason}") from error
    try:
        return from_frame(frame, schema)
    except BadTable as bad:
        raise BadTable(f"{path}: {bad}") from bad


def from_frame(frame: pd.DataFrame, schema: Schema) -> TrainingTable:
    """The training table of a data frame that holds text. Raises `BadTable`."""
    frame = frame.rename(columns=canonical)
    if missing := [name for name in (*schema.names, schema.target) if name not in frame]:
        found = ", ".join(map(str, frame.columns[:MOST_COLUMNS]))
        raise BadTable(f"it lacks the column {', '.join(missing)} (it has {found})")
    if frame.empty:
        raise BadTable("it has no rows")
    names = [*schema.names]
    columns, _, wrong = RowReader(schema, names)([*zip(*(frame[name] for name in names), strict=True)])
    errors = [error for errors in wrong.values() for error in errors]
    target = [canonical(text) for text in frame[schema.target]]
    for index, text in enumerate(target):
        if text not in ("yes", "no"):
            message = f'the text "{frame[schema.target].iloc[index]}" is not one of the allowed values'
            errors.append(FieldError(index=index, field=schema.target, message=message, allowed=("yes", "no")))
    if errors:
        raise BadTable(_in_one_line(sorted(errors, key=lambda error: error.index)))
    if len({*target}) == 1:
        raise BadTable(f"{schema.target} is {target[0]} in every row: a model needs both to learn from")
    fields = tuple(_with_bounds(field, frame[field.name]) if field.is_number else field for field in schema.fields)
    schema = msgspec.structs.replace(schema, fields=fields)
    return TrainingTable(schema, [*zip(*columns, strict=True)], [text == "yes" for text in target])


def _with_bounds(field: Field, cells: "pd.Series[str]") -> Field:
    """The field with the least, the greatest and the deciles of a column that it can read; blanks are none of them."""
    numbers = [value for cell in cells if (value := field.read(cell, from_text=True)) is not None]
    steps = [step / 10 for step in range(11)]
    least, *deciles, greatest = np.quantile(np.array(numbers), steps, method="inverted_cdf").tolist()
    return msgspec.structs.replace(field, least=least, greatest=greatest, deciles=tuple(deciles))


def _in_one_line(errors: list[FieldError]) -> str:
    first = errors[0]
    message = f"line {first.index + FIRST_LINE}, {first.field}: {first.message}"
    if isinstance(first.allowed, tuple):
        message += f" ({', '.join(map(str, first.allowed))})"
    if len(errors) > 1:
        message += f"; and {len(errors) - 1} more errors"
    return message
