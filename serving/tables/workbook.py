"""An Excel workbook -> its first sheet as CSV, unpacked by a process of its own: a few bytes can become anything.

That process is this module, run. It is told the workbook on its input and gives UTF-8 with commas; whether it could is
its status, and why not what it says on the other output.
"""

import contextlib
import csv
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple, cast
from xml.etree import ElementTree
from xml.parsers import expat

from serving import limits, spool
from serving.errors import BadTable, TooMuch

# How a workbook of Excel 2007 and later begins (it is a ZIP archive), and how those before, and those with a password.
PACKED, OLD = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

# Bytes by which one is known.
BEGINNING = max(len(PACKED), len(OLD))

# Bytes of a sheet that are looked through at once.
BLOCK = 65_536

# The statuses of the process where it says why it refuses, and where it is too much; and characters of a reason,
# which may quote the workbook.
REFUSED, TOO_MUCH = 3, 4
LONGEST_REASON = 500

# A cell of a sheet with an error, or a formula in it.
_has_more_than_values = re.compile(rb"""<(\w+:)?f[\s/>]|\st=["']e["']""").search

_cell_name = re.compile(r"([A-Z]+)(\d+)").fullmatch


class Limits(NamedTuple):
    """What a workbook may take: its bytes, and bytes of memory and seconds to unpack it."""

    size: int
    memory: int
    seconds: int


# For workbooks from anywhere, and for one's own. (100,000 rows of 21 columns: 7.5 MB, 230 MB, 3 s.)
CAREFUL = Limits(25_000_000, 512_000_000, 20)
OWN = Limits(1_000_000_000, 16_000_000_000, 3600)


def is_one(first: bytes) -> bool:
    """Whether these are the first bytes of a workbook. Raises `BadTable` for one that cannot be read."""
    if first.startswith(OLD):
        raise BadTable("it is an Excel workbook with a password, or from before 2007; save it as .xlsx without one")
    return first.startswith(PACKED)


# Each unpacks a hundred megabytes or more.
_one_at_a_time = threading.Lock()


def as_csv(blocks: Iterable[bytes], limits_: Limits = CAREFUL) -> IO[bytes]:
    """The first sheet of a workbook that comes in blocks, as a file at its beginning.

    Raises `BadTable`, `TooMuch`, and `OSError` where the disk is full.
    """
    with spool.file() as workbook:
        for block in blocks:
            workbook.write(block)
            if workbook.tell() > limits_.size:
                raise TooMuch(f"An Excel workbook can have {limits_.size:,} bytes; send a longer table as CSV.")
        workbook.seek(0)
        found = spool.file()
        try:
            with _one_at_a_time:
                _unpack(workbook, found, limits_)
            found.seek(0)
            return found
        except BaseException:
            found.close()
            raise


