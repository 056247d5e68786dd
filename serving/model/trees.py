"""Decision trees, whichever library grew them: checked, and laid out so that they can be walked.

A node tests one feature and leads left or right; a leaf has a value. Tests are numbered through all trees: those of one
feature follow one another, by threshold, so that a feature's value fails the first so many of them and passes the rest.
That number, its rank, is all that a walk needs to know of the value.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, pairwise
from typing import Any, NamedTuple

from serving.model.stand_ins import BadModel

# Nodes of all trees, columns, and thresholds of a column: what a walk packs into one whole number of 64 bits.
NODE_BITS, COLUMN_BITS, RANK_BITS = 23, 17, 23


class Codes(NamedTuple):
    """A split by category: the codes that go left, and all codes. Another one is missing."""

    left: frozenset[float]
    known: frozenset[float]


class Tree(NamedTuple):
    """A tree as its library wrote it, each node's figures in turn; the root comes first.

    `left` is negative where a node is a leaf. `split` is a threshold, or `Codes`; `missing_left` tells on which side a
    missing value goes on; `cover` is the weight of the training records that came by.
    """

    left: Sequence[int]
    right: Sequence[int]
    feature: Sequence[int]
    split: Sequence[float | Codes]
    missing_left: Sequence[Any]
    value: Sequence[float]
    cover: Sequence[float]


class Ensemble(NamedTuple):
    """Trees, and what is made of the values of the leaves that a record comes to.

    Their sum, beginning with `start`, is divided by `divisor`: that is a probability, or its log-odds where
    `is_logistic`. A feature is compared in single precision where `is_single`, and goes left below a threshold, or up
    to it unless `is_strict`. A feature that is absent is missing where `absent_is_missing`, and else 0; what equals
    `missing` is missing too. Without `knows_missing` the library refuses missing values.
    """

    trees: Iterable[Tree]
    is_logistic: bool
    start: float = 0.0
    divisor: float = 1.0
    is_single: bool = True
    is_strict: bool = False
    knows_missing: bool = True
    absent_is_missing: bool = False
    missing: float = math.nan

    @property
    def absent(self) -> float:
        """What a feature is that is absent; NaN is missing."""
        return math.nan if self.absent_is_missing else 0.0


class Column(NamedTuple):
    """The tests of one feature, in the order of their thresholds, or one test by category.

    All of them send a missing value to the same side: a feature has one column for each side.
    """

    feature: int
    missing_left: Any
    thresholds: "array[float]"
    codes: Codes | None
    is_strict: bool

    @property
    def size(self) -> int:
        """How many tests it has."""
        return 1 if self.codes else len(self.thresholds)

    def rank(self, value: float) -> int:
        """How many of its tests send a value to the right, which are the first; NaN is missing."""
        if value != value or (self.codes and value not in self.codes.known):
            return 0 if self.missing_left else self.size
        if self.codes:
            return int(value not in self.codes.left)
        return (bisect_right if self.is_strict else bisect_left)(self.thresholds, value)

    def ranks(self, values: Any) -> Any:
        """The same of an array of values, where they are compared with thresholds."""
        import numpy as np  # noqa: PLC0415 (a record that comes alone does without)

        ranks = np.searchsorted(self.thresholds, values, "right" if self.is_strict else "left")
        return np.where(np.isnan(values), 0 if self.missing_left else self.size, ranks)


class Nodes(NamedTuple):
    """The nodes of all trees, tree by tree, and in a tree level by level.

    `tests` has the number of each node's test, -1 at a leaf. The children of a tree's nodes follow its root in the
    order of their parents, the left one before the right one. `firsts` has the number of each column's first test.
    """

    columns: list[Column]
    firsts: list[int]
    roots: list[int]
    tests: "array[int]"
    values: "array[float]"
    covers: "array[float]"

    def by_tree(self) -> Iterator[tuple[list[int], "array[float]"]]:
        """The tests and the values of each tree's nodes."""
        numbers = [*range(sum(column.size for column in self.columns)), -1]  # one object for each
        for start, end in pairwise([*self.roots, len(self.tests)]):
            yield [*map(numbers.__getitem__, self.tests[start:end])], self.values[start:end]


