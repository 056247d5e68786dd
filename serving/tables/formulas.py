"""Cells that a spreadsheet would take for a formula, made harmless."""

import re

# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection"), in full width and small
# too, since programs take those for the same.
_SIGNS = r"=+\-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b"

# Where a program may see a cell begin: at the delimiters of other tables, and at whatever somebody takes for a line's
# end. Blanks and quotes before the sign may go.
_ENDS = r",;\t|\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_formula = re.compile(rf'((?:^|[{_ENDS}])[\s"]*)([{_SIGNS}][^{_ENDS}]*)')

# Every formula has such a place, and few other texts have: it is found several times as fast.
may_have_formula = re.compile(rf'(?<![^\s"{_ENDS}])[{_SIGNS}]').search

_is_number = re.compile(r"[+-]\d+(\.\d+)?(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE).fullmatch


def inert(cell: str) -> str:
    """The cell with an apostrophe before each sign that would begin a formula; numbers are none."""
    return _formula.sub(_with_apostrophe, cell) if may_have_formula(cell) else cell


def _with_apostrophe(found: re.Match[str]) -> str:
    before, formula = found.groups()
    return found[0] if _is_number(formula) else f"{before}'{formula}"
