"""GET /metrics: the counts of all processes, and the model of this one, as Prometheus reads them."""

from collections.abc import Iterator

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.metrics import METRICS, SUM, Counts
from serving.model import About

MEDIA_TYPE = prometheus_client.CONTENT_TYPE_LATEST


class _Counted(Collector):
    def __init__(self, counts: Counts):
        self._counts = counts

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


class _Model(Collector):
    def __init__(self, about: About):
        self._about = about

    def collect(self) -> Iterator[Metric]:
        about = self._about
        info = GaugeMetricFamily(
            "serving_model_info", "The model that answers.", labels=["file", "sha256", "classifier"]
        )
        info.add_metric([about.file, about.sha256, about.classifier], 1)
        yield info
        if about.figures is None:
            return
        auc = GaugeMetricFamily("serving_model_test_auc", "Its AUC on the test part.", labels=["sha256"])
        auc.add_metric([about.sha256], about.figures.auc.test)
        yield auc
        average = GaugeMetricFamily(
            "serving_training_average",
            "Training customers: a number's mean, or a value's share.",
            labels=["field", "value"],
        )
        for feature, mean in about.figures.averages.items():
            name, _, value = feature.partition("=")
            # The one category that is a number for the model; its mean is the share of 1.
            average.add_metric([name, "1" if name == "seniorcitizen" else value], mean)
        yield average


def page(counts: Counts, about: About) -> bytes:
    """What Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Counted(counts))
    registry.register(_Model(about))
    return prometheus_client.generate_latest(registry)
