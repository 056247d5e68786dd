"""GET /drift: how far what was asked since the start differs from what the model learnt from."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

from msgspec import Struct

from serving import distribution
from serving.distribution import NOTHING
from serving.fields import Field
from serving.model.base import Model
from serving.records import FORMS
from serving.schema import Schema
from serving.web.counts import Counts, binned, binned_probabilities, number_scored

# The index from which on a distribution has changed, and changed a lot: the usual bounds (Siddiqi, "Credit Risk
# Scorecards", 2006).
CHANGED, CHANGED_MUCH = 0.1, 0.25

# Fewer records a bin tell nothing: by chance alone the index, which then is distributed as chi-square divided by the
# number of records (Yurdakul, "Statistical properties of the population stability index", 2018), would reach 0.1 more
# than once in fifty times.
FEWEST_IN_A_BIN = 30

Verdict = Literal["alike", "changed", "changed a lot", "too few to tell", "not known"]


class Bin(Struct, frozen=True):
    """A field's value, or a bin of its numbers, and its share in training and among what was asked."""

    value: str
    training: float | None
    asked: float


class Drift(Struct, frozen=True):
    """How far what was asked of a field, or answered, differs from training.

    `index` is the population stability index, 0 where nothing differs; it is there where the model file tells how
    training was. `said` names the bin that adds most to it. Of the records scored, `unusual` is the share with a value
    that no record of training had, and `blank` that of blanks; `invalid` is the share of errors in this field, of these
    and the records scored. These three are null of a probability.
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
    """A field, or the probabilities, over bins: how many records were asked about, and of how many there were in
    training, their shares; no shares where they are not known."""

    name: str
    labels: list[str]
    times: list[int]
    shares: list[float]
    trained: int


def in_bins(counts: Counts, model: Model) -> list[Binned]:
    """What was counted of each field of a model by bins, and last, where their bins are known, of its probabilities."""
    schema, figures = model.schema, model.about.figures
    found = []
    for field in schema.fields:
        # Another schema than that of the training may have made a category of a number.
        edges = figures.edges.get(field.name, ()) if figures and distribution.has_numbers(field) else ()
        labels = distribution.labels(field, edges)
        known = figures.shares.get(field.name, {}) if figures else {}
        # Another schema than that of the training may have other values.
        is_known = bool(known) and {label for label, share in known.items() if share} <= {*labels}
        shares = [known.get(label, 0.0) for label in labels] if is_known else []
        found.append(Binned(field.name, labels, binned(counts, field, edges), shares, figures.rows if figures else 0))
    if figures and (answers := figures.probabilities):
        name = f"probability of {schema.target}"
        while name in schema.names:
            name += "?"
        times = binned_probabilities(counts, answers.edges)
        labels = distribution.number_labels(answers.edges)
        found.append(Binned(name, labels, times, answers.shares, figures.test_rows))
    return found


def since_start(counts: Counts, model: Model) -> Drifts:
    """How what was counted differs from a model's training."""
    schema, every = model.schema, in_bins(counts, model)
    scored, invalid = (sum(counts["serving_records", each, form] for form in FORMS) for each in ("scored", "invalid"))
    fields = []
    for field, each in zip(schema.fields, every, strict=False):
        number = number_scored(counts, field)
        unusual, blank, wrong = (
            counts[metric, field.name]
            for metric in ("serving_unusual_fields", "serving_blank_fields", "serving_invalid_fields")
        )
        shares = {
            "unusual": unusual / number if number else None,
            "blank": blank / number if number else None,
            "invalid": wrong / (number + wrong) if number + wrong else None,
        }
        fields.append(_drift(each, number, field.label, partial(_in_words, schema, field), shares))
    probability = None
    if len(every) > len(fields):
        answers, no_shares = every[-1], dict.fromkeys(("unusual", "blank", "invalid"))
        probability = _drift(answers, sum(answers.times), f"Probability of {schema.spoken.yes}", str, no_shares)
    return Drifts(scored, invalid, probability, fields)


def _drift(
    each: Binned, number: int, label: str, in_words: Callable[[str], str], shares: Mapping[str, float | None]
) -> Drift:
    asked = [times / (number or 1) for times in each.times]
    training: Sequence[float | None] = each.shares or [None] * len(asked)
    bins = [Bin(*values) for values in zip(each.labels, training, asked, strict=True)]
    if not each.shares or not number:
        verdict: Verdict = "too few to tell" if each.shares else "not known"
        return Drift(each.name, label, number, None, verdict, "", **shares, bins=bins)
    parts = distribution.parts([share * each.trained for share in each.shares], each.times)
    most = max(range(len(parts)), key=parts.__getitem__)
    said = f"{in_words(each.labels[most])}: {asked[most]:.1%}, in training {each.shares[most]:.1%}"
    index = math.fsum(parts)
    used = sum(share > 0 or times > 0 for share, times in zip(each.shares, each.times, strict=True))
    # Both sides are samples: the smaller of the two decides.
    is_told = 1 / (1 / number + 1 / each.trained) >= FEWEST_IN_A_BIN * max(2, used)
    verdict = _verdict(index) if is_told else "too few to tell"
    return Drift(each.name, label, number, index, verdict, said, **shares, bins=bins)


def _verdict(index: float) -> Verdict:
    return "changed a lot" if index > CHANGED_MUCH else "changed" if index > CHANGED else "alike"


def _in_words(schema: Schema, field: Field, label: str) -> str:
    if label == NOTHING and label not in field.texts:
        return "unknown"
    return schema.in_words(field, field.texts[label]) if label in field.texts else label
