"""Universal Binary JSON, draft 12 (https://ubjson.org): what XGBoost writes since 1.6."""

import struct
from typing import Any

# Numbers by their mark: their letter in Python's struct. The big end comes first.
NUMBERS = {"i": "b", "U": "B", "I": "h", "l": "i", "L": "q", "d": "f", "D": "d"}
WHOLE = "iUIlL"
WORDS = {"Z": None, "T": True, "F": False}

# Objects and arrays in one another.
MOST_NESTED = 100


def decode(data: bytes) -> Any:
    """The value that these bytes are; arrays of numbers of one type are tuples. Raises `ValueError`."""
    reader = _Reader(data)
    try:
        value = reader.value(reader.mark(), MOST_NESTED)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"its UBJSON is cut off or damaged at byte {reader.at:,}") from error
    if reader.at != len(data):
        raise ValueError(f"its UBJSON ends at byte {reader.at:,} of {len(data):,}")
    return value


class _Reader:
    """Reads values one after the other, from the place `at`."""

    def __init__(self, data: bytes):
        self._data = data
        self.at = 0

    def mark(self) -> str:
        """The next mark, which says what follows; no-ops are skipped."""
        while (found := chr(self._data[self.at])) == "N":
            self.at += 1
        self.at += 1
        return found

    def value(self, mark: str, depth: int) -> Any:
        """The value that follows its mark."""
        if not depth:
            raise ValueError("its UBJSON is nested too deeply")
        if mark in NUMBERS:
            return self._numbers(mark, 1)[0]
        if mark in WORDS:
            return WORDS[mark]
        if mark == "C":
            return self._bytes(1).decode("ascii")
        if mark in "SH":
            return self._text()
        if mark == "[":
            return self._array(depth)
        if mark == "{":
            return self._object(depth)
        raise ValueError(f"its UBJSON has the mark {mark!r} at byte {self.at:,}")

    def _bytes(self, number: int) -> bytes:
        found = self._data[self.at : self.at + number]
        if number < 0 or len(found) < number:
            raise IndexError
        self.at += number
        return found

    def _numbers(self, mark: str, number: int) -> tuple[Any, ...]:
        layout = f">{number}{NUMBERS[mark]}"
        return struct.unpack(layout, self._bytes(struct.calcsize(layout)))

    def _length(self) -> int:
        mark = self.mark()
        if mark not in WHOLE:
            raise ValueError(f"its UBJSON has no length at byte {self.at:,}")
        length: int = self._numbers(mark, 1)[0]
        return length

    def _text(self) -> str:
        return self._bytes(self._length()).decode()

    def _sized(self) -> tuple[str, int | None]:
        """The type and the number of what is in an array or object, where they come first."""
        kind, number = "", None
        if self._data[self.at] == ord("$"):
            self.at += 1
            kind = self.mark()
        if self._data[self.at] == ord("#"):
            self.at += 1
            number = self._length()
        if (kind and number is None) or (number is not None and not 0 <= number <= len(self._data)):
            raise IndexError
        return kind, number

    def _array(self, depth: int) -> Any:
        kind, number = self._sized()
        if kind in NUMBERS and number is not None:
            return self._numbers(kind, number)
        found: list[Any] = []
        while len(found) != number:
            if number is None and self._data[self.at] == ord("]"):
                self.at += 1
                break
            found.append(self.value(kind or self.mark(), depth - 1))
        return found

    def _object(self, depth: int) -> dict[str, Any]:
        kind, number = self._sized()
        found: dict[str, Any] = {}
        read = 0
        while read != number:
            if number is None and self._data[self.at] == ord("}"):
                self.at += 1
                break
            key = self._text()
            found[key] = self.value(kind or self.mark(), depth - 1)
            read += 1
        return found
