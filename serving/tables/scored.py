"""A table of records in, the same table with their scores out, in flat memory."""

import csv
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import islice, repeat
from typing import IO, Literal, NamedTuple, Protocol

import msgspec

from serving import spool
from serving.errors import BadTable, FieldError
from serving.fields import Field
from serving.model.base import Model, Reason, Unit
from serving.prediction import Predictor
from serving.records import Columns, Records, Unusual, of_places
from serving.schema import Schema
from serving.tables.formulas import inert, may_have_formula
from serving.tables.reader import Dialect, Row, Table
from serving.tables.rows import RowReader
from serving.tables.text import LONGEST_LINE, WINDOWS
from serving.turns import in_turns

# Bytes of a scored table: an error can be many times as long as its row.
MOST_BYTES = 10_000_000_000


class _Piece(list[str]):
    """Texts to be joined, as a file that csv can write to."""

    write = list.append


class Counting(Protocol):
    """What counts the rows."""

    def scored(self, records: Records, probabilities: list[float]) -> None:
        """Count records that were scored."""

    def invalid(self, form: Literal["csv"], errors: Collection[FieldError], records: int) -> None:
        """Count records that are none."""


class Explain(NamedTuple):
    """Which rows get reasons, those of at least this probability, and whether in words: the strongest for a yes."""

    least: float = 0.0
    in_words: bool = False


# Reasons that are told in words.
MOST_REASONS = 3


class Scored(NamedTuple):
    """A scored table: a file at its beginning, which is gone when it is closed, and the encoding that it is in."""

    file: IO[bytes]
    encoding: str
    reasons_unit: Unit | None


def score(
    upload: IO[bytes], predictor: Predictor, explain: Explain | None, counting: Counting, most: int = MOST_BYTES
) -> Scored:
    """Score a table, and give it back in the dialect that it came in.

    A row that is no record keeps its place, without scores and with its errors in words. With `explain` there is a
    column `reasons` too, blank where a row has none. Raises `BadTable` where the upload is no table or becomes `most`
    bytes, `InvalidRecords` where it lacks a field, `NotExplainable`, `TooMuch` and, where the disk is full, `OSError`.
    """
    schema = predictor.model.schema
    # Of thousands of fields the names alone can be more.
    longest = max(LONGEST_LINE, 3 * sum(len(field.name) for field in schema.fields))
    file = spool.file()
    try:
        with Table(upload, lambda name: schema.meant(name) in schema.names, longest) as table:
            for piece in _pieces(table, predictor, explain, counting):
                # What the encoding lacks can only be in the words of an error.
                file.write(piece.encode(table.dialect.encoding, "replace"))
                if file.tell() > most:
                    raise BadTable(f"with its scores and errors it has more than {most:,} bytes; send it in parts")
        file.seek(0)
        unit = predictor.model.reasons_unit if explain else None
        return Scored(file, table.dialect.encoding.removesuffix("le"), unit)  # with its mark, it is UTF-16
    except BaseException:
        file.close()
        raise


def noted(names: list[str]) -> str:
    """What the note says of a record in which these fields are unusual."""
    return f"unusual: {', '.join(names)}"


def in_words(errors: Collection[FieldError]) -> str:
    """What is wrong with a row, in its column `error`."""
    return "; ".join(f"{error.field}: {error.message}" for error in errors)


def _pieces(table: Table, predictor: Predictor, explain: Explain | None, counting: Counting) -> Iterator[str]:
    """The scored table, some hundred rows at a time."""
    model, header, dialect = predictor.model, table.header, table.dialect
    read_rows = RowReader(model.schema, header, predictor.lenient, table.delimiter, model.absent)
    # What was taken for a value of a field is none that harms, most of the time.
    harmless = {at for at, field in read_rows.fields().items() if not (predictor.lenient or _may_be_formula(field))}
    others = [at for at in range(len(header)) if at not in harmless]
    target, threshold = model.schema.target, model.schema.threshold

    piece = _Piece()
    write = _writer(piece, dialect)
    piece.write("\ufeff" * dialect.has_mark)
    write([*map(inert, [*header, f"{target}_probability", target]), *["reasons"] * bool(explain), "note", "error"])
    decimal = ""
    is_to_be_said = not "".join(header).isascii()  # that the header was converted, in the first row
    for block in table.blocks():
        records, errors = _read(block, len(header), dialect.delimiter, read_rows, counting)
        columns, unusual = records.columns, records.unusual
        probabilities = model.probabilities(columns)
        counting.scored(records, probabilities)
        decimal = decimal or ("," if read_rows.has_decimal_comma else ".")
        decisions = ["true" if each >= threshold else "false" for each in probabilities]
        scores = _written(probabilities, decimal), decisions
        is_converted = table.dialect.encoding == WINDOWS
        if not (explain or is_converted) and _is_plain(block, errors, unusual, others):
            # Most blocks: twice as fast as taking the rows apart and putting them together again.
            ends = repeat(f"{dialect.delimiter}{dialect.line_end}")
            lines_of_block = (line or "" for _, line in block)
            piece += map(dialect.delimiter.join, zip(lines_of_block, *scores, ends, strict=False))
        else:
            reasons = _reasons(model, columns, probabilities, explain) if explain else repeat("")
            answers = zip(*scores, reasons, map(unusual.get, range(len(probabilities))), strict=False)
            for (cells, _), error in in_turns(zip(block, errors, strict=True)):
                probability, decision, reason, names = ("", "", "", None) if error else next(answers)
                notes = [noted(names)] if names else []
                if is_converted and (is_to_be_said or not "".join(cells).isascii()):
                    notes.append(f"read as {WINDOWS.title()}")
                    is_to_be_said = False
                if error:
                    cells[:] = map(inert, _squared(cells, len(header), dialect.delimiter))
                else:
                    for position in others:
                        cells[position] = inert(cells[position])
                write([*cells, probability, decision, *[reason] * bool(explain), "; ".join(notes), inert(error)])
        yield "".join(piece)
        piece.clear()
    yield "".join(piece)


