"""Cells that a spreadsheet would take for a formula, made harmless."""

import re

# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection"), in full width and small
# too, since programs take those for the same.
_SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b"

# Where a program may see a cell begin: at the delimiters of other tables, and at whatever somebody takes for a line's
# end. Blanks and quotes before the sign may go.
_ENDS = r",;\t|\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_parts = re.compile(rf"[{_ENDS}]|[^{_ENDS}]+").findall
_BEFORE = ' "\u00a0\u3000'

# An apostrophe that keeps what follows from being a formula.
_put = re.compile(rf"(^|[{_ENDS}])([{_BEFORE}]*)'(?=[{re.escape(_SIGNS)}])")

# Every formula has such a place, and few other texts have: it is found several times as fast.
may_have_formula = re.compile(rf'(?<![^\s"{_ENDS}])[{re.escape(_SIGNS)}]').search

# A whole cell that is a number, or that is dashes, in whatever country. (Runs are taken all at once, or long ones would
# be tried in all ways.)
_is_harmless = re.compile(
    r"[+-]?[$€£¥₹]?[.,]*+\d[\d.,]*+(e[+-]?\d++)?\s*+[%$€£¥₹]?\s*+|-++", re.ASCII | re.IGNORECASE
).fullmatch


def inert(cell: str) -> str:
    """The cell with an apostrophe before each sign that would begin a formula."""
    if not may_have_formula(cell) or _is_harmless(cell):
        return cell
    return "".join(map(_inert_part, _parts(cell)))


def original(cell: str) -> str:
    """The cell that `inert` made this of, or the same where it would not have made it."""
    found = _put.sub(r"\1\2", cell)
    return found if inert(found) == cell else cell


def _inert_part(part: str) -> str:
    formula = part.lstrip(_BEFORE)
    return f"{part[: -len(formula)]}'{formula}" if formula.startswith(tuple(_SIGNS)) else part
