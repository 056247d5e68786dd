"""A table as it comes, CSV or Excel -> its header and its rows, in blocks."""

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import IO, Any, NamedTuple, Self

from serving.errors import BadTable
from serving.tables import workbook
from serving.tables.numbers import ROWS
from serving.tables.text import LONGEST_LINE, Lines

DELIMITERS = ",;\t|"

# Bytes that are read, and cut into lines, at once.
BLOCK = 65_536

# Characters, and cells, of the rows that are looked at together.
BLOCK_CHARACTERS, BLOCK_CELLS = 2_000_000, 250_000

# A row's cells, and the line they stood in where they are nothing but the line, cut at the delimiter.
Row = tuple[list[str], str | None]


class Dialect(NamedTuple):
    """How a table is written: kept for the answer."""

    delimiter: str
    line_end: str
    encoding: str
    has_mark: bool


# How Excel takes a CSV for what it is, wherever its user reads English.
EXCELS = Dialect(delimiter=",", line_end="\r\n", encoding="utf-8", has_mark=True)


class Table:
    """A table that is read as it comes: its `header`, and its rows.

    Of the delimiters it is the one with which most of the header's names are known, and then the one with most cells.
    Raises `BadTable`, here or while it is read, and `TooMuch`.
    """

    def __init__(
        self,
        upload: IO[bytes],
        is_known: Callable[[str], bool] | None = None,
        longest: int = LONGEST_LINE,
        limits: workbook.Limits = workbook.CAREFUL,
    ):
        first = upload.read(BLOCK)
        blocks: Iterator[bytes] = chain([first], _blocks(upload))
        self._unpacked: IO[bytes] | None = None
        if workbook.is_one(first):
            self._unpacked = workbook.as_csv(blocks, limits)
            blocks = _blocks(self._unpacked)
        try:
            self._lines = Lines(blocks, longest)
            self._longest = longest
            self.delimiter, self.header, self._line_end, self._rest = self._read_header(is_known)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up what reading it took; not the upload."""
        if self._unpacked:
            self._unpacked.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dialect(self) -> Dialect:
        """How the answer is to be written. Its encoding can become another one with the first letter that tells."""
        if self._unpacked:
            return EXCELS
        return Dialect(self.delimiter, self._line_end, self._lines.encoding, self._lines.has_mark)

    def blocks(self) -> Iterator[list[Row]]:
        """The rows in blocks, which have not too many cells or characters either."""
        most = max(1, min(ROWS, BLOCK_CELLS // len(self.header)))
        block: list[Row] = []
        size = 0
        for row in self.rows():
            block.append(row)
            size += sum(map(len, row[0])) if row[1] is None else len(row[1])
            if len(block) == most or size > BLOCK_CHARACTERS:
                yield block
                block, size = [], 0
        if block:
            yield block

    @property
    def line(self) -> int:
        """The number of the line that was read last, from 1; in a workbook it is the row's."""
        return self._lines.number

    def rows(self) -> Iterator[Row]:
        """Each row with at most as many cells as the header, and one for all that is too much.

        Blank lines are none, unless the table has one column.
        """
        delimiter, width, lines = self.delimiter, len(self.header), self._rest
        for line in lines:
            if '"' in line:  # which may go on over several lines
                yield self._cells(chain([line], lines), delimiter)[0], None
            elif (stripped := line.rstrip("\r\n")) or width == 1:
                yield stripped.split(delimiter, width), stripped

    def _cells(self, lines: Iterable[str], delimiter: str) -> tuple[list[str], int]:
        """The cells of the row that begins here, and the number of its lines: no more of them are taken."""
        began = self._lines.number
        reader = csv.reader(self._of_one_row(lines, began), delimiter=delimiter)
        try:
            return next(reader, []), reader.line_num
        except csv.Error as error:
            raise BadTable(f"the row with quotes in line {began} cannot be read: {error}") from error

    def _of_one_row(self, lines: Iterable[str], began: int) -> Iterator[str]:
        left, row = self._longest, f"row with quotes that begins in line {began}"
        for line in lines:
            left -= len(line)
            if left < 0:
                raise BadTable(f"the {row} has more than {self._longest:,} characters")
            yield line
        raise BadTable(f"the {row} has a quote that is never closed")

    def _read_header(self, is_known: Callable[[str], bool] | None) -> tuple[str, list[str], str, Iterator[str]]:
        """The delimiter, the header, its line's end, and the lines that follow."""
        taken = list(islice((line for line in self._lines if line.strip("\r\n")), 1))

        def from_the_top() -> Iterator[str]:
            yield from taken
            for line in self._lines:
                taken.append(line)
                yield line

        if not taken:
            raise BadTable("it is empty")
        found: list[tuple[Any, ...]] = []
        wrong: list[BadTable] = []
        for delimiter in EXCELS.delimiter if self._unpacked else DELIMITERS:
            try:
                cells, number = self._cells(from_the_top(), delimiter)
                found.append((sum(map(is_known or bool, cells)), len(cells), -len(found), delimiter, cells, number))
            except BadTable as bad:
                wrong.append(bad)
        if wrong and not any(known for known, *_ in found):
            raise wrong[0]
        *_, delimiter, header, number = max(found)
        end = "\r\n" if taken[number - 1].endswith("\r\n") else "\n"
        return delimiter, header, end, chain(taken[number:], self._lines)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(BLOCK), b"")