def _may_be_formula(field: Field) -> bool:
    """Whether one of a field's values, in some spelling, may be a formula."""
    return bool(may_have_formula("\n".join(field.texts).replace("_", " ")))


def _writer(piece: _Piece, dialect: Dialect) -> Callable[[list[str]], None]:
    """What writes a row, so that it is read back as it was."""
    writer = csv.writer(piece, delimiter=dialect.delimiter, lineterminator=dialect.line_end)
    # csv takes a return for a letter where lines end without one.
    quoting = csv.writer(piece, delimiter=dialect.delimiter, lineterminator=dialect.line_end, quoting=csv.QUOTE_ALL)

    def write(row: list[str]) -> None:
        (quoting if any("\r" in cell for cell in row) else writer).writerow(row)

    return write


def _is_plain(block: list[Row], errors: list[str], unusual: Unusual, others: list[int]) -> bool:
    """Whether the answer to these rows is their lines, with the scores behind them."""
    if unusual or any(errors) or not all(line is not None for _, line in block):
        return False
    return not may_have_formula("\n".join([cells[position] for cells, _ in block for position in others]))


def _read(
    rows: list[Row], width: int, delimiter: str, read_rows: RowReader, counting: Counting
) -> tuple[Records, list[str]]:
    """The records of rows, and for each row what is wrong with it, in words."""
    fitting = [cells for cells, _ in rows if len(cells) == width]
    found = read_rows(fitting)
    if len(fitting) == len(rows) and not found.wrong:
        return found.records, [""] * len(rows)
    for errors in found.wrong.values():
        counting.invalid("csv", errors, records=1)
    place, words = 0, []
    for cells, line in rows:
        if len(cells) != width:
            counting.invalid("csv", (), records=1)
            number = len(cells) + (cells[-1].count(delimiter) if line is not None and len(cells) > width else 0)
            words.append(f"the row has {number} cells, and the header {width}")
            continue
        words.append(in_words(found.wrong.get(place, ())))
        place += 1
    return found.records, words


def _squared(cells: list[str], width: int, delimiter: str) -> list[str]:
    """As many cells as the header has: filled up, or the rest put into the last one."""
    if len(cells) > width:
        return [*cells[: width - 1], delimiter.join(cells[width - 1 :])]
    return cells + [""] * (width - len(cells))


def _written(probabilities: list[float], decimal: str) -> list[str]:
    """Each probability as a JSON answer has it, which is written many times faster than by repr."""
    return msgspec.json.encode(probabilities).decode().strip("[]").replace(",", ";").replace(".", decimal).split(";")


def _reasons(model: Model, columns: Columns, probabilities: list[float], explain: Explain) -> Iterator[str]:
    """The reasons for each probability, as a cell; blank for those that are not to be explained."""
    wanted = [place for place, each in enumerate(probabilities) if each >= explain.least]
    found = model.reasons(of_places(columns, wanted)) if wanted else []
    told = map(partial(_strongest, model.schema), found) if explain.in_words else map(_shares, found)
    cells = dict(zip(wanted, told, strict=True))
    return (cells.get(place, "") for place in range(len(probabilities)))


def _strongest(schema: Schema, reasons: list[Reason]) -> str:
    strongest = islice((reason for reason in reasons if reason.share > 0), MOST_REASONS)
    return inert("; ".join(schema.told(reason.field, reason.value) for reason in strongest))


def _shares(reasons: list[Reason]) -> str:
    # What is missing, None or NaN, is no value.
    values = ("" if reason.value is None or reason.value != reason.value else reason.value for reason in reasons)
    words = zip(reasons, values, strict=True)
    return inert("; ".join(f"{reason.field}={value} {reason.share:+}" for reason, value in words))
