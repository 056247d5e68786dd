"""Numbers as tables write them, with commas and signs -> as programs write them.

In a table that is separated by commas, a comma in a cell separates thousands. In others it is the decimal sign, and a
point separates thousands, or the point is the decimal sign: that is each column's own. A currency's sign or a % before
or behind a number is left away: 13.5 % is 13.5.
"""

import re
from collections.abc import Callable, Iterable, Sequence

Cells = Sequence[str]
Plain = Callable[[str], str]

_SIGN = "[$€£¥₹%]"


def _pattern(number: str, sign: str = f"{_SIGN}?") -> Callable[[str], re.Match[str] | None]:
    number = rf"(?:{number})(?:e[+-]?\d+)?"
    return re.compile(rf"\s*[+-]?(?:{sign}\s*{number}|{number}\s*{sign})\s*", re.ASCII | re.IGNORECASE).fullmatch


_has_comma_thousands = _pattern(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
_has_sure_thousands = _pattern(r"[1-9]\d{0,2}(?:,\d{3})+\.\d*|[1-9]\d{0,2}(?:,\d{3}){2,}")
_has_point_thousands = _pattern(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d*)?")
_has_decimal_comma = _pattern(r"\d+,\d*|,\d+")
_has_decimal_point = _pattern(r"\d+\.\d*|\.\d+")
_is_like_a_number = _pattern(r"[\d.,]+")
_has_sign = _pattern(r"[\d.,]+", _SIGN)
_signs = re.compile(rf"\s*{_SIGN}\s*")


def bare(cell: str) -> str:
    """A number without a sign of its unit; anything else as it is."""
    if cell[:1].isdigit() and cell[-1:].isdigit():  # as most are: known in a third of the time
        return cell
    return _signs.sub("", cell) if _has_sign(cell) else cell


def without_thousands(cell: str) -> str:
    """A number without the commas in it, where they are between groups of three digits; anything else as it is."""
    cell = bare(cell)
    return cell.replace(",", "") if _has_comma_thousands(cell) else cell


def without_sure_thousands(cell: str) -> str:
    """The same where the commas in it can be nothing else: 1,234 could be little more than 1."""
    cell = bare(cell)
    return cell.replace(",", "") if _has_sure_thousands(cell) else cell


def with_point(cell: str) -> str:
    """A number with a decimal comma, with a decimal point. Raises `ValueError` for one that is written otherwise."""
    cell = bare(cell)
    if "." in cell:
        if _has_point_thousands(cell):
            cell = cell.replace(".", "")
        elif _is_like_a_number(cell):
            raise ValueError
    return cell.replace(",", ".") if "," in cell and _has_decimal_comma(cell) else cell


class Conventions:
    """How each of these columns of a table writes its numbers, decided in the first block of rows that shows it."""

    def __init__(self, delimiter: str, columns: Iterable[int]):
        self._otherwise: Plain = without_thousands if delimiter == "," else without_sure_thousands
        self._undecided = set() if delimiter == "," else {*columns}
        self._decided: dict[int, Plain] = {}

    def __getitem__(self, column: int) -> Plain:
        """What makes the numbers in a column plain."""
        return self._decided.get(column, self._otherwise)

    @property
    def has_most_commas(self) -> bool:
        """Whether most columns that are decided have a decimal comma."""
        decided = [*self._decided.values()]
        return 2 * decided.count(with_point) > len(decided)

    def learn(self, block: Sequence[Cells]) -> list[int]:
        """Look at a block of rows, by column; gives the columns that it has decided."""
        shown = {column: _shown(block[column]) for column in self._undecided}
        decided = {column: plain for column, plain in shown.items() if plain}
        others = [*self._decided.values(), *decided.values()]
        points = [plain for plain in others if plain is not with_point]
        otherwise = without_thousands if without_thousands in points else without_sure_thousands
        for column in self._undecided - decided.keys():
            # 1.234 and 1,234 alone are both: then the table's other columns tell, and else its delimiter.
            if any(_has_point_thousands(cell) or _has_comma_thousands(cell) for cell in block[column]):
                decided[column] = with_point if 2 * len(points) <= len(others) else otherwise
        self._decided |= decided
        self._undecided -= decided.keys()
        return [*decided]


def _shown(cells: Cells) -> Plain | None:
    """What makes plain how most of the cells that show it are written; None where none does."""
    shown, has_commas = 0, False
    for cell in cells:
        if "," in cell:
            if not _has_comma_thousands(cell):
                shown += bool(_has_point_thousands(cell) or _has_decimal_comma(cell))
            has_commas = has_commas or bool(_has_sure_thousands(cell))
        elif "." in cell:
            shown -= bool(_has_decimal_point(cell) and not _has_point_thousands(cell))
    if shown > 0:
        return with_point
    return without_thousands if has_commas else without_sure_thousands if shown else None
