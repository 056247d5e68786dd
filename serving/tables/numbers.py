"""Numbers as tables write them, with commas, blanks and signs -> as programs write them.

In a table that is separated by commas, a comma in a cell separates thousands. In others it is the decimal sign, and a
point separates thousands, or the other way round: that is each column's own. Blanks and apostrophes between thousands,
and a currency's sign or a % before or behind a number, are left away: 13.5 % is 13.5. What is in brackets is negative.
"""

import re
from collections.abc import Callable, Iterable, Sequence

Cells = Sequence[str]
Plain = Callable[[str], str]

# Rows that are looked at together: few enough to be nothing, many enough to be fast.
ROWS = 500

# Blanks are also those at which no line is broken, and thin ones. (Taken all at once, or two runs of them in a pattern
# would be tried in all ways.)
_UNIT, _BLANK = "[$€£¥₹%]", r"[\s\u00a0\u2009\u202f]"
_BLANKS = f"{_BLANK}*+"
_GROUPS = r"[1-9]\d{0,2}(?:[ \u00a0\u2009\u202f'\u2019]\d{3})+"


def _pattern(number: str, unit: str = f"{_UNIT}?") -> Callable[[str], re.Match[str] | None]:
    number = rf"(?:{number})(?:e[+-]?\d+)?"
    signed = rf"{_BLANKS}[+-]?(?:{unit}{_BLANKS}[+-]?{number}|{number}{_BLANKS}{unit}){_BLANKS}"
    return re.compile(signed, re.ASCII | re.IGNORECASE).fullmatch


_has_comma_thousands = _pattern(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
_has_sure_thousands = _pattern(r"[1-9]\d{0,2}(?:,\d{3})+\.\d*|[1-9]\d{0,2}(?:,\d{3}){2,}")
_has_point_thousands = _pattern(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d*)?")
_has_decimal_comma = _pattern(rf"(?:\d+|{_GROUPS}),\d*|,\d+")
_has_decimal_point = _pattern(rf"(?:\d+|{_GROUPS})\.\d*|\.\d+")
_is_like_a_number = _pattern(r"[\d.,]+")
_has_groups = _pattern(rf"{_GROUPS}(?:[.,]\d*)?")
_has_unit = _pattern(r"[\d.,]+", _UNIT)
# Where these are written, commas separate thousands.
_begins_with_unit = re.compile(rf"{_BLANKS}[+-]?[$£]").match
_left_away = re.compile(rf"{_UNIT}|{_BLANK}|['\u2019]")


def bare(cell: str) -> str:
    """A number without its unit, and without what stands between its thousands but for commas and points; anything else
    as it is."""
    if cell[:1] == "(" and cell[-1:] == ")" and _is_like_a_number(cell[1:-1]):
        return "-" + _left_away.sub("", cell[1:-1])  # as accountants write it
    if _left_away.search(cell) and (_has_unit(cell) or _has_groups(cell)):
        return _left_away.sub("", cell)
    return cell


def without_thousands(cell: str) -> str:
    """A number without the commas in it, where they are between groups of three digits; anything else as it is."""
    cell = bare(cell)
    return cell.replace(",", "") if _has_comma_thousands(cell) else cell


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
    """How each of these columns of a table writes its numbers, decided by the first rows that show it."""

    def __init__(self, delimiter: str, columns: Iterable[int]):
        self._undecided = set() if delimiter == "," else {*columns}
        self._decided: dict[int, Plain] = {}

    def __getitem__(self, column: int) -> Plain:
        """What makes the numbers in a column plain."""
        return self._decided.get(column, without_thousands)

    @property
    def has_most_commas(self) -> bool:
        """Whether most columns that are decided have a decimal comma."""
        decided = list(self._decided.values())
        return 2 * decided.count(with_point) > len(decided)

    def learn(self, columns: Sequence[Cells]) -> list[int]:
        """Look at rows, by column; gives the columns that are decided now.

        However many they are, so many are looked at together: what is trained on is read as it will be when it is sent.
        """
        before = {*self._decided}
        for start in range(0, len(columns[0]) if columns else 0, ROWS):
            self._learn({column: columns[column][start : start + ROWS] for column in self._undecided})
        return [*self._decided.keys() - before]

    def _learn(self, block: dict[int, Cells]) -> None:
        shown = {column: _shown(cells) for column, cells in block.items()}
        decided = {column: plain for column, plain in shown.items() if plain}
        others = [*self._decided.values(), *decided.values()]
        most = with_point if 2 * others.count(with_point) >= len(others) else without_thousands
        for column in self._undecided - decided.keys():
            # 1.234 and 1,234 alone are both: then the table's other columns tell, and else its delimiter.
            if any(_has_point_thousands(cell) or _has_comma_thousands(cell) for cell in block[column]):
                decided[column] = most
        self._decided |= decided
        self._undecided -= decided.keys()


def _shown(cells: Cells) -> Plain | None:
    """What makes plain how most of the cells that show it are written; None where none does."""
    shown = 0
    for cell in cells:
        if "," in cell:
            if _has_comma_thousands(cell):
                shown -= bool(_has_sure_thousands(cell) or _begins_with_unit(cell))
            else:
                shown += bool(_has_point_thousands(cell) or _has_decimal_comma(cell))
        elif "." in cell:
            shown -= bool(_has_decimal_point(cell) and not _has_point_thousands(cell))
    return with_point if shown > 0 else without_thousands if shown else None
