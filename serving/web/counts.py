"""What is counted, by metric and labels: requests, records, and what the records are like."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from serving import distribution
from serving.distribution import NOTHING, Edges
from serving.errors import FieldError
from serving.fields import Field
from serving.model.base import Model
from serving.records import FORMS, Form, Records
from serving.schema import Schema

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
    "serving_blank_fields": Metric("Blanks that were filled as in training.", ("field",)),
    "serving_field_values": Metric(
        "Records scored, by a field's value, or by the bin that it is in.", ("field", "value")
    ),
    "serving_model_files": Metric("Model files that were to be taken over.", ("outcome",)),
    "serving_number": Metric("Records scored, by a field that is a number.", ("field",), is_histogram=True),
}


class Bins(NamedTuple):
    """Where the bins of numbers end, by field, and those of the probabilities, as far as a model tells."""

    fields: Mapping[str, Edges] = {}
    probabilities: Edges = ()

    @classmethod
    def of_model(cls, model: Model) -> "Bins":
        """Those that the training figures have."""
        figures = model.about.figures
        return cls(figures.edges, figures.probabilities.edges if figures.probabilities else ()) if figures else cls()


NO_BINS = Bins()


class Tally:
    """Counts records of one schema, from 0 or from what is given, with these bins."""

    def __init__(self, schema: Schema, bins: Bins = NO_BINS, start: Counts | None = None):
        self.schema = schema
        self.bins = bins
        self.counts: Counts = Counter(start)
        self._bounds = [bounds(field, bins.fields.get(field.name, ())) for field in schema.fields]
        self._of_probabilities = sorted({*PROBABILITIES, *bins.probabilities})

    @classmethod
    def of_model(cls, model: Model) -> "Tally":
        """One of a model's schema and bins, from 0."""
        return cls(model.schema, Bins.of_model(model))

    def scored(self, records: Records, probabilities: list[float]) -> None:
        """Count records that were scored, each with a probability: what they and their probabilities are like."""
        counts, unusual = self.counts, records.unusual
        counts["serving_records", "scored", records.form] += len(probabilities)
        for field, column, of_field in zip(self.schema.fields, records.columns, self._bounds, strict=True):
            if field.is_number:
                numbers = records.ordered.get(field.name, column)
                known = observe(counts, ("serving_number", field.name), of_field, numbers)
                counts["serving_field_values", field.name, NOTHING] += len(column) - known
                continue
            for label, times in distribution.label_times(field, column, is_exact=field.is_category and not unusual):
                counts["serving_field_values", field.name, label] += times
            if distribution.has_numbers(field):
                observe(counts, ("serving_number", field.name), of_field, distribution.numbers_in(field, column))
        for names in unusual.values():
            counts.update(("serving_unusual_fields", name) for name in names)
        for name, times in records.blanks.items():
            counts["serving_blank_fields", name] += times
        observe(counts, ("serving_probability",), self._of_probabilities, probabilities)

    def invalid(self, form: Form, errors: Collection[FieldError], records: int) -> None:
        """Count so many records that are invalid, and the fields that are wrong."""
        self.counts["serving_records", "invalid", form] += records
        self.counts.update(("serving_invalid_fields", error.field) for error in errors if error.field)


def observe(counts: Counts, key: Key, bounds: Sequence[float], amounts: Iterable[float]) -> int:
    """Count numbers in a histogram: for each bound, those up to it. What is missing (NaN) is not counted.

    Gives how many were counted.
    """
    ordered = distribution.in_order(amounts)  # a number at a time takes three times as long
    for bound in bounds:
        counts[*key, str(float(bound))] += bisect_right(ordered, bound)
    counts[*key, SUM] += sum(ordered)  # type: ignore[assignment]  # of a histogram the one count that is not whole
    return len(ordered)


def bounds(field: Field, edges: Edges) -> tuple[float, ...]:
    """The upper bounds of a number's buckets: the least, the deciles and the greatest of the training table, and where
    its bins end."""
    known = [each for each in (field.least, *field.deciles, field.greatest, *edges) if each is not None]
    return (*sorted({*known}), INFINITY) if known else ANY_NUMBER


def zeros(schema: Schema, bins: Bins = NO_BINS) -> Counts:
    """All that is known beforehand to be counted, with 0."""
    tally = Tally(schema, bins)
    for form in FORMS:
        tally.scored(Records(form, [() for _ in schema.fields], {}, {}), [])
        tally.invalid(form, (), 0)
    counts = tally.counts
    names = [*schema.names, *([schema.id] if schema.id else [])]
    counts.update({("serving_invalid_fields", name): 0 for name in names})
    for metric in ("serving_unusual_fields", "serving_blank_fields"):
        counts.update({(metric, name): 0 for name in schema.names})
    counts.update({("serving_model_files", outcome): 0 for outcome in get_args(Outcome)})
    for field in schema.fields:
        labels = [NOTHING] if field.is_number else distribution.labels(field, ())
        counts.update({("serving_field_values", field.name, label): 0 for label in labels})
    return counts


def binned(counts: Counts, field: Field, edges: Edges) -> list[int]:
    """How many records were scored by each bin of a field; none of a number without edges."""
    if field.is_number and not edges:
        return []
    labels = [NOTHING] if field.is_number else distribution.labels(field, ())
    found = [counts["serving_field_values", field.name, label] for label in labels]
    if not edges:
        return found
    numbers = _binned(counts, ("serving_number", field.name), edges)
    if not field.is_number:
        found[labels.index(NOTHING)] -= sum(numbers)
    return [*numbers, *found]


def binned_probabilities(counts: Counts, edges: Edges) -> list[int]:
    """How many probabilities were answered by each bin, where these are the edges."""
    return [*_binned(counts, ("serving_probability",), edges), 0]


def number_scored(counts: Counts, field: Field) -> int:
    """How many records were scored since a field is counted."""
    if field.is_number:
        return counts["serving_number", field.name, str(INFINITY)] + counts["serving_field_values", field.name, NOTHING]
    return sum(binned(counts, field, ()))


def _binned(counts: Counts, key: Key, edges: Edges) -> list[int]:
    return distribution.between([counts[*key, str(float(edge))] for edge in (*edges, INFINITY)])


def as_known(counts: Counts, known: Counts) -> Counts:
    """The counts without those of fields, or of probabilities, that are known otherwise: a histogram has one set of
    buckets, and what is counted of a field begins together."""
    found, wanted = _by_subject(counts), _by_subject(known)
    other = {key for subject, keys in found.items() if keys != wanted.get(subject) for key in keys}
    return Counter({key: count for key, count in counts.items() if key not in other})


def _by_subject(counts: Counts) -> dict[Key, set[Key]]:
    """What is counted of each field, and of the probabilities."""
    subjects: dict[Key, set[Key]] = {}
    for key in counts:
        if key[0] == "serving_probability":
            subjects.setdefault(key[:1], set()).add(key)
        elif key[0] in METRICS and "field" in METRICS[key[0]].labels:
            subjects.setdefault(("field", key[1]), set()).add(key)
    return subjects
