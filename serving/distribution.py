"""How values are distributed: the bins that training and service count them in, and how much two of these differ."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from msgspec import UNSET

from serving.fields import Field

# The bin of what is none of a field's values: missing, or unknown to a lenient service, or, where a field takes both
# numbers and texts and no edges are known, a number.
NOTHING = ""

# Of a field whose values may be ids.
KNOWN, UNKNOWN = "known", "unknown"

# What is added to the number in each bin, so that one that is empty on one side counts, and the less the fewer records
# there are: of a share of 5 % none in 40 is no news. (As in Jeffreys' prior for shares.)
ADDED = 0.5

# Where numbers' bins end; the last one has no end.
Edges = Sequence[int | float]


def in_order(numbers: Iterable[float]) -> list[float]:
    """Numbers from the least to the greatest, without those that are missing (NaN)."""
    ordered = sorted(numbers)
    # Where one is missing they are in no order.
    return sorted(each for each in ordered if each == each) if math.isnan(sum(ordered)) else ordered


def tenths(numbers: Sequence[int | float]) -> list[int | float]:
    """Where bins end that have a tenth of the numbers each, as far as they differ: at the deciles, and where these
    reach the greatest number, at the one before it. There are no numbers that are missing, and at least one."""
    ordered = sorted(numbers)
    ends = {*deciles(ordered)}
    if (greatest := ordered[-1]) in ends:
        ends.remove(greatest)
        ends.add(next((number for number in reversed(ordered) if number < greatest), greatest))
    return sorted(ends)


def deciles(ordered: Sequence[int | float]) -> list[int | float]:
    """The nine deciles of numbers in order: the first number that so many are not above (numpy's `inverted_cdf`)."""
    return [ordered[-(-len(ordered) * step // 10) - 1] for step in range(1, 10)]


def number_labels(edges: Edges) -> list[str]:
    """What the bins of numbers are called; the last one is of no number."""
    between = [f"over {low} to {high}" for low, high in pairwise(edges)]
    return [f"up to {edges[0]}", *between, f"over {edges[-1]}", NOTHING]


def labels(field: Field, edges: Edges) -> list[str]:
    """What a field's bins are called: a number's bins, and its values as texts; none of a number without edges."""
    if field.is_private:
        return [KNOWN, UNKNOWN]
    if field.is_number and not edges:
        return []
    return [*dict.fromkeys([*(number_labels(edges)[:-1] if edges else ()), *field.texts, NOTHING])]


def number_times(edges: Edges, numbers: Sequence[int | float]) -> list[int]:
    """How many numbers are in each bin."""
    ordered = in_order(numbers)
    return [*between([*(bisect_right(ordered, edge) for edge in edges), len(ordered)]), len(numbers) - len(ordered)]


def between(upto: Sequence[int]) -> list[int]:
    """How many are in each bin, where it is known how many are in it or below."""
    return [after - before for before, after in pairwise([0, *upto])]


def shares(field: Field, edges: Edges, column: Sequence[Any]) -> dict[str, float]:
    """The share of each of a field's bins in a filled column, which is not empty."""
    times = Counter(dict.fromkeys(labels(field, edges), 0))
    if not field.is_number:
        for label, number in label_times(field, column):
            times[label] += number
    if edges:
        numbers = numbers_in(field, column)
        times.update(dict(zip(number_labels(edges), number_times(edges, numbers), strict=True)))
        times[NOTHING] -= 0 if field.is_number else len(numbers)
    return {label: number / len(column) for label, number in times.items()}


def has_numbers(field: Field) -> bool:
    """Whether a field's numbers are counted in bins: those of one whose texts may be ids are not."""
    return not (field.is_category or field.is_private)


def numbers_in(field: Field, column: Sequence[Any]) -> Sequence[Any]:
    """The numbers in a filled column of a field that is no category."""
    return column if field.is_number else [value for value in column if isinstance(value, int | float)]


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


def parts(expected: Sequence[float], found: Sequence[float]) -> list[float]:
    """What each bin adds to the population stability index of two distributions, from the numbers in their bins.

    The index is the sum of (found - expected) ln(found / expected) over the bins, in shares of all: 0 where they agree
    (Siddiqi, "Credit Risk Scorecards", 2006). Bins that are empty on both sides are none.
    """
    used = [old > 0 or new > 0 for old, new in zip(expected, found, strict=True)]
    before, after = (sum(each) + ADDED * sum(used) for each in (expected, found))
    added = []
    for old, new, is_used in zip(expected, found, used, strict=True):
        share, other = (old + ADDED) / before, (new + ADDED) / after
        added.append((other - share) * math.log(other / share) if is_used else 0.0)
    return added