def laid_out(ensemble: Ensemble, features: Sequence[int]) -> Nodes:
    """The nodes of trees over these features, whose tests are numbered in the order of the features.

    Raises `BadModel` where a tree is none: where it leads back to itself, or out of its nodes or of the features, or
    has thresholds, values or weights that are no numbers.
    """
    found: dict[Test, int] = defaultdict(count().__next__)  # numbered as they come
    nodes = Nodes([], [], [], array("i"), array("d"), array("d"))
    for tree in ensemble.trees:
        _add(nodes, tree, found)
    if not nodes.roots:
        raise BadModel("it has no trees")
    places = {feature: place for place, feature in enumerate(features)}
    if any(feature not in places for feature, _, _ in found):
        raise BadModel(f"it has a tree that leads out of its {len(places):,} features")
    if any(split != split for _, _, split in found):
        raise BadModel("it has a tree with a threshold that is no number")
    columns = sorted(
        _columns(found, ensemble.is_strict), key=lambda column: (places[column.feature], column.codes is not None)
    )
    if len(columns) > 1 << COLUMN_BITS:
        raise BadModel(f"its trees compare {len(columns):,} features, and can compare {1 << COLUMN_BITS:,}")
    numbers = [-1] * (len(found) + 1)  # in order, by those as they came; the last one is a leaf's
    number = 0
    for column in columns:
        nodes.columns.append(column)
        nodes.firsts.append(number)
        for split in [column.codes] if column.codes else column.thresholds:
            numbers[found[column.feature, column.missing_left, split]] = number
            number += 1
    return nodes._replace(tests=array("i", map(numbers.__getitem__, nodes.tests)))


# A feature, whether it sends a missing value to the left, and its split.
Test = tuple[int, Any, Any]


def _add(nodes: Nodes, tree: Tree, found: dict[Test, int]) -> None:
    """Add a tree's nodes; their tests are numbered as they are found. Raises `BadModel`."""
    walk = _from_the_root(tree)
    if len(nodes.tests) + len(walk) >= 1 << NODE_BITS:
        raise BadModel(f"its trees have more than {1 << NODE_BITS:,} nodes")
    left, _, feature, split, missing_left, value, cover = tree
    # NaN makes any sum NaN. Only leaves have a value.
    values, covers = [value[node] if left[node] < 0 else 0.0 for node in walk], [cover[node] for node in walk]
    if not math.isfinite(sum(values)):
        raise BadModel("it has a tree with values that are no numbers")
    if not math.isfinite(sum(covers)) or min(covers) < 0:
        raise BadModel("it has a tree with weights that are no numbers")
    nodes.roots.append(len(nodes.tests))
    nodes.tests.fromlist(
        [found[feature[node], missing_left[node], split[node]] if left[node] >= 0 else -1 for node in walk]
    )
    nodes.values.fromlist(values)
    nodes.covers.fromlist(covers)


def _from_the_root(tree: Tree) -> list[int]:
    """A tree's nodes level by level; a node's children follow one another. Raises `BadModel`."""
    left, right, number = tree.left, tree.right, len(tree.left)
    if not number or {*map(len, tree)} != {number}:
        raise BadModel("it has a tree without nodes, or of which some lack something")
    walk = [0]
    try:
        for node in walk:
            if left[node] >= 0:
                walk += (left[node], right[node])
                if len(walk) > number:  # each node is come to once
                    raise BadModel("it has a tree in which a node leads back to itself")
    except IndexError as error:
        raise BadModel(f"it has a tree that leads out of its {number:,} nodes") from error
    if min(walk) < 0:
        raise BadModel(f"it has a tree that leads out of its {number:,} nodes")
    return walk


def _columns(tests: Iterable[Test], is_strict: bool) -> Iterator[Column]:
    thresholds: dict[tuple[int, Any], list[float]] = {}
    for feature, missing_left, split in tests:
        if isinstance(split, Codes):
            yield Column(feature, missing_left, array("d"), split, is_strict)
        else:
            thresholds.setdefault((feature, missing_left), []).append(split)
    for (feature, missing_left), splits in thresholds.items():
        yield Column(feature, missing_left, array("d", sorted(splits)), None, is_strict)