def _unpack(workbook: IO[bytes], found: IO[bytes], limits_: Limits) -> None:
    with subprocess.Popen(
        [limits.interpreter(), "-m", "serving.tables.workbook", str(limits_.seconds), str(limits_.memory)],
        env=limits.environment(RUST_BACKTRACE="0"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        telling, hearing, excuses = cast("list[IO[bytes]]", [process.stdin, process.stdout, process.stderr])
        try:
            with contextlib.suppress(BrokenPipeError):  # then it says why
                shutil.copyfileobj(workbook, telling)
                telling.close()
            shutil.copyfileobj(hearing, found)
            said = excuses.read().decode("utf-8", "replace")
        except BaseException:
            process.kill()
            raise
    if process.returncode == TOO_MUCH or process.returncode < 0:  # by a signal
        most = f"{limits_.memory / 1e6:,.0f} MB or {limits_.seconds} seconds"
        raise BadTable(f"the workbook takes more than {most} to unpack (a cell far away counts too); save it as CSV")
    if process.returncode:
        raise BadTable(said if process.returncode == REFUSED else "the workbook cannot be read")


def main() -> None:
    """Write the workbook that is on standard input to standard output. Raises `BadTable`."""
    # Here, since the service itself does without.
    from python_calamine import SheetTypeEnum, load_workbook  # noqa: PLC0415

    data = io.BytesIO(sys.stdin.buffer.read())
    out = io.TextIOWrapper(sys.stdout.buffer, "utf-8", newline="")
    writer = csv.writer(out, lineterminator="\r\n")  # so that it quotes what has one of the two in it
    try:
        with load_workbook(data) as workbook:
            kinds = [each.typ for each in workbook.sheets_metadata]
            place = kinds.index(SheetTypeEnum.WorkSheet)  # and not a sheet that is a chart
            sheet = workbook.get_sheet_by_index(place)
            _, left = sheet.start or (0, 0)
            others = _not_values(data, place)
            for row, values in enumerate(sheet.iter_rows()):
                cells = [*map(_text, values)]
                for column, text in others.get(row, {}).items():
                    cells[column - left] = text
                writer.writerow(cells if any(cells) else [])
            out.flush()
    except MemoryError:
        sys.exit(TOO_MUCH)
    except Exception as error:  # what is in a file can raise anything
        raise BadTable(f"the workbook cannot be read: {error}") from error


def _text(value: Any) -> str:
    """A cell's value as programs write it; a date in the order of ISO 8601."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _not_values(data: io.BytesIO, place: int) -> dict[int, dict[int, str]]:
    """By row and column, the cells of the sheet in this place that have an error, or a formula that nobody has worked
    out yet: calamine gives an empty text for both, which would pass for a blank."""
    with zipfile.ZipFile(data) as archive:
        part = _part(archive, place)
        with archive.open(part) as sheet:
            before = b""
            while block := sheet.read(BLOCK):
                if _has_more_than_values(before + block):
                    break
                before = block[-20:]
            else:
                return {}
        with archive.open(part) as sheet:
            return _Scan(sheet).found


def _part(archive: zipfile.ZipFile, place: int) -> str:
    """The name of the part that is the sheet in this place."""
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    sheet = [each for each in book.iter() if _is(each.tag, "sheet")][place]
    wanted = next(value for name, value in sheet.attrib.items() if name.endswith("}id"))
    related = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    target = next(each.attrib["Target"] for each in related if each.attrib["Id"] == wanted)
    return str(PurePosixPath("/xl", target))[1:]


def _is(tag: str, name: str) -> bool:
    return tag.rpartition("}")[2].rpartition(":")[2] == name


class _Scan:
    """Goes through the XML of a sheet; `found` are its errors and its formulas without a value."""

    def __init__(self, sheet: IO[bytes]):
        self.found: dict[int, dict[int, str]] = {}
        self._row = self._column = -1
        self._type: str | None = None
        self._texts: dict[str, str] = {}
        self._inside = ""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.ParseFile(sheet)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if _is(tag, "row"):
            self._row = int(attributes["r"]) - 1 if "r" in attributes else self._row + 1
            self._column = -1
        elif _is(tag, "c"):
            name = _cell_name(attributes.get("r", ""))
            self._column = _number(name[1]) if name else self._column + 1
            self._type = attributes.get("t")
            self._texts = {}
        elif _is(tag, "f") or _is(tag, "v"):
            self._inside = tag.rpartition(":")[2]
            self._texts.setdefault(self._inside, "")

    def _characters(self, text: str) -> None:
        if self._inside:
            self._texts[self._inside] += text

    def _end(self, tag: str) -> None:
        if _is(tag, "c"):
            is_open = "f" in self._texts and not self._texts.get("v") and self._type != "str"  # whose value may be ""
            if self._type == "e" or is_open:
                shown = self._texts.get("v") or f"={self._texts.get('f', '')}"
                self.found.setdefault(self._row, {})[self._column] = shown
        self._inside = ""


def _number(letters: str) -> int:
    """The number of a column, from 0: A is 0, and AA 26."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


if __name__ == "__main__":
    limits.hold_to(*map(int, sys.argv[1:]))
    # What libraries write there, as much as a workbook makes them quote, nobody reads.
    excuses = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        main()
    except BadTable as bad:
        excuses.write(" ".join(str(bad).split())[:LONGEST_REASON])
        excuses.close()
        sys.exit(REFUSED)
