"""What is counted, by metric and labels: requests, records, and what the records are like."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from msgspec import UNSET

from serving.errors import FieldError
from serving.fields import Field
from serving.records import Columns, Unusual
from serving.schema import Schema

# How records arrive, and what becomes of them.
Form = Literal["object", "array", "csv"]
FORMS: tuple[Form, ...] = ("object", "array", "csv")
OUTCOMES = ("scored", "invalid")

# What becomes of a model file.
Outcome = Literal["taken_over", "refused"]

INFINITY = float("inf")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, INFINITY)
PROBABILITIES = (*(step / 20 for step in range(1, 21)), INFINITY)

# Of a number of whose table nothing is known.
ANY_NUMBER = (0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000, INFINITY)

# What is counted: a metric's name and the values of its labels; of a histogram also a bucket's upper bound, or SUM.
Key = tuple[str, ...]
Counts = Counter[Key]
SUM = "sum"


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


class Tally:
    """Counts records of one schema, from 0 or from what is given."""

    def __init__(self, schema: Schema, start: Counts | None = None):
        self.schema = schema
        self.counts: Counts = Counter(start)

    def scored(self, form: Form, columns: Columns, probabilities: list[float], unusual: Unusual) -> None:
        """Count records that were scored, each with a probability."""
        self.counts["serving_records", "scored", form] += len(probabilities)
        count_scored(self.counts, self.schema, columns, probabilities, unusual)

    def invalid(self, form: Form, errors: Collection[FieldError], records: int) -> None:
        """Count so many records that are invalid, and the fields that are wrong."""
        self.counts["serving_records", "invalid", form] += records
        self.counts.update(("serving_invalid_fields", error.field) for error in errors if error.field)


def observe(counts: Counts, key: Key, bounds: Sequence[float], amounts: Iterable[float]) -> None:
    """Count numbers in a histogram: for each bound, those up to it. What is missing (NaN) is not counted."""
    ordered = sorted(amounts)  # a number at a time takes three times as long
    if math.isnan(sum(ordered)):
        ordered = sorted(amount for amount in ordered if not math.isnan(amount))
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
    if is_exact and len(values := field.values) <= 4:
        # To look through it once for each value but the last takes a third of the time for few values.
        times: Counter[Any] = Counter({value: column.count(value) for value in values[:-1]})
        times[values[-1]] = len(column) - times.total()
    else:
        times = Counter(column)
    if field.is_private:
        yield from (("known", len(column) - times[UNSET]), ("unknown", times[UNSET]))
    else:
        yield from ((label, times[value]) for label, value in field.texts.items() if value in times)


def as_known(counts: Counts, known: Counts) -> Counts:
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
