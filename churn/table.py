"""A table of customers in, the same table with their scores out, in flat memory."""

import csv
import io
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import IO, NamedTuple

from churn.customer import Batch, Customer, InvalidCustomers
from churn.metrics import meter
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

# Far more than a customer takes; a line without an end is not read on into memory.
LONGEST_LINE = 100_000

# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Dialect(NamedTuple):
    """How a table is written: kept for the answer."""

    delimiter: str
    line_end: str
    byte_order_mark: str


class Row(NamedTuple):
    """A row's cells, and the line they stood in where they are nothing but the line, cut at the delimiter."""

    cells: list[str]
    line: str | None


def score(upload: io.RawIOBase, model: Model, explain: bool) -> IO[bytes]:
    """The scored table, at its beginning, as a file that is gone when it is closed.

    A row that is no customer keeps its place, without scores and with its errors in words. With
    `explain` there is a column `reasons` too. Raises `BadTable` where the upload is no table,
    `InvalidCustomers` where it lacks a field, `NotExplainable`, and `OSError` where the disk is full.
    """
    text = io.TextIOWrapper(io.BufferedReader(upload), encoding="utf-8", newline="")
    scored = tempfile.SpooledTemporaryFile(max_size=MOST_IN_MEMORY)  # noqa: SIM115 (the caller closes it)
    try:
        for piece in _scored_pieces(_lines(text), model, explain):
            scored.write(piece.encode())
        scored.seek(0)
        return scored
    except BaseException as error:
        scored.close()
        if isinstance(error, UnicodeDecodeError):
            raise BadTable("it is not UTF-8; save it as CSV UTF-8") from error
        raise
    finally:
        text.detach().detach()  # or the upload would be closed with them


def _lines(text: IO[str]) -> Iterator[str]:
    """The lines of a text with their ends. Raises `BadTable` for one that is too long."""
    for number, line in enumerate(iter(partial(text.readline, LONGEST_LINE + 1), ""), start=1):
        if len(line) > LONGEST_LINE:
            raise BadTable(f"line {number} has more than {LONGEST_LINE:,} characters")
        yield line


def _scored_pieces(lines: Iterator[str], model: Model, explain: bool) -> Iterator[str]:
    """The scored table, some hundred rows at a time."""
    first_line = next(lines, "")
    dialect = _dialect(first_line)
    rows = _rows(chain([first_line.removeprefix(BYTE_ORDER_MARK)], lines), dialect.delimiter)
    columns = next(rows, Row([], None)).cells
    read_row = RowReader(columns)
    others = [position for position in range(len(columns)) if not read_row.is_field(position)]

    piece = io.StringIO()
    writer = csv.writer(piece, delimiter=dialect.delimiter, lineterminator=dialect.line_end)
    piece.write(dialect.byte_order_mark)
    writer.writerow([*map(inert, columns), *(REASONED if explain else ADDED)])
    while batch := list(islice(rows, BATCH)):
        customers = [_customer(row.cells, len(columns), read_row) for row in batch]
        valid = [each for each in customers if isinstance(each, Customer)]
        valid_ones = Batch.of(valid)
        scores = model.probabilities(valid_ones)
        meter.scored("csv", valid_ones, scores)
        probabilities = iter(scores)
        for (cells, line), customer in zip(batch, customers, strict=True):
            if isinstance(customer, str):
                filled = map(inert, _squared(cells, len(columns), dialect.delimiter))
                writer.writerow([*filled, *[""] * (3 if explain else 2), customer])
                continue
            probability = next(probabilities)
            churn = "true" if probability >= THRESHOLD else "false"
            dangerous = any(cells[position].startswith(FORMULA_STARTS) for position in others)
            if line is not None and not explain and not dangerous:
                # Most rows: twice as fast as taking them apart and putting them together again.
                piece.write(dialect.delimiter.join((line, repr(probability), churn, dialect.line_end)))
                continue
            for position in others:
                cells[position] = inert(cells[position])
            reasons = [_in_words(model.reasons(customer))] if explain else []
            writer.writerow([*cells, probability, churn, *reasons, ""])
        yield piece.getvalue()
        piece.seek(0)
        piece.truncate()
    yield piece.getvalue()


def _dialect(first_line: str) -> Dialect:
    """How the table is written; of the delimiters, the one that the header has most of."""
    return Dialect(
        delimiter=max(DELIMITERS, key=first_line.count),
        line_end="\r\n" if first_line.endswith("\r\n") else "\n",
        byte_order_mark=BYTE_ORDER_MARK if first_line.startswith(BYTE_ORDER_MARK) else "",
    )


def _rows(lines: Iterator[str], delimiter: str) -> Iterator[Row]:
    """The rows of a table; blank lines are none. Raises `BadTable`."""
    for line in lines:
        if '"' in line:  # which may go on over several lines
            try:
                yield Row(next(csv.reader(chain([line], lines), delimiter=delimiter)), None)
            except csv.Error as error:
                raise BadTable(f"a row with quotes cannot be read: {error}") from error
        elif stripped := line.rstrip("\r\n"):
            yield Row(stripped.split(delimiter), stripped)


def _customer(cells: list[str], width: int, read_row: RowReader) -> Customer | str:
    """A row's customer, or what is wrong with it, in words."""
    if len(cells) != width:
        meter.invalid("csv", (), customers=1)
        return f"the row has {len(cells)} cells, and the header {width}"
    try:
        return read_row(cells, 0)
    except InvalidCustomers as invalid:
        meter.invalid("csv", invalid.errors, customers=1)
        return "; ".join(f"{error.field}: {error.message}" for error in invalid.errors)


def _squared(cells: list[str], width: int, delimiter: str) -> list[str]:
    """As many cells as the header has: filled up, or the rest put into the last one."""
    if len(cells) > width:
        return [*cells[: width - 1], delimiter.join(cells[width - 1 :])]
    return cells + [""] * (width - len(cells))


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
