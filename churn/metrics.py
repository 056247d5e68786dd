"""What is counted for Prometheus: requests, customers, and what was asked about them.

A request only adds to a tally of its process. Once a second the tally goes into prometheus_client's
values; each of these costs as much as a prediction does, and an answer touches forty. Under several
gunicorn workers the values are files, which gunicorn.conf.py finds a folder for; without
PROMETHEUS_MULTIPROC_DIR they are this process's own.
"""

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import repeat
from math import ceil
from operator import mul
from pathlib import Path
from threading import Lock, Timer
from typing import Any, Literal

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from churn.customer import CATEGORIES, FIELD_NAMES, FIRST, NUMBERS, SECOND, Batch, Combination, Customer, FieldError
from churn.model import About

MEDIA_TYPE = prometheus_client.CONTENT_TYPE_LATEST
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

# How customers arrive, and what becomes of them.
Form = Literal["object", "array", "csv"]
FORMS: tuple[Form, ...] = ("object", "array", "csv")
OUTCOMES = ("scored", "invalid")

# Where no route was found: paths are invented without end.
UNKNOWN = "unknown"

# Seconds that a tally waits, unless it has so many different amounts, or so many single customers.
LONGEST_WAIT = 1.0
MOST_WAITING = 10_000

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PROBABILITIES = tuple(step / 20 for step in range(1, 21))

# The training table has tenures up to 72 months, monthly charges of 18 to 119, totals up to 8,685.
NUMBER_BUCKETS: dict[str, tuple[float, ...]] = {
    "tenure": (0, 1, 3, 6, 12, 18, 24, 36, 48, 60, 72),
    "monthlycharges": (20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120),
    "totalcharges": (0, 50, 100, 250, 500, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000),
}

# Steps of which all of a histogram's bounds are multiples: so many of them make 1.
SECOND_STEPS, PROBABILITY_STEPS = 2000.0, 20.0
NUMBER_STEPS = {"tenure": 1.0, "monthlycharges": 1.0, "totalcharges": 0.02}

# The files of one process's values, and a size that holds all of them: no label has values without bound.
KINDS = ("counter", "histogram")
FILE_SIZE = 131_072


class Amounts:
    """What a histogram needs to know of many numbers: how many are in which step, and their sum.

    So many `steps` make 1. A number counts as the next step that is not below it (to a rounding error),
    which is in the same bucket where all bounds of the histogram are steps.
    """

    def __init__(self, steps: float):
        self.steps = steps
        self.times: Counter[int] = Counter()
        self.sum = 0.0

    def add(self, amounts: list[float]) -> None:
        """Add each of these numbers."""
        self.times.update(map(ceil, amounts if self.steps == 1 else map(mul, amounts, repeat(self.steps))))
        self.sum += sum(amounts)

    def add_whole(self, amounts: list[int]) -> None:
        """The same for whole numbers and steps of 1, in a third of the time."""
        self.times.update(amounts)
        self.sum += sum(amounts)


class Distribution(Histogram):
    """A histogram that takes many observations at once."""

    def observe_all(self, amounts: Amounts) -> None:
        """Observe each of these numbers."""
        times_by_bucket = [0] * len(self._buckets)
        for step, times in amounts.times.items():
            times_by_bucket[bisect_left(self._upper_bounds, step / amounts.steps)] += times
        for bucket, times in zip(self._buckets, times_by_bucket, strict=True):
            if times:
                bucket.inc(times)
        self._sum.inc(amounts.sum)


class Tally:
    """What has happened since the last one."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: dict[str, list[float]] = {}
        self.outcomes: Counter[tuple[str, Form]] = Counter()
        self.invalid_fields: Counter[str] = Counter()
        self.first: Counter[Combination] = Counter()
        self.second: Counter[Combination] = Counter()
        self.tenure = Amounts(NUMBER_STEPS["tenure"])
        self.monthlycharges = Amounts(NUMBER_STEPS["monthlycharges"])
        self.totalcharges = Amounts(NUMBER_STEPS["totalcharges"])
        self.probability = Amounts(PROBABILITY_STEPS)
        # Customers who are not in the above yet, and their probabilities.
        self.batches: list[tuple[Batch, list[float]]] = []
        self.alone: list[Customer] = []
        self.alone_probabilities: list[float] = []

    def catch_up(self) -> None:
        """Count what the customers of the waiting batches are like, and their probabilities."""
        while self.batches:
            batch, probabilities = self.batches.pop()
            self.first.update(batch.first)
            self.second.update(batch.second)
            self.tenure.add_whole(batch.tenure)
            self.monthlycharges.add(batch.monthlycharges)
            self.totalcharges.add(batch.totalcharges)
            self.probability.add(probabilities)

    def is_full(self) -> bool:
        """Whether there are so many different amounts that it takes memory."""
        of_each = self.tenure, self.monthlycharges, self.totalcharges
        return any(len(amounts.times) >= MOST_WAITING for amounts in of_each)


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
            amounts = Amounts(SECOND_STEPS)
            amounts.add(seconds)
            self._seconds.labels(route).observe_all(amounts)
        for (outcome, form), customers in tally.outcomes.items():
            self._customers.labels(outcome, form).inc(customers)
        for name, errors in tally.invalid_fields.items():
            self._invalid_fields.labels(name).inc(errors)
        tally.batches.append((Batch.of(tally.alone), tally.alone_probabilities))
        tally.catch_up()
        _add_values(self._categories[FIRST], tally.first)
        _add_values(self._categories[SECOND], tally.second)
        numbers = tally.tenure, tally.monthlycharges, tally.totalcharges
        for distribution, amounts in zip(self._numbers, numbers, strict=True):
            distribution.observe_all(amounts)
        self._probability.observe_all(tally.probability)


def _add_values(
    categories: list[dict[Any, prometheus_client.Counter]], times_by_combination: Counter[Combination]
) -> None:
    """Add how often each of these categories, which are combined, has which value."""
    times_by_value: list[Counter[Any]] = [Counter() for _ in categories]
    for combination, times in times_by_combination.items():
        for counter, value in zip(times_by_value, combination.values, strict=True):
            counter[value] += times
    for published, counter in zip(categories, times_by_value, strict=True):
        for value, times in counter.items():
            published[value].inc(times)


class Meter:
    """Counts what a process does. Threads may share it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._published: Published | None = None
        self._tally = Tally()
        # The first is held for a moment, to add to the tally; the second by who works through it.
        self._lock, self._counting = Lock(), Lock()
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
        """Count customers who were scored, each with a probability. What they are like waits for `catch_up`."""
        self.catch_up()
        with self._lock:
            tally = self._tally
            tally.outcomes["scored", form] += len(batch)
            tally.batches.append((batch, probabilities))
            self._flush_soon()

    def scored_alone(self, customer: Customer, probability: float) -> None:
        """Count the customer of an object. What it is like is counted later, for several at once."""
        with self._lock:
            tally = self._tally
            tally.outcomes["scored", "object"] += 1
            tally.alone.append(customer)
            tally.alone_probabilities.append(probability)
            self._flush_soon()
        if len(tally.alone) >= MOST_WAITING:
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

    def catch_up(self) -> None:
        """Count what is still to be counted of arrays and tables: after an answer, which it would delay."""
        if not self._tally.batches:
            return
        with self._counting:
            tally = self._tally
            tally.catch_up()
        if tally.is_full():
            self.flush()

    def flush(self) -> None:
        """Pass on what was counted, so that every process's /metrics has it."""
        with self._counting:
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
