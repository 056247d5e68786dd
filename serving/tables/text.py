"""The bytes of a table -> its lines, in flat memory, whichever encoding it is in."""

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain, repeat

from serving.errors import BadTable
from serving.turns import in_turns

# Far more than a record takes; a line without an end is not read on into memory.
LONGEST_LINE = 100_000

# Bytes that a character takes in UTF-8 at most.
MOST_BYTES = 4

UTF_8, WINDOWS = "utf-8", "windows-1252"

UTF_16 = {codecs.BOM_UTF16_LE: "utf-16le", codecs.BOM_UTF16_BE: "utf-16be"}


class Lines:
    """The lines of a table with their ends, from its bytes in blocks.

    UTF-16 has a byte order mark; else the first line that is not ASCII tells whether the table is in UTF-8 or in
    Windows-1252, and the others are held to it. `encoding` is what has been found so far (of UTF-16 the order that has
    a name in browsers), and `number` is the last line's. Raises `BadTable`, also for a line of more than `longest`
    characters.
    """

    def __init__(self, blocks: Iterable[bytes], longest: int = LONGEST_LINE):
        self._longest = longest
        self.number = 0
        blocks = iter(blocks)
        first = next(blocks, b"")
        utf_16 = UTF_16.get(first[:2])
        self.encoding = "utf-16le" if utf_16 else UTF_8
        self.has_mark = bool(utf_16) or first.startswith(codecs.BOM_UTF8)
        self._is_decided = self.has_mark
        if utf_16:
            blocks = _in_utf8(chain([first[2:]], blocks), utf_16)
        else:
            if b"\0" in first:
                raise BadTable("it is no text; it can be CSV (UTF-8, Windows-1252, or UTF-16 with its mark) or Excel")
            blocks = chain([first.removeprefix(codecs.BOM_UTF8)], blocks)
        self._lines = self._decoded(blocks)

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _decoded(self, blocks: Iterator[bytes]) -> Iterator[str]:
        rest = b""
        for block in in_turns(filter(None, blocks)):
            # Bytes, since a text's splitlines knows more ends of lines than tables do. The last line
            # may go on in the next block, if only with the other half of its end.
            *lines, rest = (rest + block).splitlines(keepends=True)
            yield from self._texts(lines)
            if len(rest) > self._longest * MOST_BYTES:
                raise self._too_long(self.number + 1)
        yield from self._texts([rest] if rest else [])

    def _texts(self, lines: list[bytes]) -> Iterator[str]:
        if not self._is_decided and (other := next((line for line in lines if not line.isascii()), None)):
            self._is_decided = True
            if not _is_utf8(other):
                self.encoding = WINDOWS
        encoding = WINDOWS if self.encoding == WINDOWS else UTF_8
        try:
            for text in map(bytes.decode, lines, repeat(encoding)):
                self.number += 1
                if len(text) > self._longest:
                    raise self._too_long(self.number)
                yield text
        except UnicodeDecodeError as error:
            is_not = (
                "neither UTF-8 nor Windows-1252" if encoding == WINDOWS else "not UTF-8, as the lines before it are"
            )
            raise BadTable(f"line {self.number + 1} is {is_not}; save the table as CSV UTF-8") from error

    def _too_long(self, number: int) -> BadTable:
        return BadTable(f"line {number} has more than {self._longest:,} characters")


def _in_utf8(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    try:
        for text in codecs.iterdecode(blocks, encoding):
            yield text.encode()
    except UnicodeDecodeError as error:
        raise BadTable(f"it is no UTF-16, as its first two bytes say: {error.reason}") from error


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
        return True
    except UnicodeDecodeError:
        return False
