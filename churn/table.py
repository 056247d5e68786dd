"""A table of customers in, the same table with their scores out, in flat memory."""

import csv
import io
import tempfile
from collections.abc import Iterator
from itertools import chain, islice
from typing import IO, Any, NamedTuple

from churn.customer import Customer, InvalidCustomers
from churn.model import THRESHOLD, Model, Reason
from churn.rows import BadTable, RowReader

# The columns that a scored table has in addition; the second line where reasons are asked for.
ADDED = ["churn_probability", "churn", "error"]
REASONED = ["churn_probability", "churn", "reasons", "error"]

BYTE_ORDER_MARK = "\ufeff"
DELIMITERS = ",;\t"

# A scored table of up to so many bytes stays in memory.
MOST_IN_MEMORY = 4_000_000

# Rows that are scored together: few enough to be nothing, many enough to be fast.
BATCH = 500

# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Dialect(NamedTuple):
    """How a table is written: kept for the answer."""

    delimiter: str
    line_end: str
    byte_order_mark: str


def score(upload: io.RawIOBase, model: Model, explain: bool) -> IO[bytes]:
    """The scored table, at its beginning, as a file that is gone when it is closed.

    A row that is no customer keeps its place, without scores and with its errors in words. With
    `explain` there is a column `reasons` too. Raises `BadTable` where the upload is no table,
    `InvalidCustomers` where it lacks a field, `NotExplainable`, and `OSError` where the disk is full.
    """
    text = io.TextIOWrapper(io.BufferedReader(upload), encoding="utf-8", newline="")
    scored = tempfile.SpooledTemporaryFile(max_size=MOST_IN_MEMORY)  # noqa: SIM115 (the caller closes it)
    try:
        for lines in _scored_lines(text, model, explain):
            scored.write(lines.encode())
        scored.seek(0)
        return scored
    except BaseException as error:
        scored.close()
        if isinstance(error, UnicodeDecodeError):
            raise BadTable("it is not UTF-8; save it as CSV UTF-8") from error
        raise
    finally:
        text.detach().detach()  # or the upload would be closed with them


def _scored_lines(text: IO[str], model: Model, explain: bool) -> Iterator[str]:
    """The scored table, piece by piece."""
    first_line = text.readline()
    dialect = _dialect(first_line)
    reader = csv.reader(chain([first_line.removeprefix(BYTE_ORDER_MARK)], text), delimiter=dialect.delimiter)
    piece = io.StringIO()
    writer = csv.writer(piece, delimiter=dialect.delimiter, lineterminator=dialect.line_end)
    try:
        columns = next(reader, [])
        read_row = RowReader(columns)
        piece.write(dialect.byte_order_mark)
        writer.writerow([*map(inert, columns), *(REASONED if explain else ADDED)])
        rows = (row for row in reader if row)  # a blank line is no row
        while batch := list(islice(rows, BATCH)):
            writer.writerows(_scored_rows(batch, columns, dialect.delimiter, read_row, model, explain))
            yield piece.getvalue()
            piece.seek(0)
            piece.truncate()
        yield piece.getvalue()
    except csv.Error as error:
        raise BadTable(f"line {reader.line_num}: {error}") from error


def _dialect(first_line: str) -> Dialect:
    """How the table is written; of the delimiters, the one that the header has most of."""
    return Dialect(
        delimiter=max(DELIMITERS, key=first_line.count),
        line_end="\r\n" if first_line.endswith("\r\n") else "\n",
        byte_order_mark=BYTE_ORDER_MARK if first_line.startswith(BYTE_ORDER_MARK) else "",
    )


def _scored_rows(
    batch: list[list[str]], columns: list[str], delimiter: str, read_row: RowReader, model: Model, explain: bool
) -> Iterator[list[Any]]:
    customers = [_customer(row, len(columns), read_row) for row in batch]
    probabilities = iter(model.probabilities([each for each in customers if isinstance(each, Customer)]))
    others = [position for position in range(len(columns)) if not read_row.is_field(position)]
    for row, customer in zip(batch, customers, strict=True):
        if isinstance(customer, Customer):
            for position in others:
                row[position] = inert(row[position])
            probability = next(probabilities)
            reasons = [_in_words(model.reasons(customer))] if explain else []
            yield [*row, probability, "true" if probability >= THRESHOLD else "false", *reasons, ""]
        else:
            reasons = [""] if explain else []
            yield [*map(inert, _squared(row, len(columns), delimiter)), "", "", *reasons, customer]


def _customer(row: list[str], width: int, read_row: RowReader) -> Customer | str:
    """A row's customer, or what is wrong with it, in words."""
    if len(row) != width:
        return f"the row has {len(row)} cells, and the header {width}"
    try:
        return read_row(row, 0)
    except InvalidCustomers as invalid:
        return "; ".join(f"{error.field}: {error.message}" for error in invalid.errors)


def _squared(row: list[str], width: int, delimiter: str) -> list[str]:
    """A row with as many cells as the header: filled up, or its rest put into the last cell."""
    if len(row) > width:
        return [*row[: width - 1], delimiter.join(row[width - 1 :])]
    return row + [""] * (width - len(row))


def _in_words(reasons: list[Reason]) -> str:
    return "; ".join(f"{reason.field}={reason.value} {reason.share:+}" for reason in reasons)


def inert(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: with an apostrophe before it where one might."""
    if not cell.startswith(FORMULA_STARTS):
        return cell
    try:
        float(cell)
        return cell
    except ValueError:
        return f"'{cell}"
