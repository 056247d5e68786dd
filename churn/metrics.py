"""What is counted for Prometheus: requests, customers, and what was asked about them.

A request only adds to a tally of its process. Once a second, and where many customers wait, the
tally goes into prometheus_client's values; each of these costs as much as a prediction does, and
an answer touches forty. Under several gunicorn workers the values are files, which gunicorn.conf.py
finds a folder for; without PROMETHEUS_MULTIPROC_DIR they are this process's own.
"""

import os
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from threading import Lock, Timer
from typing import Any, Literal

import prometheus_client
from msgspec.structs import astuple
from prometheus_client import CollectorRegistry, Histogram, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from churn.customer import CATEGORIES, FIELD_NAMES, HALF, NUMBERS, Batch, Combination, Customer, FieldError
from churn.model import About

MEDIA_TYPE = prometheus_client.CONTENT_TYPE_LATEST
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

# How customers arrive, and what becomes of them.
Form = Literal["object", "array", "csv"]
FORMS: tuple[Form, ...] = ("object", "array", "csv")
OUTCOMES = ("scored", "invalid")

# Where no route was found: paths are invented without end.
UNKNOWN = "unknown"

# Seconds that a tally waits at most, and customers of whom one waits at most.
LONGEST_WAIT = 1.0
MOST_WAITING = 10_000

# Numbers that are sorted at once: the fewer, the less each of them costs.
MOST_SORTED = 500

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PROBABILITIES = tuple(step / 20 for step in range(1, 21))

# The training table has tenures up to 72 months, monthly charges of 18 to 119, totals up to 8,685.
NUMBER_BUCKETS: dict[str, tuple[float, ...]] = {
    "tenure": (0, 1, 3, 6, 12, 18, 24, 36, 48, 60, 72),
    "monthlycharges": (20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120),
    "totalcharges": (0, 50, 100, 250, 500, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000),
}

# The files of one process's values, and a size that holds all of them: no label has values without bound.
KINDS = ("counter", "histogram")
FILE_SIZE = 131_072


class Distribution(Histogram):
    """A histogram that takes many observations at once, for little more than the price of one."""

    def observe_all(self, amounts: list[float]) -> None:
        """Observe each of these numbers."""
        upto = [0] * len(self._upper_bounds)
        for start in range(0, len(amounts), MOST_SORTED):
            some = sorted(amounts[start : start + MOST_SORTED])
            for place, bound in enumerate(self._upper_bounds):
                upto[place] += bisect_right(some, bound)
        for bucket, times, below in zip(self._buckets, upto, [0, *upto[:-1]], strict=True):
            if times > below:
                bucket.inc(times - below)
        self._sum.inc(sum(amounts))


