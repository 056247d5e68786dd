"""GET /drift: how what was asked differs from training, held to pandas on the real table."""

import math
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from conftest import GUNICORN, MODEL_FILE, ROOT, InProcess, customers, packaged, read, running, wait_until
from msgspec import UNSET
from msgspec.structs import replace

from predict import create_app
from serving import distribution
from serving import schema as schemas
from serving.errors import FieldError
from serving.records import Records
from serving.training.telecom import SCHEMA
from serving.web import counts as counting
from serving.web import drift
from serving.web.counts import Bins, Tally
from serving.web.metrics import Meter, meter
from serving.web.settings import Settings

NUMBERS = ["tenure", "monthlycharges", "totalcharges"]
TABLE = pd.DataFrame(customers())


@pytest.fixture(autouse=True)
def the_meter_goes_back_to_the_telecom_company():
    yield
    meter.follow(read(MODEL_FILE))


def asked(frame: pd.DataFrame, **settings: str) -> dict:
    """What /drift says after a service has been asked about these rows, in a table."""
    with running(GUNICORN, **settings) as service:
        scored = service.predict(frame.to_csv(index=False).encode(), "text/csv")
        assert scored.status == 200
        found = []

        def all_counted() -> bool:
            found.append(service.get("/drift").json)
            return found[-1]["scored"] + found[-1]["invalid"] == len(frame)

        wait_until(all_counted)
        return found[-1]


def by_name(found: dict) -> dict[str, dict]:
    return {each["field"]: each for each in found["fields"]}


def stability_index(before: pd.Series, after: pd.Series) -> float:
    """The index by the book, over values or over the tenths of what was before, with half a record more in each bin."""
    if pd.api.types.is_numeric_dtype(before) and before.nunique() > 2:
        ends = np.unique(np.quantile(before, np.arange(0.1, 1, 0.1), method="inverted_cdf"))
        before, after = (pd.cut(each, [-np.inf, *ends, np.inf]) for each in (before, after))
    both = pd.DataFrame({"old": before.value_counts(), "new": after.value_counts()}).fillna(0) + 0.5
    both /= both.sum()
    return float(((both.new - both.old) * np.log(both.new / both.old)).sum())


def test_the_training_table_itself_shows_none():
    found = asked(TABLE)
    assert (found["scored"], found["invalid"]) == (7043, 0)
    assert [each["field"] for each in found["fields"]] == [*SCHEMA.names]
    for each in [found["probability"], *found["fields"]]:
        assert each["verdict"] == "alike"
        assert each["index"] < 0.1
        assert each["records"] == 7043
        assert math.fsum(part["asked"] for part in each["bins"]) == pytest.approx(1)
        assert math.fsum(part["training"] for part in each["bins"]) == pytest.approx(1)
    for name, each in by_name(found).items():
        assert each["index"] == pytest.approx(0, abs=1e-9)
        if name not in NUMBERS:
            shares = TABLE[name].astype(str).value_counts(normalize=True)
            assert {part["value"]: part["training"] for part in each["bins"]} == pytest.approx({**shares, "": 0})
    tenure = by_name(found)["tenure"]["bins"]
    assert tenure[0] == {
        "value": "up to 2",
        "training": pytest.approx((TABLE.tenure <= 2).mean()),
        "asked": tenure[0]["training"],
    }
    between = ((TABLE.tenure > 2) & (TABLE.tenure <= 6)).mean()
    assert tenure[1]["value"] == "over 2 to 6"
    assert tenure[1]["training"] == pytest.approx(between)
    assert tenure[-2]["value"] == "over 69"
    assert tenure[-2]["training"] == pytest.approx((TABLE.tenure > 69).mean())


