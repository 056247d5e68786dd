"""One record through small trees without walking them (QuickScorer: Lucchese et al., SIGIR 2015).

A tree's leaves are bits of a word, and the words of all trees one whole number. What a value fails and passes rules
leaves out; those that no field rules out are one in each tree: what a walk would come to.
"""

import sys
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate, pairwise
from operator import and_, call, getitem, or_
from typing import Any, Literal

from serving.model.encoding import Encoder, Remembered
from serving.model.trees import Nodes

# Formats of words, by the bits that they have.
FORMATS: dict[int, Literal["B", "H", "I", "Q"]] = {8: "B", 16: "H", 32: "I", 64: "Q"}

# Bytes of what is left by each rank of each column. Beyond it trees are walked.
MOST_BYTES = 16_000_000


class QuickScorer:
    """What gives the sum of the values of the leaves that a record comes to."""

    def __init__(self, nodes: Nodes, encoders: Sequence[Encoder], start: float, bits: int):
        self._start = start
        self._format = FORMATS[bits]
        self._size = len(nodes.roots) * bits // 8
        # By tree, the value of the leaf that is left.
        self._values: list[dict[int, float]] = []
        # By test, the leaves that it rules out: where it sends a value to the right, and to the left.
        to_right, to_left = ([0] * sum(column.size for column in nodes.columns) for _ in range(2))
        leaves = 0
        trees = range(len(nodes.roots))
        in_memory = trees if sys.byteorder == "little" else trees[::-1]
        for word, (tests, values) in zip(in_memory, nodes.by_tree(), strict=True):
            below, by_leaf = _leaves(tests, values)
            self._values.append(by_leaf)
            leaves |= below[0] << word * bits
            children = iter(below[1:])
            for test in filter((-1).__lt__, tests):
                to_right[test] |= next(children) << word * bits
                to_left[test] |= next(children) << word * bits
        # By column and rank, the leaves that are left.
        by_rank = []
        for column, first in zip(nodes.columns, nodes.firsts, strict=True):
            tests_ = slice(first, first + column.size)
            failed = accumulate(to_right[tests_], or_, initial=0)
            passed = [*accumulate(reversed(to_left[tests_]), or_, initial=0)]
            by_rank.append([leaves & ~(gone | others) for gone, others in zip(failed, reversed(passed), strict=True)])
        # By field, what gives the leaves that a value leaves.
        columns = iter(by_rank)
        self._left = [_left(encoder, [next(columns) for _ in range(encoder.width)], leaves) for encoder in encoders]

    @classmethod
    def of(cls, nodes: Nodes, encoders: Sequence[Encoder], start: float) -> "QuickScorer | None":
        """That of trees which have few leaves and tests; None of others."""
        most = max(end - start for start, end in pairwise([*nodes.roots, len(nodes.tests)]))
        leaves = (most + 1) // 2  # one more than tests
        bits = min((bits for bits in FORMATS if bits >= leaves), default=0)
        ranks = sum(column.size + 1 for column in nodes.columns)
        return cls(nodes, encoders, start, bits) if 0 < bits * len(nodes.roots) * ranks <= 8 * MOST_BYTES else None

    def sum(self, row: tuple[Any, ...]) -> float:
        """The sum for a record, in the order of the trees."""
        left = reduce(and_, map(call, self._left, row)).to_bytes(self._size, sys.byteorder)
        return sum(map(getitem, self._values, memoryview(left).cast(self._format)), self._start)


def _leaves(tests: Sequence[int], values: Sequence[float]) -> tuple[list[int], dict[int, float]]:
    """The leaves below each node of a tree, each a bit, and the value of each leaf."""
    below, by_leaf = [0] * len(tests), dict[int, float]()
    child = len(tests)  # the children of the last node that has some are the last nodes
    for node in range(len(tests) - 1, -1, -1):
        if tests[node] < 0:
            below[node] = leaf = 1 << len(by_leaf)
            by_leaf[leaf] = values[node]
        else:
            child -= 2
            below[node] = below[child] | below[child + 1]
    return below, by_leaf


def _left(encoder: Encoder, by_rank: list[list[int]], leaves: int) -> Callable[[Any], int]:
    ranks = encoder.ranks_of_value()

    def left(value: Any) -> int:
        return reduce(and_, map(getitem, by_rank, ranks(value)), leaves)

    return left if encoder.field.is_number else Remembered(left).__getitem__
