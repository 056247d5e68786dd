"""What is counted for Prometheus: requests, customers, and what was asked about them.

A request only leaves a note; once a second the notes are counted, which would cost each request 50 us.
Where PROMETHEUS_MULTIPROC_DIR names a folder, each process then writes its counts to a file of its own there,
and whichever is asked for them adds up all files; gunicorn.conf.py makes such a folder. Elsewhere a process
knows its own counts only.
"""

import contextlib
import logging
import os
import threading
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from serving.customer import CATEGORIES, END, FIELDS, NUMBERS, Columns, Field, FieldError, Row, columns_of

FOLDER = "PROMETHEUS_MULTIPROC_DIR"

# How customers arrive, and what becomes of them.
Form = Literal["object", "array", "csv"]
FORMS: tuple[Form, ...] = ("object", "array", "csv")
OUTCOMES = ("scored", "invalid")

# What becomes of a model file.
Outcome = Literal["taken_over", "refused"]

# Where no route was found: paths are invented without end.
UNKNOWN = "unknown"

# A category of more values than this counts as known: each value would be a time series.
MOST_VALUES = 50

# How the names of files with counts end.
SUFFIX = ".serving-metrics"

# Seconds between two times that the notes are counted, and single customers that are noted before.
SECONDS_BETWEEN, MOST_NOTES = 1.0, 10_000

INFINITY = float("inf")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, INFINITY)
PROBABILITIES = (*(step / 20 for step in range(1, 21)), INFINITY)

# The training table has tenures up to 72 months, monthly charges of 18 to 119, totals up to 8,685.
NUMBER_BOUNDS: dict[str, tuple[float, ...]] = {
    "tenure": (0, 1, 3, 6, 12, 18, 24, 36, 48, 60, 72, INFINITY),
    "monthlycharges": (20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, INFINITY),
    "totalcharges": (0, 50, 100, 250, 500, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, INFINITY),
}

# What is counted: a metric's name and the values of its labels; of a histogram also a bucket's upper bound, or SUM.
Key = tuple[str, ...]
Counts = Counter[Key]
SUM = "sum"

log = logging.getLogger(__name__)


class Metric(NamedTuple):
    """How Prometheus sees a metric."""

    documentation: str
    labels: tuple[str, ...] = ()
    is_histogram: bool = False


METRICS = {
    "serving_requests": Metric("Requests answered.", ("route", "status")),
    "serving_request_seconds": Metric("Time until an answer was ready to be sent.", ("route",), is_histogram=True),
    "serving_records": Metric("Customers asked about.", ("outcome", "form")),
    "serving_probability": Metric("Probabilities answered.", is_histogram=True),
    "serving_invalid_fields": Metric("Errors in customers.", ("field",)),
    "serving_field_values": Metric("Customers scored, by a field's value.", ("field", "value")),
    "serving_model_files": Metric("Model files that were to be taken over.", ("outcome",)),
    "serving_number": Metric("Customers scored, by a field that is a number.", ("field",), is_histogram=True),
}


def observe(counts: Counts, key: Key, bounds: Sequence[float], amounts: Iterable[float]) -> None:
    """Count numbers in a histogram: for each bound, those up to it."""
    ordered = sorted(amounts)
    for bound in bounds:
        counts[*key, str(float(bound))] += bisect_right(ordered, bound)
    counts[*key, SUM] += sum(ordered)  # type: ignore[assignment]  # of a histogram the one count that is not whole


def shown(field: Field, value: Any) -> str:
    """How a category's value is labelled."""
    return str(value) if len(field.allowed) <= MOST_VALUES else "known"


def zeros() -> Counts:
    """All that is known beforehand to be counted, with 0."""
    counts: Counts = Counter()
    for form in FORMS:
        counts.update({("serving_records", outcome, form): 0 for outcome in OUTCOMES})
    counts.update({("serving_invalid_fields", field.name): 0 for field in FIELDS})
    counts.update({("serving_model_files", outcome): 0 for outcome in ("taken_over", "refused")})
    count_scored(counts, columns_of([]), [])
    for field in CATEGORIES:
        counts.update({("serving_field_values", field.name, shown(field, value)): 0 for value in field.allowed})
    return counts


def count_scored(counts: Counts, columns: Columns, probabilities: Iterable[float]) -> None:
    """Count what customers who were scored are like, and their probabilities."""
    for field, column in zip(CATEGORIES, columns, strict=False):
        for value, times in _times(column, field.allowed).items():
            counts["serving_field_values", field.name, shown(field, value)] += times
    for field, column in zip(NUMBERS, columns[END:], strict=True):
        observe(counts, ("serving_number", field.name), NUMBER_BOUNDS[field.name], column)
    observe(counts, ("serving_probability",), PROBABILITIES, probabilities)


def _times(column: Row, values: Sequence[Any]) -> Mapping[Any, int]:
    """How often each of the values is in a column."""
    if len(values) > 4:
        return Counter(column)
    # To look through it once for each value but the last takes a third of the time for few values.
    times = {value: column.count(value) for value in values[:-1]}
    return times | {values[-1]: len(column) - sum(times.values())}


