"""A model of trees: one record is walked in plain Python, many in NumPy, to the same bits."""

import math
from collections.abc import Iterable, Sequence
from operator import call
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from serving.model.base import About, Reason, Unit, logistic
from serving.model.encoding import Encoder
from serving.model.packing import Parts, features
from serving.model.trees import Column, Ensemble, Nodes, laid_out
from serving.records import Absent, Columns
from serving.schema import Schema

if TYPE_CHECKING:
    from serving.model.many_records import ManyRecords

# So many records are faster one by one.
FEW = 8

# A node of a tree that is walked in Python: (test, left, right), or (None, value).
Node = tuple[Any, ...]


class TreeModel:
    """The mean of trees' shares of yes, or the logistic function of the sum of their values."""

    def __init__(self, parts: Parts, schema: Schema, about: About, ensemble: Ensemble):
        """Raises `BadModel` for trees that are none."""
        self.schema = schema
        self.about = about
        self.reasons_unit: Unit | None = "log-odds" if ensemble.is_logistic else "probability"
        self.absent = Absent(number=ensemble.absent, blank=math.nan if ensemble.knows_missing else 0.0)
        names, separator = parts.vectorizer.state["feature_names_"], parts.vectorizer.state["separator"]
        places = {name: place for place, name in enumerate(names)}
        by_field = [
            {places[name]: text for name, text in features(field, separator).items() if name in places}
            for field in schema.fields
        ]
        nodes = laid_out(ensemble, [feature for each in by_field for feature in each])
        ensemble = ensemble._replace(trees=())  # they are not needed any more
        by_feature: dict[int, list[Column]] = {}
        for column in nodes.columns:
            by_feature.setdefault(column.feature, []).append(column)
        scaling = parts.scaling or []
        self._encoders = [
            Encoder(
                field,
                {text: by_feature[feature] for feature, text in texts.items() if feature in by_feature},
                ensemble,
                scaling,
            )
            for field, texts in zip(schema.fields, by_field, strict=True)
        ]
        self._ensemble = ensemble
        self._results = [encoder.results() for encoder in self._encoders]
        self._nodes = nodes
        self._trees = _nested(nodes)
        self._many: ManyRecords | None = None

    def probabilities(self, columns: Columns) -> list[float]:
        """How probable yes is for each record."""
        if len(columns[0]) <= FEW:
            sums: Iterable[float] = map(self._sum, zip(*columns, strict=True))
        else:
            sums = self.many.sums(columns)
        divisor = self._ensemble.divisor
        scores = [each / divisor for each in sums]
        return logistic(scores) if self._ensemble.is_logistic else scores

    def _sum(self, row: tuple[Any, ...]) -> float:
        """The sum of the values of the leaves that a record comes to."""
        results = b"".join(map(call, self._results, row))
        total = self._ensemble.start
        for root in self._trees:
            node = root
            while (test := node[0]) is not None:
                node = node[results[test]]
            total += node[1]
        return total

    def reasons(self, columns: Columns) -> list[list[Reason]]:
        """For each record the SHAP value of each field."""
        rows = zip(*columns, strict=True)
        return [self._reasons(row, shares) for row, shares in zip(rows, self.many.shares(columns), strict=True)]

    def _reasons(self, row: tuple[Any, ...], shares: Sequence[float]) -> list[Reason]:
        given = (None if value is UNSET else value for value in row)
        return sorted(map(Reason, self.schema.names, given, shares), key=lambda reason: -abs(reason.share))

    @property
    def many(self) -> "ManyRecords":
        """What scores many records, and gives reasons; made when it is first needed, since it needs NumPy."""
        if self._many is None:
            from serving.model.many_records import ManyRecords  # noqa: PLC0415 (a service of single records does without)

            self._many = ManyRecords(self._ensemble, self._nodes, self._encoders)
        return self._many


def _nested(nodes: Nodes) -> list[Node]:
    """The trees as nested tuples, which Python walks twice as fast as lists of places.

    They are made in the order in which a tree is walked, so that a node's left child is beside it in memory: a large
    forest is walked in two thirds of the time.
    """
    leaves: dict[float, Node] = {}
    roots = []
    for tests, values in nodes.by_tree():
        places = iter(range(1, len(tests), 2))
        left = [next(places) if test >= 0 else 0 for test in tests]
        way, waiting = [], [0]
        while waiting:
            way.append(node := waiting.pop())
            if child := left[node]:
                waiting += (child + 1, child)
        made: list[Node] = []  # of which a node takes the last two: its children, in the opposite order
        for node in reversed(way):
            if left[node]:
                made.append((tests[node], made.pop(), made.pop()))
            elif leaf := leaves.get(value := values[node]):
                made.append(leaf)
            else:
                leaves[value] = leaf = (None, value)
                made.append(leaf)
        roots += made
    return roots
