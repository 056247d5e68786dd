"""How values are distributed: the bins that training and service count them in, and how much two of these differ."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from msgspec import UNSET

from serving.fields import Field

# The bin of what is none of a field's values: missing, or unknown to a lenient service, or, where a field takes both
# numbers and texts, a number.
NOTHING = ""

# Of a field whose values may be ids.
KNOWN, UNKNOWN = "known", "unknown"

# The least share of a bin, so that one that is empty on one side counts, and not without end.
LEAST_SHARE = 0.0001


def edges(field: Field) -> tuple[int | float, ...]:
    """Where a number's bins end, the last one has no end: at the deciles of the training table, as far as they differ.

    None where nothing is known of that table.
    """
    return tuple(sorted({each for each in field.deciles if field.greatest is None or each < field.greatest}))


def number_labels(edges: Sequence[int | float]) -> list[str]:
    """What a number's bins are called; the last one is of no number."""
    if not edges:
        return ["any", NOTHING]
    between = [f"over {low} to {high}" for low, high in pairwise(edges)]
    return [f"up to {edges[0]}", *between, f"over {edges[-1]}", NOTHING]


def of_probability(target: str) -> str:
    """What the answers are called where they stand beside the fields."""
    return f"probability of {target}"


def labels(field: Field) -> list[str]:
    """What a field's bins are called: its values as texts, or a number's bins; none of a number of which no table is
    known."""
    if field.is_number:
        return number_labels(edges(field)) if field.deciles else []
    if field.is_private:
        return [KNOWN, UNKNOWN]
    return [*dict.fromkeys([*field.texts, NOTHING])]


def number_times(edges: Sequence[int | float], numbers: Sequence[float]) -> list[int]:
    """How many numbers are in each bin."""
    ordered = sorted(number for number in numbers if number == number)  # what is missing (NaN) is not
    upto = [bisect_right(ordered, edge) for edge in edges]
    return [*between([*upto, len(ordered)]), len(numbers) - len(ordered)]


def between(upto: Sequence[int]) -> list[int]:
    """How many are in each bin, where it is known how many are in it or below."""
    return [after - before for before, after in pairwise([0, *upto])]


def shares(field: Field, column: Sequence[Any]) -> dict[str, float]:
    """The share of each of a field's bins in a filled column, which is not empty."""
    times = Counter(dict.fromkeys(labels(field), 0))
    if not field.is_number:
        for label, number in label_times(field, column):
            times[label] += number
    elif times:
        times.update(dict(zip(times, number_times(edges(field), column), strict=True)))
    return {label: number / len(column) for label, number in times.items()}


def label_times(field: Field, column: Sequence[Any], is_exact: bool = False) -> Iterator[tuple[str, int]]:
    """How often each value of a field that is no number is in a column, by its label; `is_exact` where nothing else
    can be in it."""
    if is_exact and len(values := field.values) <= 4:
        # To look through it once for each value but the last takes a third of the time for few values.
        found: Counter[Any] = Counter({value: column.count(value) for value in values[:-1]})
        found[values[-1]] = len(column) - found.total()
    else:
        found = Counter(column)
    if field.is_private:
        yield from ((KNOWN, len(column) - found[UNSET]), (UNKNOWN, found[UNSET]))
        return
    known = 0
    for label, value in field.texts.items():
        if value in found:
            known += found[value]
            yield label, found[value]
    if known < len(column):
        yield NOTHING, len(column) - known


def index(expected: Sequence[float], found: Sequence[float]) -> float:
    """The population stability index of two distributions, from their shares of the same bins: 0 where they agree.

    The sum of (found - expected) ln(found / expected) over the bins (Siddiqi, "Credit Risk Scorecards", 2006).
    """
    pairs = ((max(old, LEAST_SHARE), max(new, LEAST_SHARE)) for old, new in zip(expected, found, strict=True))
    return math.fsum((new - old) * math.log(new / old) for old, new in pairs)
