"""What is counted for Prometheus: requests, records, and what was asked about them.

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
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET

from serving.errors import FieldError
from serving.fields import Field
from serving.records import Columns, Unusual
from serving.schema import Schema

FOLDER = "PROMETHEUS_MULTIPROC_DIR"

# How customers arrive, and what becomes of them.
Form = Literal["object", "array", "csv"]
FORMS: tuple[Form, ...] = ("object", "array", "csv")
OUTCOMES = ("scored", "invalid")

# What becomes of a model file.
Outcome = Literal["taken_over", "refused"]

# Where no route was found: paths are invented without end.
UNKNOWN = "unknown"

# How the names of files with counts end.
SUFFIX = ".serving-metrics"

# Seconds between two times that the notes are counted, and single customers that are noted before.
SECONDS_BETWEEN, MOST_NOTES = 1.0, 10_000

INFINITY = float("inf")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, INFINITY)
PROBABILITIES = (*(step / 20 for step in range(1, 21)), INFINITY)

# Of a number of whose table nothing is known.
ANY_NUMBER = (0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000, INFINITY)

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
    "serving_records": Metric("Records asked about.", ("outcome", "form")),
    "serving_probability": Metric("Probabilities answered.", is_histogram=True),
    "serving_invalid_fields": Metric("Errors in records.", ("field",)),
    "serving_unusual_fields": Metric("Values that no record of the training table had.", ("field",)),
    "serving_field_values": Metric("Records scored, by a field's value.", ("field", "value")),
    "serving_model_files": Metric("Model files that were to be taken over.", ("outcome",)),
    "serving_number": Metric("Records scored, by a field that is a number.", ("field",), is_histogram=True),
}


def observe(counts: Counts, key: Key, bounds: Sequence[float], amounts: Iterable[float]) -> None:
    """Count numbers in a histogram: for each bound, those up to it."""
    ordered = sorted(amounts)  # a number at a time takes three times as long
    for bound in bounds:
        counts[*key, str(float(bound))] += bisect_right(ordered, bound)
    counts[*key, SUM] += sum(ordered)  # type: ignore[assignment]  # of a histogram the one count that is not whole


def bounds(field: Field) -> tuple[float, ...]:
    """The upper bounds of a number's buckets: the least, the deciles and the greatest of the training table."""
    known = [each for each in (field.least, *field.deciles, field.greatest) if each is not None]
    return (*sorted({*known}), INFINITY) if known else ANY_NUMBER


def zeros(schema: Schema) -> Counts:
    """All that is known beforehand to be counted, with 0."""
    counts: Counts = Counter()
    for form in FORMS:
        counts.update({("serving_records", outcome, form): 0 for outcome in OUTCOMES})
    names = [*schema.names, *([schema.id] if schema.id else [])]
    counts.update({("serving_invalid_fields", name): 0 for name in names})
    counts.update({("serving_unusual_fields", name): 0 for name in schema.names})
    counts.update({("serving_model_files", outcome): 0 for outcome in ("taken_over", "refused")})
    count_scored(counts, schema, [() for _ in schema.fields], [], {})
    for field in schema.fields:
        labels = ["known", "unknown"] if field.is_private else [*field.texts]
        counts.update({("serving_field_values", field.name, label): 0 for label in labels if not field.is_number})
    return counts


def count_scored(
    counts: Counts, schema: Schema, columns: Columns, probabilities: Iterable[float], unusual: Unusual
) -> None:
    """Count what records that were scored are like, and their probabilities."""
    for field, column in zip(schema.fields, columns, strict=True):
        if field.is_number:
            observe(counts, ("serving_number", field.name), bounds(field), column)
            continue
        for label, times in _times(field, column, is_exact=field.is_category and not unusual):
            counts["serving_field_values", field.name, label] += times
    for names in unusual.values():
        counts.update(("serving_unusual_fields", name) for name in names)
    observe(counts, ("serving_probability",), PROBABILITIES, probabilities)