class Meter:
    """Counts what a process does. Threads may share it."""

    def __init__(self) -> None:
        self._requests: deque[tuple[str, int, float]] = deque()
        self._alone: deque[tuple[Row, float]] = deque()
        self._counts = zeros()
        self._lock = threading.Lock()
        self._is_changed = False
        self._loop: threading.Thread | None = None
        self._file: Path | None = None
        self._is_written = True

    def request(self, route: str, status: int, seconds: float) -> None:
        """Note a request that was answered after so many seconds."""
        self._requests.append((route, status, seconds))
        if self._loop is None:
            self._start_loop()

    def scored_alone(self, row: Row, probability: float) -> None:
        """Note a single customer who was scored."""
        self._alone.append((row, probability))
        if len(self._alone) >= MOST_NOTES:
            self.count()

    def scored(self, form: Form, columns: Columns, probabilities: list[float]) -> None:
        """Count customers who were scored, each with a probability."""
        with self._lock:
            self._is_changed = True
            self._counts["serving_records", "scored", form] += len(probabilities)
            count_scored(self._counts, columns, probabilities)

    def invalid(self, form: Form, errors: Collection[FieldError], customers: int) -> None:
        """Count so many customers who are invalid, and the fields that are wrong."""
        with self._lock:
            self._is_changed = True
            self._counts["serving_records", "invalid", form] += customers
            for error in errors:
                if error.field:
                    self._counts["serving_invalid_fields", error.field] += 1

    def model_file(self, outcome: Outcome) -> None:
        """Count a model file that was to be taken over."""
        with self._lock:
            self._is_changed = True
            self._counts["serving_model_files", outcome] += 1

    def count(self) -> None:
        """Count what was noted."""
        with self._lock:
            if requests := _taken(self._requests):
                self._is_changed = True
                self._counts.update(("serving_requests", route, str(status)) for route, status, _ in requests)
                for route in {route for route, _, _ in requests}:
                    seconds = [seconds for each, _, seconds in requests if each == route]
                    observe(self._counts, ("serving_request_seconds", route), SECONDS, seconds)
            if alone := _taken(self._alone):
                self._is_changed = True
                self._counts["serving_records", "scored", "object"] += len(alone)
                rows, probabilities = zip(*alone, strict=True)
                count_scored(self._counts, columns_of(rows), probabilities)

    def flush(self) -> None:
        """Count what was noted, and pass it on to the other processes where there is a folder for that."""
        self.count()
        if not os.environ.get(FOLDER):
            return
        with self._lock:
            if self._file is None:
                self._continue(str(os.getpid()))
            if self._is_changed or not self._is_written:
                self._write()

    def join(self, place: str) -> None:
        """Keep this process's counts, from 0, in the file of this place, and go on from what it holds.

        No other living process may use it.
        """
        with self._lock:
            self._counts = zeros()
            self._continue(place)

    def total(self) -> Counts:
        """The counts of all processes, this one's up to now, the others' at most a second old."""
        self.flush()
        with self._lock:
            counts = self._counts.copy()
        if self._file is not None:
            for file in self._file.parent.glob(f"*{SUFFIX}"):
                if file != self._file:
                    counts.update(_read(file))
        return counts

    def _continue(self, place: str) -> None:
        self._file = Path(os.environ[FOLDER], f"{place}{SUFFIX}")
        self._counts.update(_read(self._file))

    def _write(self) -> None:
        assert self._file is not None
        self._is_changed = False
        try:
            write(self._counts, self._file)
            self._is_written = True
        except OSError as error:
            if self._is_written:  # till now: it is said once
                log.error("The other processes do not get to know this one's metrics: %s", error.strerror)
            self._is_written = False

    def _start_loop(self) -> None:
        # When the first request has come: a thread that was started before a fork would be none after it.
        self._loop = threading.Thread(target=self._flush_every_second, daemon=True)
        self._loop.start()

    def _flush_every_second(self) -> None:
        while True:
            time.sleep(SECONDS_BETWEEN)
            self.flush()


def _taken(notes: deque[Any]) -> list[Any]:
    """What has been noted so far; threads may go on noting."""
    return [notes.popleft() for _ in range(len(notes))]


def write(counts: Counts, file: Path) -> None:
    """Write counts to a file, which is there whole or not at all. Raises `OSError`."""
    unfinished = file.with_suffix(".new")
    try:
        unfinished.write_bytes(msgspec.json.encode([*counts.items()]))
        unfinished.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def _read(file: Path) -> Counts:
    """The counts in a file; none where there is no such file, or it has none."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=list[tuple[tuple[str, ...], float]])
    except (OSError, msgspec.DecodeError) as error:
        if not isinstance(error, FileNotFoundError):
            log.error("The counts in %s cannot be read: %s", file, error)
        return Counter()
    return Counter(dict(found))


meter = Meter()
