"""Numbers as tables write them, with commas, blanks and signs -> as programs write them.

In a table that is separated by commas, a comma in a cell separates thousands. In others it is the decimal sign, and a
point separates thousands, or the point is the decimal sign: that is each column's own. Blanks and apostrophes between
thousands, and a currency's sign or a % before or behind a number, are left away: 13.5 % is 13.5.
"""

import re
from collections.abc import Callable, Iterable, Sequence

Cells = Sequence[str]
Plain = Callable[[str], str]

# As Excel and pandas write amounts, with blanks that no line is broken at too.
_SIGN, _BLANKS = "[$€£¥₹%]", r"[\s\u00a0\u202f]*"
_GROUPS = r"[1-9]\d{0,2}(?:[ \u00a0\u202f'\u2019]\d{3})+"


def _pattern(number: str, sign: str = f"{_SIGN}?") -> Callable[[str], re.Match[str] | None]:
    number = rf"(?:{number})(?:e[+-]?\d+)?"
    signed = rf"{_BLANKS}[+-]?(?:{sign}{_BLANKS}{number}|{number}{_BLANKS}{sign}){_BLANKS}"
    return re.compile(signed, re.ASCII | re.IGNORECASE).fullmatch


_has_comma_thousands = _pattern(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
_has_sure_thousands = _pattern(r"[1-9]\d{0,2}(?:,\d{3})+\.\d*|[1-9]\d{0,2}(?:,\d{3}){2,}")
_has_point_thousands = _pattern(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d*)?")
_has_decimal_comma = _pattern(rf"(?:\d+|{_GROUPS}),\d*|,\d+")
_has_decimal_point = _pattern(rf"(?:\d+|{_GROUPS})\.\d*|\.\d+")
_is_like_a_number = _pattern(r"[\d.,]+")
_has_groups = _pattern(rf"{_GROUPS}(?:[.,]\d*)?")
_has_sign = _pattern(r"[\d.,]+", _SIGN)
_left_away = re.compile(rf"{_SIGN}|[\s\u00a0\u202f'\u2019]")


def bare(cell: str) -> str:
    """A number without what stands between its thousands, but for commas and points, and without a sign of its unit;
    anything else as it is."""
    if _left_away.search(cell) and (_has_sign(cell) or _has_groups(cell)):
        return _left_away.sub("", cell)
    return cell


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
