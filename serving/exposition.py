"""GET /metrics: the counts of all processes, and the model of this one, as Prometheus reads them."""

from collections.abc import Iterable, Iterator

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.metrics import METRICS, SUM, Counts
from serving.model import About

MEDIA_TYPE = prometheus_client.CONTENT_TYPE_LATEST


class _Collected(Collector):
    def __init__(self, counts: Counts, about: About):
        self._counts = counts
        self._about = about

    def collect(self) -> Iterator[Metric]:
        for name, metric in METRICS.items():
            counts = {key[1:]: count for key, count in self._counts.items() if key[0] == name}
            if metric.is_histogram:
                histogram = HistogramMetricFamily(name, metric.documentation, labels=metric.labels)
                for labels in dict.fromkeys(key[:-1] for key in counts):
                    bounds = sorted((key[-1] for key in counts if key[:-1] == labels and key[-1] != SUM), key=float)
                    buckets = [("+Inf" if bound == "inf" else bound, counts[*labels, bound]) for bound in bounds]
                    histogram.add_metric(labels, buckets, sum_value=counts[*labels, SUM])
                yield histogram
            else:
                counter = CounterMetricFamily(name, metric.documentation, labels=metric.labels)
                for labels, count in counts.items():
                    counter.add_metric(labels, count)
                yield counter
        about, figures = self._about, self._about.figures
        model = {"file": about.file, "sha256": about.sha256, "classifier": about.classifier}
        yield _gauge("serving_model_info", "The model that answers.", [(model, 1)])
        if figures:
            auc = ({"sha256": about.sha256}, figures.auc.test)
            yield _gauge("serving_model_test_auc", "Its AUC on the test part.", [auc])
            averages = ((_field_and_value(feature), mean) for feature, mean in figures.averages.items())
            documentation = "Training customers: a number's mean, or a value's share."
            yield _gauge("serving_training_average", documentation, averages)


def _gauge(name: str, documentation: str, samples: Iterable[tuple[dict[str, str], float]]) -> Metric:
    gauge = Metric(name, documentation, "gauge")
    for labels, value in samples:
        gauge.add_sample(name, labels, value)
    return gauge


def _field_and_value(feature: str) -> dict[str, str]:
    name, _, value = feature.partition("=")
    # The one category that is a number for the model; its mean is the share of 1.
    return {"field": name, "value": "1" if name == "seniorcitizen" else value}


def page(counts: Counts, about: About) -> bytes:
    """What Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Collected(counts, about))
    return prometheus_client.generate_latest(registry)
