"""Many records through the trees at once, and reasons, in NumPy. Imported when there is the first of these to do."""

from collections.abc import Iterator, Sequence
from threading import Lock

import numpy as np

from serving.model.encoding import Encoder
from serving.model.node_arrays import Integers, arrays
from serving.model.shapley import Shapley
from serving.model.trees import COLUMN_BITS, RANK_BITS, Ensemble, Nodes
from serving.records import Columns
from serving.turns import in_turns

# Records that are encoded at once, ranks of them, and nodes that are left at once: arrays of these are fast.
ROWS, RANKS, NODES = 1024, 1_000_000, 16_384

# Nodes that are left before it is looked which records are at a leaf.
STEPS = 4


class ManyRecords:
    """The trees of an ensemble for records in columns."""

    def __init__(self, ensemble: Ensemble, nodes: Nodes, encoders: Sequence[Encoder]):
        self._ensemble = ensemble
        self._encoders = encoders
        self._nodes = nodes
        self._width = max(1, len(nodes.columns))
        self._rows = max(1, min(ROWS, RANKS // self._width))
        found = arrays(nodes)
        self._roots, self._values = found.roots, found.value
        # Each node in a whole number: its left child, how much a rank lacks to go right, and the column. Where the rank
        # that is added is large enough, one is carried over to the child.
        lacks = (1 << RANK_BITS) - 1 - found.rank
        self._words = (((found.left << RANK_BITS) | lacks) << COLUMN_BITS) | found.column
        self._shapley: Shapley | None = None
        self._shapley_is_made = Lock()

    def sums(self, columns: Columns) -> list[float]:
        """For each record the sum of the values of the leaves that it comes to."""
        found: list[float] = []
        for ranks in self._blocks(columns):
            total = np.full(len(ranks), self._ensemble.start)
            at_once = max(1, NODES // len(ranks))
            for tree in in_turns(range(0, len(self._roots), at_once)):
                leaves = self._leaves(self._roots[tree : tree + at_once], ranks)
                for values in self._values.take(leaves).reshape(-1, len(ranks)):  # in their order, to the last bit
                    total += values
            found += total.tolist()
        return found

    def shares(self, columns: Columns) -> Iterator[list[float]]:
        """For each record the SHAP value of each field."""
        with self._shapley_is_made:  # others have their turns meanwhile, and would each make their own
            shapley = self._shapley = self._shapley or Shapley(self._nodes, [each.width for each in self._encoders])
        for ranks in self._blocks(columns):
            yield from (shapley(ranks) / self._ensemble.divisor).tolist()

    def _blocks(self, columns: Columns) -> Iterator[Integers]:
        """The ranks of some records after the other."""
        for first in in_turns(range(0, len(columns[0]), self._rows)):
            yield self._ranks([column[first : first + self._rows] for column in columns])

    def _ranks(self, columns: Columns) -> Integers:
        """The ranks of records in each column of the tests."""
        ranks = np.zeros((len(columns[0]), self._width), dtype=np.int64)
        place = 0
        for encoder, column in in_turns(zip(self._encoders, columns, strict=True)):
            end = place + encoder.width
            if end > place and encoder.field.is_number:
                ranks[:, place:end] = encoder.ranks_of_numbers(np.array(column, dtype=np.float64))
            elif end > place:
                places = {value: at for at, value in enumerate({*column})}
                of_value = np.array([encoder.ranks(value) for value in in_turns(places)])
                ranks[:, place:end] = of_value[[*map(places.__getitem__, column)]]
            place = end
        return ranks

    def _leaves(self, roots: Integers, ranks: Integers) -> Integers:
        """The leaves that records come to, tree by tree."""
        rows = len(ranks)
        node = np.repeat(roots, rows)
        first = np.tile(np.arange(rows) * self._width, len(roots))
        found, waiting, flat = np.empty_like(node), np.arange(len(node)), ranks.ravel()
        while True:
            for _ in range(STEPS):
                before = node
                node = self._words.take(node)
                place = node & ((1 << COLUMN_BITS) - 1)
                place += first
                node >>= COLUMN_BITS
                node += flat.take(place)
                node >>= RANK_BITS
            moved = node != before
            number = np.count_nonzero(moved)
            if number < len(node) / 2 or not number:  # the others are at a leaf
                found[waiting] = node
                if not number:
                    return found
                waiting, first, node = waiting[moved], first[moved], node[moved]