class Tally:
    """What has happened since the last one."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: dict[str, list[float]] = {}
        self.outcomes: Counter[tuple[str, Form]] = Counter()
        self.invalid_fields: Counter[str] = Counter()
        self.batch = Batch.of([])
        self.alone: list[Customer] = []
        self.probabilities: list[float] = []


class Published:
    """Prometheus' values: all that are known beforehand are there from the start, with 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str, *labels: str) -> prometheus_client.Counter:
            return prometheus_client.Counter(name, documentation, labels, registry=registry)

        self._requests = counter("churn_requests", "Requests answered.", "route", "status")
        self._seconds = Distribution(
            "churn_request_seconds",
            "Time until an answer was ready to be sent.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._customers = counter("churn_customers", "Customers asked about.", "outcome", "form")
        self._probability = Distribution(
            "churn_probability", "Churn probabilities answered.", buckets=PROBABILITIES, registry=registry
        )
        self._invalid_fields = counter("churn_invalid_fields", "Errors in customers.", "field")
        field_values = counter("churn_field_values", "Customers scored, by a field's value.", "field", "value")
        self._categories = [
            {value: field_values.labels(field.name, value) for value in field.allowed} for field in CATEGORIES
        ]
        self._numbers = [
            Distribution(
                f"churn_{field.name}",
                f"Customers scored, by {field.name}.",
                buckets=NUMBER_BUCKETS[field.name],
                registry=registry,
            )
            for field in NUMBERS
        ]
        for form in FORMS:
            for outcome in OUTCOMES:
                self._customers.labels(outcome, form)
        for name in sorted(FIELD_NAMES):
            self._invalid_fields.labels(name)

    def add(self, tally: Tally) -> None:
        """Add what a tally holds."""
        for (route, status), times in tally.requests.items():
            self._requests.labels(route, status).inc(times)
        for route, seconds in tally.seconds.items():
            self._seconds.labels(route).observe_all(seconds)
        for (outcome, form), customers in tally.outcomes.items():
            self._customers.labels(outcome, form).inc(customers)
        for name, errors in tally.invalid_fields.items():
            self._invalid_fields.labels(name).inc(errors)
        if not tally.probabilities:
            return
        self._probability.observe_all(tally.probabilities)
        tally.batch += Batch.of(tally.alone)
        first, second, *numbers = astuple(tally.batch)
        for categories, combinations in (self._categories[:HALF], first), (self._categories[HALF:], second):
            for counters, times_by_value in zip(categories, _times_by_value(combinations), strict=True):
                for value, times in times_by_value.items():
                    counters[value].inc(times)
        for distribution, column in zip(self._numbers, numbers, strict=True):
            distribution.observe_all(column)


def _times_by_value(combinations: list[Combination]) -> Iterator[dict[Any, int]]:
    """For each of the categories that are combined, in order, how often it has which value."""
    times_by_combination = Counter(combinations)
    for column in zip(*(combination.values for combination in times_by_combination), strict=True):
        times_by_value: defaultdict[Any, int] = defaultdict(int)
        for value, times in zip(column, times_by_combination.values(), strict=True):
            times_by_value[value] += times
        yield times_by_value


class Meter:
    """Counts what a process does. Threads may share it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._published: Published | None = None
        self._publishing = Lock()
        self._lock = Lock()
        self._tally = Tally()
        self._is_due = False
        self._is_muted = False

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered after so many seconds."""
        with self._lock:
            self._tally.requests[route, status] += 1
            self._tally.seconds.setdefault(route, []).append(seconds)
            self._flush_soon()

    def refused(self, status: int) -> None:
        """Count a request that was answered before it reached a route."""
        with self._lock:
            self._tally.requests[UNKNOWN, status] += 1
            self._flush_soon()

    def scored(self, form: Form, batch: Batch, probabilities: list[float]) -> None:
        """Count customers who were scored, each with a probability."""
        with self._lock:
            tally = self._tally
            tally.outcomes["scored", form] += len(batch)
            tally.batch += batch
            tally.probabilities += probabilities
            self._flush_soon()
        if len(tally.probabilities) >= MOST_WAITING:
            self.flush()

    def scored_alone(self, customer: Customer, probability: float) -> None:
        """Count the customer of an object. What it is in is worked out later, for several at once."""
        with self._lock:
            tally = self._tally
            tally.outcomes["scored", "object"] += 1
            tally.alone.append(customer)
            tally.probabilities.append(probability)
            self._flush_soon()
        if len(tally.probabilities) >= MOST_WAITING:
            self.flush()

    def invalid(self, form: Form, errors: Collection[FieldError], customers: int) -> None:
        """Count so many customers who are invalid, and the fields that are wrong."""
        with self._lock:
            self._tally.outcomes["invalid", form] += customers
            self._tally.invalid_fields.update(error.field for error in errors if error.field)
            self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            timer = Timer(LONGEST_WAIT, self._flush_at_last)
            timer.daemon = True
            timer.start()

    def _flush_at_last(self) -> None:
        with self._lock:
            self._is_due = False
        self.flush()

    def flush(self) -> None:
        """Pass on what was counted, so that every process's /metrics has it."""
        with self._publishing:
            with self._lock:
                tally, self._tally = self._tally, Tally()
            if self._is_muted:
                return
            if self._published is None:
                self._published = Published(self.registry)
            self._published.add(tally)

    def mute(self) -> None:
        """Count no more: there is no place to keep it."""
        self._is_muted = True


class _Model(Collector):
    """The model that answers, as Prometheus sees it."""

    def __init__(self, about: About):
        self._about = about

    def collect(self) -> Iterator[Metric]:
        about = self._about
        info = GaugeMetricFamily("churn_model_info", "The model that answers.", labels=["file", "sha256", "classifier"])
        info.add_metric([about.file, about.sha256, about.classifier], 1)
        yield info
        if about.figures is None:
            return
        auc = GaugeMetricFamily("churn_model_test_auc", "Its AUC on the test part.", labels=["sha256"])
        auc.add_metric([about.sha256], about.figures.auc.test)
        yield auc
        average = GaugeMetricFamily(
            "churn_training_average",
            "Training customers: a number's mean, or a value's share.",
            labels=["field", "value"],
        )
        for feature, mean in about.figures.averages.items():
            name, _, value = feature.partition("=")
            # The one category that is a number for the model; its mean is the share of 1.
            average.add_metric([name, "1" if name == "seniorcitizen" else value], mean)
        yield average


def page(about: About) -> bytes:
    """What Prometheus reads: the sums over all processes, and the model of this one."""
    meter.flush()
    registry = meter.registry
    if FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return prometheus_client.generate_latest(registry) + prometheus_client.generate_latest(_Model(about))


def make_room(process: str) -> None:
    """Make the files of a process's values where there are none yet. Raises `OSError`.

    They are written through memory, and a full disk found out then would kill the process.
    """
    for kind in KINDS:
        path = Path(os.environ[FOLDER], f"{kind}_{process}.db")
        if not path.exists():
            # Under another name, since a file without its size is none that another process can read.
            unfinished = path.with_suffix(".new")
            try:
                unfinished.write_bytes(bytes(FILE_SIZE))
                unfinished.replace(path)
            except OSError:
                unfinished.unlink(missing_ok=True)
                raise


def join(process: str) -> None:
    """Keep this process's values in the files of that name, and go on from what they hold.

    No other living process may use them. Raises `OSError` where there is no room for them.
    """
    make_room(process)
    values.ValueClass = values.MultiProcessValue(lambda: process)


prometheus_client.disable_created_metrics()
meter = Meter()
