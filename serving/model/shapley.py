"""SHAP values of trees: what each field of a record adds, by the records that came by in training.

The value of a leaf counts for a set of features by as much as a record gets there of which only these are known: where
another one is tested, both ways are gone, by the weight of the training records that went each (path-dependent
TreeSHAP: Lundberg et al., "From local explanations to global understanding with explainable AI for trees", 2020).

A feature's Shapley value is a mean over the orders in which features become known. The share of the orders in which a
set of s of d features comes before one other is s! (d - 1 - s)! / d!, which is the integral of t^s (1 - t)^(d - 1 - s)
from 0 to 1. So with o for a feature of which the record goes a leaf's way (1 or 0), and z for the weight of the
training records that do, the share of a leaf with value v in the value of feature i is

    v (o_i - z_i) times the integral of the product over all other features j on the way of t o_j + (1 - t) z_j,

a polynomial of degree d - 1, which Gauss and Legendre's rule integrates exactly with d / 2 points. The product is built
from the root down, and summed from the leaves up: each node is come to twice.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.model.node_arrays import Floats, Integers, NodeArrays, arrays
from serving.model.trees import Nodes
from serving.turns import in_turns

# Nodes that are worked through together, and numbers that are held for them and some records.
NODES, NUMBERS = 20_000, 400_000

# Less than any share of training records. It stands for none, by which nothing could be divided.
LEAST_SHARE = 1e-100


class _Level(NamedTuple):
    """Nodes that are as far from the root: where they are in a bank, and their parents' places one level up."""

    nodes: slice
    parents: Integers


class _Bank(NamedTuple):
    """Some trees, level by level; what is said of a node is of the way that leads to it from its parent."""

    levels: list[_Level]
    column: Integers  # that its parent tests
    rank: Integers  # up to which a value goes left there
    is_right: NDArray[np.bool_]
    # The last node before it on whose way the same feature was tested; the one behind all nodes where there is none.
    before: Integers
    share: Floats  # of the training records that go the ways of this feature so far
    value: Floats  # of a leaf, else 0
    points: Floats  # where the polynomials are evaluated, and with which weights
    weights: Floats


class Shapley:
    """SHAP values by field; `widths` are the numbers of columns of each field, in order."""

    def __init__(self, nodes: Nodes, widths: Sequence[int]):
        self._width = len(widths)
        # Of each column; one more where there is none, since a root is not behind any.
        self._field = np.append(np.repeat(np.arange(len(widths)), widths), 0)
        of = arrays(nodes)
        features = np.array([column.feature for column in nodes.columns] or [0])
        group = of.roots // NODES
        self._banks = [_bank(of, features, of.roots[group == each]) for each in in_turns(np.unique(group))]

    def __call__(self, ranks: Integers) -> Floats:
        """The values of records by their ranks: for each record one a field."""
        found = np.zeros((self._width, len(ranks)))
        for bank in in_turns(self._banks):
            at_once = max(1, NUMBERS // (len(bank.column) * len(bank.points)))
            for first in in_turns(range(0, len(ranks), at_once)):
                records = slice(first, first + at_once)
                np.add.at(found[:, records], self._field[bank.column], _values(bank, ranks[records].T))
        return found.T


def _values(bank: _Bank, ranks: Integers) -> Floats:
    """What each node, which is a way, adds to the value of the feature that was tested there; by node and record."""
    roots, number = bank.levels[0].nodes, len(bank.column)
    goes = np.ones((number + 1, ranks.shape[1]), dtype=bool)
    goes[:number] = (ranks[bank.column] > bank.rank[:, None]) == bank.is_right[:, None]
    goes[roots] = True
    for nodes, _ in bank.levels[1:]:
        goes[nodes] &= goes[bank.before[nodes]]
    # By node, point and record.
    known, share, points = goes[:, None, :], np.append(bank.share, 1.0)[:, None, None], bank.points[:, None]
    factor = points * known + (1 - points) * share
    factor[number] = 1.0
    product = np.empty((number, *factor.shape[1:]))
    product[roots] = bank.weights[:, None]
    for (above, _), (nodes, parents) in pairwise(bank.levels):
        product[nodes] = product[above][parents] * (factor[nodes] / factor[bank.before[nodes]])
    product *= bank.value[:, None, None]
    for (above, _), (nodes, parents) in [*pairwise(bank.levels)][::-1]:
        product[above][parents[::2]] += product[nodes][::2] + product[nodes][1::2]
    each = (known - share) / factor
    values: Floats = ((each[:number] - each[bank.before]) * product).sum(axis=1)
    values[roots] = 0.0
    return values


def _bank(of: NodeArrays, features: Integers, roots: Integers) -> _Bank:
    """The trees with these roots; `features` has the feature of each column."""
    by_level, parents = [roots], [np.array([], dtype=np.int64)]
    while len(inner := np.flatnonzero(~of.is_leaf[by_level[-1]])):
        left = of.left[by_level[-1][inner]]
        by_level.append(np.stack([left, left + 1], axis=1).ravel())
        parents.append(np.repeat(inner, 2))
    ends = np.cumsum([*map(len, by_level)]).tolist()
    levels = [_Level(slice(*each), above) for each, above in zip(pairwise([0, *ends]), parents, strict=True)]
    node, number = np.concatenate(by_level), ends[-1]
    parent = np.concatenate([np.full(len(roots), 0), *(up.start + below for (up, _), (_, below) in pairwise(levels))])
    above = node[parent]

    # From node to node towards the root, until the same feature was tested on the way to it.
    feature = np.append(features[of.column[above]], -1)
    behind = np.where(parent < len(roots), number, parent)
    before = behind.copy()
    while len(other := np.flatnonzero((before < number) & (feature[before] != feature[:number]))):
        before[other] = behind[before[other]]

    share, known = np.append(np.full(number, 0.5), 1.0), np.zeros(number, dtype=int)
    np.divide(of.cover[node], of.cover[above], out=share[:number], where=of.cover[above] > 0)
    share[levels[0].nodes] = 1.0
    for each, _ in levels[1:]:
        share[each] = np.maximum(share[each], LEAST_SHARE)
        share[each] = np.maximum(share[each] * share[before[each]], LEAST_SHARE)
        known[each] = known[parent[each]] + (before[each] == number)
    points, weights = np.polynomial.legendre.leggauss(max(1, (known.max() + 1) // 2))
    return _Bank(
        levels,
        column=of.column[above],
        rank=of.rank[above],
        is_right=np.concatenate([np.arange(len(each)) % 2 == 1 for each in by_level]),
        before=before,
        share=share[:number],
        value=of.value[node],
        points=(points + 1) / 2,
        weights=weights / 2,
    )
