"""The answer that a training table gives for each row: which of the target's values is a yes."""

import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from serving.errors import BadTable
from serving.fields import CANONICAL_BLANKS, Field, canonical
from serving.tables.numbers import Cells, Conventions, Plain
from serving.training import table
from serving.training.table import TextTable

YES, NO = ("yes", "true", "1", "y", "t"), ("no", "false", "0", "n", "f")

# Values that an error names of a target.
MOST_NAMED = 5

COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_comparison = re.compile(r"\s*(>=|<=|>|<)\s*(.+)").fullmatch

# A number for a target, as a field reads it; a blank is None.
_NUMBER = Field("target", "number", blank=0)


def answers(text: TextTable, conventions: Conventions, target: str, positive: Sequence[str] = ()) -> list[bool | None]:
    """For each row whether it is a yes; None for a blank, where nobody has said what is a yes.

    `target` is the column's name in any spelling, `conventions` are those of the table. Each of `positive` is a value
    that is a yes, or a comparison such as `>0`; then everything else is a no. Raises `BadTable` where there is no such
    column, or it has no two answers.
    """
    place = table.place_of(text, target)
    cells, plain = [row[place] for row in text.rows], conventions[place]
    if positive:
        different = {*cells}
        is_yes = [matcher(each, different, plain) for each in positive]
        for each, value in zip(is_yes, positive, strict=True):
            if not any(map(each, different)):
                raise BadTable(f"no row's {target} is a yes by --positive {value!r}: it has {_named(Counter(cells))}")
        found: dict[str, bool | None] = {cell: any(each(cell) for each in is_yes) for cell in different}
    else:
        found = _by_words(target, cells, plain)
    answered = [found[cell] for cell in cells]
    given = {answer for answer in answered if answer is not None}
    if len(given) < 2:
        what = "yes" if given == {True} else "no"
        said = f" with --positive {' --positive '.join(positive)}" if positive else ""
        raise BadTable(f"{target} is {what} in every row{said}: a model needs both to learn from")
    return answered


def _by_words(target: str, cells: Cells, plain: Plain) -> dict[str, bool | None]:
    words = {cell: spelt(cell, plain) for cell in {*cells}}
    times = Counter(words[cell] for cell in cells)
    for blank in CANONICAL_BLANKS:
        times.pop(blank, None)
    if not times:
        raise BadTable(f"{target} is blank in every row")
    named = _named(times)
    if len(times) == 1:
        only, left = next(iter(times)), len(cells) - times.total()
        advice = f" (of its {left:,} blanks --positive {only} makes a no)" if left else ""
        where = "every row that is not blank" if left else "every row"
        raise BadTable(f"{target} is {only} in {where}: a model needs both to learn from{advice}")
    if len(times) > 2:
        raise BadTable(f"{target} has {len(times):,} values: {named}; say which are a yes with --positive VALUE")
    yes = [value for value in times if value in YES]
    no = [value for value in times if value in NO]
    if len(yes) != 1 or len(no) != 1:
        raise BadTable(f"{target} has the values {named}; say which is the yes with --positive VALUE")
    return {cell: None if word in CANONICAL_BLANKS else word == yes[0] for cell, word in words.items()}


def _named(times: Counter[str]) -> str:
    """The most frequent values, each with how often it is there."""
    named = [f"{value} ({count:,})" for value, count in times.most_common(MOST_NAMED)]
    return ", ".join([*named, *["…"] * (len(times) > MOST_NAMED)])


def matcher(positive: str, cells: Collection[str], plain: Plain) -> Callable[[str], bool]:
    """Whether a cell is this value, or compares so where no cell is."""
    if (comparison := _comparison(positive)) and canonical(positive) not in {*map(canonical, cells)}:
        compare, bound = COMPARISONS[comparison[1]], _number(comparison[2], str)
        if bound is None:
            raise BadTable(f"--positive {positive!r} compares with what is no number")
        return lambda cell: (number := _number(cell, plain)) is not None and bool(compare(number, bound))
    wanted = spelt(positive, str)
    return lambda cell: spelt(cell, plain) == wanted


def _number(text: str, plain: Plain) -> float | None:
    try:
        number = _NUMBER.read(plain(text), from_text=True)
    except ValueError:
        return None
    return number if isinstance(number, float) else None


def spelt(text: str, plain: Plain) -> str:
    """A value in canonical spelling; 1.0 is 1."""
    number = _number(text, plain)
    return f"{number:.15g}" if number is not None else canonical(text)
