"""A table of records in, the same table with their scores out, in flat memory."""

import csv
import io
import tempfile
from collections.abc import Collection, Iterator
from itertools import repeat
from typing import IO, Literal, NamedTuple, Protocol

import msgspec

from serving.errors import FieldError
from serving.model.base import Reason
from serving.prediction import Predictor
from serving.records import Columns, Unusual
from serving.rows import BadTable, RowReader
from serving.schema import Schema
from serving.turns import in_turns

BYTE_ORDER_MARK = "\ufeff"
DELIMITERS = ",;\t"

# A scored table of up to so many bytes stays in memory.
MOST_IN_MEMORY = 4_000_000

# Rows that are scored together: few enough to be nothing, many enough to be fast.
BLOCK_ROWS, BLOCK_CHARACTERS = 500, 2_000_000

# Bytes that are read, and cut into lines, at once.
BLOCK = 65_536

# Far more than a record takes; a line without an end is not read on into memory.
LONGEST_LINE = 100_000

# Bytes that a character takes in UTF-8 at most.
MOST_BYTES = 4

# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

# A row's cells, and the line they stood in where they are nothing but the line, cut at the delimiter.
Line = tuple[list[str], str | None]


class _Piece(list[str]):
    """Texts to be joined, as a file that csv can write to."""

    write = list.append


class Counting(Protocol):
    """What counts the rows."""

    def scored(self, form: Literal["csv"], columns: Columns, probabilities: list[float], unusual: Unusual) -> None:
        """Count records that were scored."""

    def invalid(self, form: Literal["csv"], errors: Collection[FieldError], records: int) -> None:
        """Count records that are none."""


class Dialect(NamedTuple):
    """How a table is written: kept for the answer."""

    delimiter: str
    line_end: str
    byte_order_mark: str


def score(upload: io.RawIOBase | io.BytesIO, predictor: Predictor, explain: bool, counting: Counting) -> IO[bytes]:
    """The scored table, at its beginning, as a file that is gone when it is closed.

    A row that is no record keeps its place, without scores and with its errors in words. With
    `explain` there is a column `reasons` too. Raises `BadTable` where the upload is no table,
    `InvalidRecords` where it lacks a field, `NotExplainable`, and `OSError` where the disk is full.
    """
    buffered = io.BufferedReader(upload, BLOCK)
    # Of thousands of fields the names alone can be more.
    longest = max(LONGEST_LINE, 3 * sum(len(field.name) for field in predictor.model.schema.fields))
    scored = tempfile.SpooledTemporaryFile(max_size=MOST_IN_MEMORY)  # noqa: SIM115 (the caller closes it)
    try:
        for piece in _scored_pieces(_lines(buffered, longest), longest, predictor, explain, counting):
            scored.write(piece.encode())
        scored.seek(0)
        return scored
    except BaseException as error:
        scored.close()
        if isinstance(error, UnicodeDecodeError):
            raise BadTable("it is not UTF-8; save it as CSV UTF-8") from error
        raise
    finally:
        buffered.detach()  # or the upload would be closed with it


def _lines(upload: IO[bytes], longest: int) -> Iterator[str]:
    """The lines of an upload with their ends. Raises `BadTable` for one that is too long, and `UnicodeDecodeError`."""
    number, rest = 0, b""
    for block in in_turns(iter(lambda: upload.read(BLOCK), b"")):
        # Bytes, since a text's splitlines knows more ends of lines than tables do. The last line
        # may go on in the next block, if only with the other half of its end.
        *lines, rest = (rest + block).splitlines(keepends=True)
        for line in map(bytes.decode, lines):
            number += 1
            if len(line) > longest:
                raise _too_long(number, longest)
            yield line
        if len(rest) > longest * MOST_BYTES:
            raise _too_long(number + 1, longest)
    if len(line := rest.decode()) > longest:
        raise _too_long(number + 1, longest)
    if line:
        yield line


def _too_long(number: int, longest: int) -> BadTable:
    return BadTable(f"line {number} has more than {longest:,} characters")


def _scored_pieces(
    lines: Iterator[str], longest: int, predictor: Predictor, explain: bool, counting: Counting
) -> Iterator[str]:
    """The scored table, some hundred rows at a time."""
    model = predictor.model
    first_line = next((line for line in lines if line.strip("\r\n" + BYTE_ORDER_MARK)), "")
    header_lines = [first_line, *_rest_of_quoted(first_line, lines, longest)]
    dialect = _dialect(header_lines, model.schema)
    header = _cells(header_lines, dialect.delimiter)
    rows = _rows(lines, dialect.delimiter, len(header), longest)
    read_rows = RowReader(model.schema, header, predictor.lenient)
    # What was taken for a value of a field is none that harms.
    others = [at for at in range(len(header)) if predictor.lenient or not read_rows.is_field(at)]
    target, threshold = model.schema.target, model.schema.threshold

    piece = _Piece()
    writer = csv.writer(piece, delimiter=dialect.delimiter, lineterminator=dialect.line_end)
    piece.write(dialect.byte_order_mark)
    writer.writerow([*map(inert, [*header, f"{target}_probability", target]), *["reasons"] * explain, "note", "error"])
    for block in in_turns(_blocks(rows)):
        columns, unusual, errors = _read(block, len(header), dialect.delimiter, read_rows, counting)
        probabilities = model.probabilities(columns)
        counting.scored("csv", columns, probabilities, unusual)
        scores = _as_json(probabilities), ["true" if each >= threshold else "false" for each in probabilities]
        if not explain and _is_plain(block, errors, unusual, others):
            # Most blocks: twice as fast as taking the rows apart and putting them together again.
            ends = repeat(f"{dialect.delimiter}{dialect.line_end}")
            lines_of_block = (line or "" for _, line in block)
            piece += map(dialect.delimiter.join, zip(lines_of_block, *scores, ends, strict=False))
        else:
            reasons = [map(_in_words, model.reasons(columns))] if explain else []
            notes = (_note(unusual.get(place)) for place in range(len(probabilities)))
            answers = zip(*scores, *reasons, notes, strict=True)
            for (cells, _), error in zip(block, errors, strict=True):
                if error:
                    filled = map(inert, _squared(cells, len(header), dialect.delimiter))
                    writer.writerow([*filled, *[""] * (4 if explain else 3), error])
                else:
                    for position in others:
                        cells[position] = inert(cells[position])
                    writer.writerow([*cells, *next(answers), ""])
        yield "".join(piece)
        piece.clear()
    yield "".join(piece)