def _times(field: Field, column: Sequence[Any], is_exact: bool) -> Iterator[tuple[str, int]]:
    """How often each value is in a column, by its label; `is_exact` where nothing else is in it."""
    values, times = field.values, Counter[Any]()
    if is_exact and len(values) <= 4:
        # To look through it once for each value but the last takes a third of the time for few values.
        times.update({value: column.count(value) for value in values[:-1]})
        times[values[-1]] = len(column) - sum(times.values())
    else:
        times = Counter(column)
    known = sum(times[value] for value in times if value is not UNSET)
    if field.is_private:
        yield from (("known", known), ("unknown", len(column) - known))
    else:
        yield from ((str(value), number) for value, number in times.items() if str(value) in field.texts)


def _as_known(counts: Counts, known: Counts) -> Counts:
    """The counts without those of fields that are known otherwise: a histogram has one set of buckets."""
    found, wanted = _by_field(counts), _by_field(known)
    other = {key for group, keys in found.items() if keys != wanted.get(group) for key in keys}
    return Counter({key: count for key, count in counts.items() if key not in other})


def _by_field(counts: Counts) -> dict[Key, set[Key]]:
    groups: dict[Key, set[Key]] = {}
    for key in counts:
        if key[0] in METRICS and "field" in METRICS[key[0]].labels:
            groups.setdefault(key[:2], set()).add(key)
    return groups


class Meter:
    """Counts what a process does. Threads may share it."""

    def __init__(self) -> None:
        self._requests: deque[tuple[str, int, float]] = deque()
        self._alone: deque[tuple[Columns, list[float], Unusual]] = deque()
        self._schema: Schema | None = None
        self._known: Counts = Counter()
        self._counts: Counts = Counter()
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

    def follow(self, schema: Schema) -> None:
        """Count records of this schema from now on; what was counted of fields that it has otherwise is gone."""
        self.count()
        with self._lock:
            self._schema = schema
            self._known = zeros(schema)
            counts = _as_known(self._counts, self._known)
            self._counts = self._known.copy()
            self._counts.update(counts)
            self._is_changed = True

    def scored(self, form: Form, columns: Columns, probabilities: list[float], unusual: Unusual) -> None:
        """Count records that were scored, each with a probability; a single one is only noted."""
        if form == "object":
            self._alone.append((columns, probabilities, unusual))
            if len(self._alone) >= MOST_NOTES:
                self.count()
            return
        with self._lock:
            self._count_scored(form, columns, probabilities, unusual)

    def invalid(self, form: Form, errors: Collection[FieldError], records: int) -> None:
        """Count so many records that are invalid, and the fields that are wrong."""
        with self._lock:
            self._is_changed = True
            self._counts["serving_records", "invalid", form] += records
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
                by_field = zip(*(columns for columns, _, _ in alone), strict=True)
                columns: Columns = [[*chain.from_iterable(each)] for each in by_field]
                unusual = {place: each[0] for place, (_, _, each) in enumerate(alone) if each}
                self._count_scored("object", columns, [each for _, [each], _ in alone], unusual)

    def _count_scored(self, form: Form, columns: Columns, probabilities: list[float], unusual: Unusual) -> None:
        assert self._schema is not None, "there is no model yet"
        self._is_changed = True
        self._counts["serving_records", "scored", form] += len(probabilities)
        count_scored(self._counts, self._schema, columns, probabilities, unusual)

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
            self._counts = self._known.copy()
            self._continue(place)

    def total(self) -> Counts:
        """The counts of all processes, this one's up to now, the others' at most a second old."""
        self.flush()
        with self._lock:
            counts = self._counts.copy()
        if self._file is not None:
            for file in self._file.parent.glob(f"*{SUFFIX}"):
                if file != self._file:
                    counts.update(_as_known(_read(file), self._known))
        return counts

    def _continue(self, place: str) -> None:
        self._file = Path(os.environ[FOLDER], f"{place}{SUFFIX}")
        self._counts.update(_as_known(_read(self._file), self._known))

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
