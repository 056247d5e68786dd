"""GET /metrics: the counts of all processes, and the model of this one, as Prometheus reads them."""

from collections.abc import Iterable, Iterator

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.model.base import Model
from serving.schema import Schema
from serving.web import drift
from serving.web.counts import METRICS, SUM, Counts, Key

MEDIA_TYPE = prometheus_client.CONTENT_TYPE_LATEST


# The labels of a bin: the model's, since another model's bins are others, the field's, and the bin's own.
BINS = ("model", "field", "bin")


class _Collected(Collector):
    def __init__(self, counts: Counts, model: Model):
        self._counts = counts
        self._model = model

    def collect(self) -> Iterator[Metric]:
        for name, metric in METRICS.items():
            counts = {key[1:]: count for key, count in self._counts.items() if key[0] == name}
            if metric.is_histogram:
                histogram = HistogramMetricFamily(name, metric.documentation, labels=metric.labels)
                by_labels: dict[Key, dict[str, float]] = {}
                for key, count in counts.items():
                    by_labels.setdefault(key[:-1], {})[key[-1]] = count
                for labels, amounts in by_labels.items():
                    total = amounts.pop(SUM)
                    buckets = [
                        ("+Inf" if bound == "inf" else bound, amounts[bound]) for bound in sorted(amounts, key=float)
                    ]
                    histogram.add_metric(labels, buckets, sum_value=total)
                yield histogram
            else:
                counter = CounterMetricFamily(name, metric.documentation, labels=metric.labels)
                for labels, count in counts.items():
                    counter.add_metric(labels, count)
                yield counter
        about, figures = self._model.about, self._model.about.figures
        model = {"file": about.file, "sha256": about.sha256, "classifier": about.classifier}
        yield _gauge("serving_model_info", "The model that answers.", [(model, 1)])
        if figures:
            auc = ({"sha256": about.sha256}, figures.auc.test)
            yield _gauge("serving_model_test_auc", "Its AUC on the test part.", [auc])
            documentation = "Training records: a number's mean, or a value's share."
            yield _gauge("serving_training_average", documentation, _averages(self._model.schema, figures.averages))
            known = [each for each in drift.in_bins(self._counts, self._model) if each.shares]
            bins = CounterMetricFamily("serving_bins", "Records scored, by a field's bin.", labels=BINS)
            trained = GaugeMetricFamily("serving_training_bins", "Training records, by a field's bin.", labels=BINS)
            for each in known:
                for label, times, share in zip(each.labels, each.times, each.shares, strict=True):
                    bins.add_metric((about.id, each.name, label), times)
                    trained.add_metric((about.id, each.name, label), share * each.trained)
            yield from (bins, trained)


def _gauge(name: str, documentation: str, samples: Iterable[tuple[dict[str, str], float]]) -> Metric:
    gauge = Metric(name, documentation, "gauge")
    for labels, value in samples:
        gauge.add_sample(name, labels, value)
    return gauge


def _averages(schema: Schema, averages: dict[str, float]) -> Iterator[tuple[dict[str, str], float]]:
    """The averages by field and value; of a category that is a number for the model, the mean is the share of 1."""
    for field in schema.fields:
        if field.name in averages:
            yield {"field": field.name, "value": "1" if field.is_category else ""}, averages[field.name]
        for value in filter(None, map(str, field.values)) if not field.is_private else ():
            if (mean := averages.get(f"{field.name}={value}")) is not None:
                yield {"field": field.name, "value": value}, mean


def page(counts: Counts, model: Model) -> bytes:
    """What Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Collected(counts, model))
    return prometheus_client.generate_latest(registry)
