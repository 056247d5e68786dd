"""The nodes of trees as NumPy's arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.model.trees import RANK_BITS, Nodes

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class NodeArrays(NamedTuple):
    """Of each node whether it is a leaf, its left child, the column that it tests and the rank up to which a value goes
    there, its value, and the weight of the training records that came by.

    A leaf is its own child, and tests the first column with a rank that none is beyond.
    """

    roots: Integers
    is_leaf: NDArray[np.bool_]
    left: Integers
    column: Integers
    rank: Integers
    value: Floats
    cover: Floats


def arrays(nodes: Nodes) -> NodeArrays:
    """The arrays of nodes."""
    tests, roots = np.frombuffer(nodes.tests, np.intc), np.array(nodes.roots)
    is_leaf = tests < 0
    # Before the children of a tree's node are its root, those of the trees before it, and the children of other nodes.
    tree = np.repeat(np.arange(len(roots)), np.diff([*nodes.roots, len(tests)]))
    left = 2 * (np.cumsum(~is_leaf) - ~is_leaf) + tree + 1
    # One more test, the last one, for the leaves, whose test is -1.
    sizes = np.array([column.size for column in nodes.columns], dtype=int)
    firsts = np.array(nodes.firsts, dtype=int)
    column = np.append(np.repeat(np.arange(len(sizes)), sizes), 0)
    rank = np.append(np.arange(sizes.sum()) - np.repeat(firsts, sizes), (1 << RANK_BITS) - 1)
    return NodeArrays(
        roots=roots,
        is_leaf=is_leaf,
        left=np.where(is_leaf, np.arange(len(tests)), left),
        column=column[tests],
        rank=rank[tests],
        value=np.frombuffer(nodes.values),
        cover=np.frombuffer(nodes.covers),
    )