@pytest.mark.parametrize(
    ("number", "category", "value"), [("monthlycharges", "partner", "no"), ("tenure", "contract", "two_year")]
)
def test_what_has_changed_is_named_and_nothing_else(number, category, value):
    changed = TABLE.assign(**{number: TABLE[number] / 2 if number != "tenure" else TABLE[number] // 2, category: value})
    found = by_name(asked(changed))
    assert {name for name, each in found.items() if each["verdict"] != "alike"} == {number, category}
    for name in (number, category):
        assert found[name]["verdict"] == "changed a lot"
        assert found[name]["index"] == pytest.approx(stability_index(TABLE[name], changed[name]))
    before = TABLE[category].value_counts(normalize=True)
    most = max((name for name in before.index if name != value), key=before.get)
    label = {"yes": "Yes", "month-to-month": "Month-to-month"}[most]
    assert found[category]["said"] == f"{label}: 0.0%, in training {before[most]:.1%}"


def test_thirty_customers_are_too_few_to_tell():
    found = asked(TABLE[:30])
    assert {each["verdict"] for each in [found["probability"], *found["fields"]]} == {"too few to tell"}
    assert found["probability"]["records"] == 30


@pytest.mark.parametrize(
    ("records", "told"), [(60, set()), (61, {name for name in SCHEMA.names if TABLE[name].nunique() == 2})]
)
def test_thirty_records_a_bin_are_enough(records, told):
    """Both sides are samples: 61 and 7,043 are worth 60.5, for two bins."""
    found = by_name(asked(pd.concat([TABLE] * 2)[:records]))
    assert {name for name, each in found.items() if each["verdict"] != "too few to tell"} == told


def test_blank_unusual_and_invalid_values_are_shares(customer):
    with running([*GUNICORN, "--workers", "2"]) as service:
        for _ in range(6):
            service.predict(customer)
        service.predict(customer | {"totalcharges": None})
        service.predict([customer, customer | {"totalcharges": None, "tenure": 100}])
        service.predict(pd.DataFrame([customer | {"totalcharges": " "}]).to_csv(index=False).encode(), "text/csv")
        assert service.predict(customer | {"tenure": -1, "contract": "weekly"}).status == 422
        assert service.predict([customer, customer | {"contract": "weekly"}]).status == 422
        wait_until(lambda: service.get("/drift").json["scored"] == 10 and service.get("/drift").json["invalid"] == 2)
        found = service.get("/drift").json
    assert isinstance(found["scored"], int)
    fields = by_name(found)
    assert (fields["totalcharges"]["blank"], fields["tenure"]["blank"]) == (0.3, 0)
    assert (fields["tenure"]["unusual"], fields["totalcharges"]["unusual"]) == (0.1, 0)
    assert (fields["contract"]["invalid"], fields["tenure"]["invalid"]) == (
        pytest.approx(2 / 12),
        pytest.approx(1 / 11),
    )


def test_where_strange_values_count_as_nothing_they_are_a_bin(customer):
    service = InProcess(create_app(Settings(lenient=True)).test_client())
    meter.follow(read(MODEL_FILE))
    before = by_name(service.get("/drift").json)["contract"]
    for value in ("weekly", "weekly", "two_year"):
        service.predict(customer | {"contract": value})
    after = by_name(service.get("/drift").json)["contract"]

    def times(each: dict) -> Counter:
        return Counter({part["value"]: round(part["asked"] * each["records"]) for part in each["bins"]})

    assert times(after) - times(before) == {"": 2, "two_year": 1}


def model(shares: dict[str, dict[str, float]], schema: schemas.Schema):
    """The telecom company's model with other fields and shares, of which nothing is asked."""
    found = read(MODEL_FILE)
    figures = replace(found.about.figures, rows=10**6, shares=shares, edges={}, probabilities=None)
    about = replace(found.about, figures=figures)
    found.about, found.schema = about, schema
    return found


KINDS = schemas.from_json({"fields": [{"name": "kind", "type": "string", "constraints": {"enum": ["a", "b"]}}]})


@pytest.mark.parametrize(
    ("a", "verdict"),
    [
        (650, "alike"),
        (655, "alike"),
        (656, "changed"),
        (739, "changed"),
        (740, "changed a lot"),
        (1000, "changed a lot"),
    ],
)
def test_the_usual_bounds_decide(a, verdict):
    """(q - 1/2) ln(q / (1 - q)) is 0.1 at q = 0.6554 and 0.25 at 0.7394."""
    counts = counting.Counts({("serving_field_values", "kind", value): n for value, n in (("a", a), ("b", 1000 - a))})
    [found] = drift.since_start(counts, model({"kind": {"a": 0.5, "b": 0.5}}, KINDS)).fields
    assert found.verdict == verdict
    if 0 < a < 1000:
        share = a / 1000
        assert found.index == pytest.approx((share - 0.5) * math.log(share / (1 - share)), abs=0.002)


@pytest.mark.parametrize("shares", [{}, {"kind": {"a": 0.5, "c": 0.5}}], ids=["none", "of other values"])
def test_what_is_not_known_of_the_training_is_said(shares):
    counts = counting.Counts({("serving_field_values", "kind", "a"): 1000})
    [found] = drift.since_start(counts, model(shares, KINDS)).fields
    assert (found.verdict, found.index, found.said) == ("not known", None, "")
    bins = [(each.value, each.training, each.asked) for each in found.bins]
    assert bins == [("a", None, 1), ("b", None, 0), ("", None, 0)]


def test_a_number_that_another_schema_has_made_a_category_has_no_training_to_differ_from():
    field = {"name": "kind", "type": "integer", "constraints": {"enum": [0, 1]}}
    found = model({"kind": {"up to 0": 0.5, "over 0": 0.5, "": 0.0}}, schemas.from_json({"fields": [field]}))
    found.about = replace(found.about, figures=replace(found.about.figures, edges={"kind": [0]}))
    counts = counting.Counts({("serving_field_values", "kind", "1"): 1000})
    [told] = drift.since_start(counts, found).fields
    assert (told.verdict, told.records) == ("not known", 1000)
    assert [(each.value, each.asked) for each in told.bins] == [("0", 0), ("1", 1), ("", 0)]


def test_a_model_of_another_script_has_no_training_to_differ_from(pair, customer, tmp_path):
    vectorizer, classifier = pickle.loads(pickle.dumps(pair))
    for attribute in [name for name in vars(classifier) if name.startswith("serving_")]:
        delattr(classifier, attribute)
    (tmp_path / "other.bin").write_bytes(pickle.dumps((vectorizer, classifier)))
    service = InProcess(create_app(Settings(model=str(tmp_path / "other.bin"))).test_client())
    service.predict(customer | {"seniorcitizen": 0})
    found = service.get("/drift").json
    assert found["probability"] is None
    assert {each["verdict"] for each in found["fields"]} == {"not known"}
    assert by_name(found)["tenure"]["bins"] == []


def test_a_field_that_a_new_model_bins_otherwise_begins_anew():
    old, new = read(MODEL_FILE), read(MODEL_FILE)
    figures = old.about.figures
    new.about = replace(old.about, figures=replace(figures, edges=figures.edges | {"tenure": [5, 10]}))
    own = Meter()
    own.follow(old)
    columns = [[value] for value in packaged().rows[0]]
    own.scored(Records("array", columns, {0: ["tenure", "monthlycharges"]}, {"totalcharges": 1}), [0.5])
    own.follow(new)
    # One of two has it wrong, since both began.
    own.scored(Records("array", columns, {}, {}), [0.5])
    own.invalid("object", [FieldError(index=0, field="tenure", message="wrong")], 1)
    now = drift.since_start(own.total(), new)
    found = {each.field: each for each in now.fields}
    assert (found["tenure"].records, found["tenure"].unusual, found["tenure"].invalid) == (1, 0, 0.5)
    assert (found["monthlycharges"].records, found["monthlycharges"].unusual) == (2, 0.5)
    assert found["totalcharges"].blank == 0.5
    assert now.probability.records == 2
    # And so do the probabilities of another model.
    other = replace(figures.probabilities, edges=[0.2, 0.4], shares=[0.5, 0.3, 0.2, 0])
    new.about = replace(old.about, figures=replace(figures, probabilities=other))
    own.follow(new)
    assert drift.since_start(own.total(), new).probability.records == 0
    assert drift.since_start(own.total(), new).fields[0].records == 2


def field(**described):
    [found] = schemas.from_json({"fields": [{"name": "field", **described}]}).fields
    return found


def test_missing_numbers_are_a_bin():
    age, edges = field(type="number", blank="NaN"), [1, 2.5]
    tally = Tally(schemas.Schema((age,)), Bins({"field": edges}))
    tally.scored(Records("array", [[1.0, math.nan, 8.5, 100.0, math.nan]], {}, {"field": 2}), [0.5] * 5)
    assert counting.binned(tally.counts, age, edges) == [1, 0, 2, 2]
    assert counting.number_scored(tally.counts, age) == 5
    shares = {"up to 1": 0.25, "over 1 to 2.5": 0, "over 2.5": 0.5, "": 0.25}
    assert distribution.shares(age, edges, [1.0, math.nan, 8.5, 100.0]) == shares


def test_other_kinds_of_fields_have_bins_too():
    towns = field(type="string", constraints={"enum": [f"town-{each}" for each in range(51)]})
    assert distribution.shares(towns, (), ["town-7", "town-8", UNSET, "town-7"]) == {"known": 0.75, "unknown": 0.25}
    either = field(type="any", categories=["few", "many"])
    assert distribution.shares(either, (), ["few", 3.0, 4.0, UNSET]) == {"few": 0.25, "many": 0, "": 0.75}
    blank = field(type="string", constraints={"enum": ["", "a"]})
    assert distribution.shares(blank, (), ["", "a", "a", UNSET]) == {"": 0.5, "a": 0.5}
    assert distribution.labels(field(type="number"), ()) == []


@pytest.mark.parametrize(
    ("numbers", "edges"),
    [
        (range(1, 101), [10, 20, 30, 40, 50, 60, 70, 80, 90]),
        (range(1, 16), [2, 3, 5, 6, 8, 9, 11, 12, 14]),
        ([0] * 96 + [1, 2, 3, 4], [0]),
        ([1, 2, 3] + [100] * 97, [3]),  # so that fewer of the greatest are noticed
        ([1] * 30 + [2] * 70, [1]),
        ([5] * 10, [5]),
    ],
)
def test_bins_of_numbers_end_where_a_tenth_more_is_reached(numbers, edges):
    assert distribution.tenths([*numbers]) == edges


def test_of_a_rare_value_none_in_a_few_records_is_no_news():
    """Of 5 % none in 61 is to be expected once in twenty-three times, and ten such fields are not rare."""
    counts = counting.Counts({("serving_field_values", "kind", "a"): 61})
    [found] = drift.since_start(counts, model({"kind": {"a": 0.95, "b": 0.05}}, KINDS)).fields
    assert found.verdict == "alike"


@pytest.mark.parametrize("kind", ["tree", "forest", "boosting"])
def test_trees_do_not_drift_from_themselves(kind, tmp_path):
    """A tree gives thousands of records the same probability, which another library may compute a last digit higher."""
    file = tmp_path / "trees.bin"
    command = [sys.executable, "train.py", "--model", kind, "--output", str(file)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    found = asked(TABLE, SERVING_MODEL=str(file))["probability"]
    assert found["verdict"] == "alike", found


def test_it_wants_a_key_as_the_metrics_do(customer):
    with running(GUNICORN, SERVING_API_KEYS="4d0fa1", SERVING_METRICS_KEY="for-metrics") as service:
        assert service.get("/drift").status == 401
        for key in ("4d0fa1", "for-metrics"):
            assert service.request("GET", "/drift", headers={"X-API-Key": key}).status == 200
