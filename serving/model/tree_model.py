"""A model of trees: one record is scored in plain Python, many in NumPy, to the same bits."""

import math
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from serving.model.base import About, Reason, Unit, logistic, strongest_first
from serving.model.encoding import Encoder
from serving.model.packing import Parts, features
from serving.model.quick_scorer import QuickScorer
from serving.model.trees import Column, Ensemble, laid_out
from serving.model.walk import Walk
from serving.records import Absent, Columns
from serving.schema import Schema

if TYPE_CHECKING:
    from serving.model.many_records import ManyRecords

# So many records are faster one by one.
FEW = 8


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
        self._nodes = nodes
        quick = QuickScorer.of(nodes, self._encoders, ensemble.start)
        self._sum = quick.sum if quick else Walk(nodes, self._encoders, ensemble.start).sum

    def probabilities(self, columns: Columns) -> list[float]:
        """How probable yes is for each record."""
        if len(columns[0]) <= FEW:
            sums: Iterable[float] = map(self._sum, zip(*columns, strict=True))
        else:
            sums = self._many.sums(columns)
        divisor = self._ensemble.divisor
        scores = [each / divisor for each in sums]
        return logistic(scores) if self._ensemble.is_logistic else scores

    def reasons(self, columns: Columns) -> list[list[Reason]]:
        """For each record the SHAP value of each field."""
        rows = zip(*columns, strict=True)
        shares = self._many.shares(columns)
        return [strongest_first(self.schema.names, *each) for each in zip(rows, shares, strict=True)]

    @cached_property
    def _many(self) -> "ManyRecords":
        """What scores many records, and gives reasons; made when it is first needed, since it needs NumPy."""
        from serving.model.many_records import ManyRecords  # noqa: PLC0415 (a service of single records does without)

        return ManyRecords(self._ensemble, self._nodes, self._encoders)
