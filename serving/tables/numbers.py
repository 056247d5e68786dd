"""Numbers as tables write them, with commas -> as programs write them.

In a table that is separated by commas, a comma in a cell separates thousands. In others it is the decimal sign, and a
point separates thousands, or the point is the decimal sign: that is each column's own.
"""

import re
from collections.abc import Callable, Iterable, Sequence

Cells = Sequence[str]
Plain = Callable[[str], str]

_EXPONENT = r"(?:e[+-]?\d+)?"


def _pattern(number: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(rf"\s*[+-]?(?:{number}){_EXPONENT}\s*", re.ASCII | re.IGNORECASE).fullmatch


_has_comma_thousands = _pattern(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
_has_point_thousands = _pattern(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d*)?")
_has_decimal_comma = _pattern(r"\d+,\d*|,\d+")
_has_decimal_point = _pattern(r"\d+\.\d*|\.\d+")
_is_like_a_number = _pattern(r"[\d.,]+")


def without_thousands(cell: str) -> str:
    """A number without the commas in it, where they are between groups of three digits; anything else as it is."""
    return cell.replace(",", "") if _has_comma_thousands(cell) else cell


def with_point(cell: str) -> str:
    """A number with a decimal comma, with a decimal point. Raises `ValueError` for one that is written otherwise."""
    if "." in cell:
        if _has_point_thousands(cell):
            cell = cell.replace(".", "")
        elif _is_like_a_number(cell):
            raise ValueError
    return cell.replace(",", ".") if "," in cell and _has_decimal_comma(cell) else cell


class Conventions:
    """How each of these columns of a table writes its numbers, decided in the first block of rows that shows it."""

    def __init__(self, delimiter: str, columns: Iterable[int]):
        self._otherwise: Plain = without_thousands if delimiter == "," else str
        self._undecided = set() if delimiter == "," else {*columns}
        # Whether the decimal sign is a comma, and a point separates thousands.
        self._has_comma: dict[int, bool] = {}

    def __getitem__(self, column: int) -> Plain:
        """What makes the numbers in a column plain."""
        return with_point if self._has_comma.get(column) else self._otherwise

    @property
    def has_most_commas(self) -> bool:
        """Whether most columns that are decided have a decimal comma."""
        return 2 * sum(self._has_comma.values()) > len(self._has_comma)

    def learn(self, block: Sequence[Cells]) -> list[int]:
        """Look at a block of rows, by column; gives the columns that it has decided."""
        shown = {column: _shown(block[column]) for column in self._undecided}
        decided = {column: has_comma for column, has_comma in shown.items() if has_comma is not None}
        others = [*self._has_comma.values(), *decided.values()]
        for column in self._undecided - decided.keys():
            # 1.234 and 1,234 alone are both: then the table's other columns tell, and else its delimiter.
            if any(_has_point_thousands(cell) or _has_comma_thousands(cell) for cell in block[column]):
                decided[column] = others.count(True) >= others.count(False)
        self._has_comma |= decided
        self._undecided -= decided.keys()
        return [*decided]


def _shown(cells: Cells) -> bool | None:
    """Whether most of the cells that show it have a decimal comma; None where none does."""
    shown = 0
    for cell in cells:
        if "," in cell:
            shown += bool(_has_point_thousands(cell) or (_has_decimal_comma(cell) and not _has_comma_thousands(cell)))
        elif "." in cell:
            shown -= bool(_has_decimal_point(cell) and not _has_point_thousands(cell))
    return shown > 0 if shown else None
