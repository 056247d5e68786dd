"""GET /drift: how far what was asked since the start differs from what the model learnt from."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from serving import distribution
from serving.distribution import NOTHING
from serving.model.base import Model
from serving.schema import Schema
from serving.web.counts import FORMS, Counts, binned, binned_probabilities

# The index from which on a distribution has changed, and changed a lot: the usual bounds (Siddiqi, "Credit Risk
# Scorecards", 2006).
CHANGED, CHANGED_MUCH = 0.1, 0.25

# Fewer records a bin tell nothing: by chance alone the index, which then is distributed as chi-square divided by the
# number of records (Yurdakul, "Statistical properties of the population stability index", 2018), would reach 0.1 more
# than once in twenty times.
FEWEST_IN_A_BIN = 20

Verdict = Literal["alike", "changed", "changed a lot", "too few to tell", "not known"]


class Bin(Struct, frozen=True):
    """A field's value, or a bin of its numbers, and its share in training and among what was asked."""

    value: str
    training: float | None
    asked: float


class Drift(Struct, frozen=True):
    """How far what was asked of a field, or answered, differs from training.

    `index` is the population stability index, 0 where nothing differs; it is there where the model file tells how
    training was. `said` names the bin that adds most to it. Of the records, `unusual` is the share with a number that
    no record of training had, and `blank` that of blanks; `invalid` is the share with an error of all that were asked
    about, which are not scored. These three are null of a probability.
    """

    field: str
    label: str
    records: int
    index: float | None
    verdict: Verdict
    said: str
    unusual: float | None
    blank: float | None
    invalid: float | None
    bins: list[Bin]


class Drifts(Struct, frozen=True):
    """What was asked since the start, of all processes. Where a model with another field was taken over, its counts
    began there."""

    scored: int
    invalid: int
    probability: Drift | None
    fields: list[Drift]


class Binned(NamedTuple):
    """A field, or the probabilities, over bins: how many records were asked about, and the shares in training, of so
    many records; none where they are not known."""

    field: str
    labels: list[str]
    times: list[int]
    shares: list[float]
    trained: int


def in_bins(counts: Counts, model: Model) -> list[Binned]:
    """What was counted of each field of a model by bins, and last, where their bins are known, of its probabilities."""
    figures = model.about.figures
    found = []
    for field in model.schema.fields:
        labels = distribution.labels(field)
        known = figures.shares.get(field.name, {}) if figures else {}
        # Another schema than that of the training may have other bins.
        is_known = bool(known) and {label for label, share in known.items() if share} <= {*labels}
        shares = [known.get(label, 0.0) for label in labels] if is_known else []
        found.append(Binned(field.name, labels, binned(counts, field), shares, figures.rows if figures else 0))
    if figures and (known_probabilities := figures.probabilities):
        labels = distribution.number_labels(known_probabilities.edges)
        times = binned_probabilities(counts, known_probabilities.edges)
        name = distribution.of_probability(model.schema.target)
        found.append(Binned(name, labels, times, known_probabilities.shares, figures.test_rows))
    return found


def since_start(counts: Counts, model: Model) -> Drifts:
    """How what was counted differs from a model's training."""
    schema = model.schema
    scored, invalid = (
        int(sum(counts["serving_records", outcome, form] for form in FORMS)) for outcome in ("scored", "invalid")
    )
    every = in_bins(counts, model)
    fields = []
    for field, each in zip(schema.fields, every, strict=False):
        records = sum(each.times)
        unusual, blank, wrong = (
            counts[metric, field.name]
            for metric in ("serving_unusual_fields", "serving_blank_fields", "serving_invalid_fields")
        )
        fields.append(
            _drift(
                each,
                field.label,
                schema,
                _share(unusual, records),
                _share(blank, records),
                _share(wrong, scored + invalid),
            )
        )
    probability = [_drift(each, f"Probability of {schema.spoken.yes}", schema) for each in every[len(schema.fields) :]]
    return Drifts(scored, invalid, probability[0] if probability else None, fields)


def _share(some: float, number: float) -> float | None:
    return some / number if number else None


def _drift(
    each: Binned,
    label: str,
    schema: Schema,
    unusual: float | None = None,
    blank: float | None = None,
    invalid: float | None = None,
) -> Drift:
    records = sum(each.times)
    asked = [times / (records or 1) for times in each.times]
    training: Sequence[float | None] = each.shares or [None] * len(asked)
    bins = [Bin(*values) for values in zip(each.labels, training, asked, strict=True)]
    index = distribution.index(each.shares, asked) if each.shares and records else None
    said = ""
    if each.shares and records:
        most = max(range(len(asked)), key=lambda place: distribution.index([each.shares[place]], [asked[place]]))
        value = _in_words(each.labels[most], each.field, schema)
        said = f"{value}: {asked[most]:.1%}, in training {each.shares[most]:.1%}"
    return Drift(each.field, label, records, index, _verdict(each, index), said, unusual, blank, invalid, bins)


def _verdict(each: Binned, index: float | None) -> Verdict:
    if not each.shares:
        return "not known"
    records, bins = sum(each.times), max(2, sum(share > 0 for share in each.shares))
    # Both sides are samples: the smaller of the two decides.
    if index is None or 1 / (1 / records + 1 / each.trained) < FEWEST_IN_A_BIN * bins:
        return "too few to tell"
    return "changed a lot" if index > CHANGED_MUCH else "changed" if index > CHANGED else "alike"


def _in_words(label: str, name: str, schema: Schema) -> str:
    if label == NOTHING:
        return "unknown"
    field = schema.fields[schema.names[name]] if name in schema.names else None
    return schema.in_words(field, field.texts[label]) if field and label in field.texts else label