def _note(unusual: list[str] | None) -> str:
    return f"unusual: {', '.join(unusual)}" if unusual else ""


def _is_plain(block: list[Line], errors: list[str], unusual: Unusual, others: list[int]) -> bool:
    """Whether the answer to these rows is their lines, with the scores behind them."""
    return not (unusual or any(errors)) and not any(
        line is None or any(cells[position].startswith(FORMULA_STARTS) for position in others) for cells, line in block
    )


def _rest_of_quoted(line: str, lines: Iterator[str], longest: int) -> Iterator[str]:
    """The lines that a row goes on over, since a quote in it is still open."""
    most, quotes = longest - len(line), line.count('"')
    while quotes % 2 and (line := next(lines, "")):
        most, quotes = most - len(line), quotes + line.count('"')
        if most < 0:
            raise BadTable(f"a row with quotes has more than {longest:,} characters")
        yield line


def _cells(lines: list[str], delimiter: str) -> list[str]:
    """The cells of a row. Raises `BadTable`."""
    try:
        return next(csv.reader([lines[0].removeprefix(BYTE_ORDER_MARK), *lines[1:]], delimiter=delimiter), [])
    except csv.Error as error:
        raise BadTable(f"a row with quotes cannot be read: {error}") from error


def _dialect(header: list[str], schema: Schema) -> Dialect:
    """How the table is written; of the delimiters, the one with which the header has most of the fields."""

    def fields(delimiter: str) -> tuple[int, int]:
        cells = _cells(header, delimiter)
        return sum(schema.meant(cell) in schema.names for cell in cells), len(cells)

    return Dialect(
        delimiter=max(DELIMITERS, key=fields),
        line_end="\r\n" if header[-1].endswith("\r\n") else "\n",
        byte_order_mark=BYTE_ORDER_MARK if header[0].startswith(BYTE_ORDER_MARK) else "",
    )


def _rows(lines: Iterator[str], delimiter: str, width: int, longest: int) -> Iterator[Line]:
    """The rows of a table, each with at most `width` cells and one for all that is too much.

    Blank lines are none, unless the table has one column. Raises `BadTable`.
    """
    for line in lines:
        if '"' in line:  # which may go on over several lines
            yield _cells([line, *_rest_of_quoted(line, lines, longest)], delimiter), None
        elif (stripped := line.rstrip("\r\n")) or width == 1:
            yield stripped.split(delimiter, width), stripped


def _blocks(rows: Iterator[Line]) -> Iterator[list[Line]]:
    """The rows in blocks, which have not too many characters either."""
    block: list[Line] = []
    size = 0
    for row in rows:
        block.append(row)
        size += sum(map(len, row[0])) if row[1] is None else len(row[1])
        if len(block) == BLOCK_ROWS or size > BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def _read(
    rows: list[Line], width: int, delimiter: str, read_rows: RowReader, counting: Counting
) -> tuple[Columns, Unusual, list[str]]:
    """The records of rows, by column, what is unusual of them, and for each row what is wrong with it, in words."""
    fitting = [cells for cells, _ in rows if len(cells) == width]
    columns, unusual, wrong = read_rows(fitting)
    if len(fitting) == len(rows) and not wrong:
        return columns, unusual, [""] * len(rows)
    for errors in wrong.values():
        counting.invalid("csv", errors, records=1)
    place, words = 0, []
    for cells, line in rows:
        if len(cells) != width:
            counting.invalid("csv", (), records=1)
            number = len(cells) + (cells[-1].count(delimiter) if line is not None and len(cells) > width else 0)
            words.append(f"the row has {number} cells, and the header {width}")
            continue
        words.append("; ".join(f"{error.field}: {error.message}" for error in wrong.get(place, ())))
        place += 1
    return columns, unusual, words


def _squared(cells: list[str], width: int, delimiter: str) -> list[str]:
    """As many cells as the header has: filled up, or the rest put into the last one."""
    if len(cells) > width:
        return [*cells[: width - 1], delimiter.join(cells[width - 1 :])]
    return cells + [""] * (width - len(cells))


def _as_json(probabilities: list[float]) -> list[str]:
    """Each probability as a JSON answer has it, which is written many times faster than by repr."""
    return msgspec.json.encode(probabilities).decode().strip("[]").split(",")


def _in_words(reasons: list[Reason]) -> str:
    given = (("" if reason.value is None else reason.value, reason) for reason in reasons)
    return "; ".join(f"{reason.field}={value} {reason.share:+}" for value, reason in given)


def inert(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: with an apostrophe before it where one might."""
    if not cell.startswith(FORMULA_STARTS):
        return cell
    try:
        float(cell)
        return cell
    except ValueError:
        return f"'{cell}"
