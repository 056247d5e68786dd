"""A table of records in, the same table with their scores out, in flat memory."""

import csv
import io
import tempfile
from collections.abc import Collection, Iterator
from itertools import chain, repeat
from typing import IO, Literal, NamedTuple, Protocol

import msgspec

from serving.errors import FieldError
from serving.model.base import Reason
from serving.prediction import Predictor
from serving.records import Columns, Unusual
from serving.rows import BadTable, RowReader
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
    scored = tempfile.SpooledTemporaryFile(max_size=MOST_IN_MEMORY)  # noqa: SIM115 (the caller closes it)
    try:
        for piece in _scored_pieces(_lines(buffered), predictor, explain, counting):
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


def _lines(upload: IO[bytes]) -> Iterator[str]:
    """The lines of an upload with their ends. Raises `BadTable` for one that is too long, and `UnicodeDecodeError`."""
    number, rest = 0, b""
    for block in in_turns(iter(lambda: upload.read(BLOCK), b"")):
        # Bytes, since a text's splitlines knows more ends of lines than tables do. The last line
        # may go on in the next block, if only with the other half of its end.
        *lines, rest = (rest + block).splitlines(keepends=True)
        for line in map(bytes.decode, lines):
            number += 1
            if len(line) > LONGEST_LINE:
                raise _too_long(number)
            yield line
        if len(rest) > LONGEST_LINE * MOST_BYTES:
            raise _too_long(number + 1)
    if len(line := rest.decode()) > LONGEST_LINE:
        raise _too_long(number + 1)
    if line:
        yield line


def _too_long(number: int) -> BadTable:
    return BadTable(f"line {number} has more than {LONGEST_LINE:,} characters")


def _scored_pieces(lines: Iterator[str], predictor: Predictor, explain: bool, counting: Counting) -> Iterator[str]:
    """The scored table, some hundred rows at a time."""
    model = predictor.model
    first_line = next(lines, "")
    dialect = _dialect(first_line)
    header, _ = next(_rows(chain([first_line.removeprefix(BYTE_ORDER_MARK)], lines), dialect.delimiter), ([], None))
    rows = _rows(lines, dialect.delimiter, len(header))
    read_rows = RowReader(model.schema, header, predictor.lenient)
    others = [position for position in range(len(header)) if not read_rows.is_field(position)]
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


def _dialect(first_line: str) -> Dialect:
    """How the table is written; of the delimiters, the one that the header has most of."""
    return Dialect(
        delimiter=max(DELIMITERS, key=first_line.count),
        line_end="\r\n" if first_line.endswith("\r\n") else "\n",
        byte_order_mark=BYTE_ORDER_MARK if first_line.startswith(BYTE_ORDER_MARK) else "",
    )


def _rows(lines: Iterator[str], delimiter: str, width: int = -1) -> Iterator[Line]:
    """The rows of a table, each with at most `width` cells and one for all that is too much; blank lines are none.

    Raises `BadTable`.
    """
    for line in lines:
        if '"' in line:  # which may go on over several lines
            try:
                cells = next(csv.reader(_up_to(LONGEST_LINE, chain([line], lines)), delimiter=delimiter))
            except csv.Error as error:
                raise BadTable(f"a row with quotes cannot be read: {error}") from error
            yield cells, None
        elif stripped := line.rstrip("\r\n"):
            yield stripped.split(delimiter, width), stripped


def _up_to(most: int, lines: Iterator[str]) -> Iterator[str]:
    """The lines of a row; raises `BadTable` where together they have more characters."""
    for line in lines:
        most -= len(line)
        if most < 0:
            raise BadTable(f"a row with quotes has more than {LONGEST_LINE:,} characters")
        yield line


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
