"""The service says what scikit-learn says, for every customer of the real table and for made-up ones."""

import json

import msgspec
import pandas as pd
import pytest
from conftest import InProcess, Service
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import predict
from serving.fields import LARGEST_NUMBER
from serving.training.telecom import SCHEMA

in_process = InProcess(predict.app.test_client())

# A session's service serves all examples of a property alike.
PROPERTY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def spellings(published: pd.DataFrame) -> dict[str, list[dict]]:
    """The 7,043 customers as JSON objects, in canonical and in raw spelling."""
    numbers = {"SeniorCitizen": int, "tenure": int, "MonthlyCharges": float, "TotalCharges": float}
    raw = published.drop(columns=["customerID", "Churn"]).replace({"TotalCharges": {" ": "0"}}).astype(numbers)
    canonical = raw.rename(columns=str.lower)
    text = [name for name in canonical if not pd.api.types.is_numeric_dtype(canonical[name])]
    canonical[text] = canonical[text].apply(lambda column: column.str.lower().str.replace(" ", "_"))
    return {"canonical": canonical.to_dict("records"), "raw": raw.to_dict("records")}


@pytest.fixture(scope="module")
def expected(spellings, pair) -> list[float]:
    vectorizer, classifier = pair
    return classifier.predict_proba(vectorizer.transform(spellings["canonical"]))[:, 1].tolist()


def assert_same(answers: list[dict], expected: list[float]) -> None:
    assert len(answers) == len(expected)
    assert max(abs(a["churn_probability"] - e) for a, e in zip(answers, expected, strict=True)) <= 1e-12
    assert not any("unusual" in a for a in answers)
    assert [a["churn"] for a in answers] == [a["churn_probability"] >= 0.5 for a in answers]


@pytest.mark.parametrize("spelling", ["canonical", "raw"])
def test_the_real_table_as_one_array(service: Service, spellings, expected, spelling):
    assert len(expected) == 7043
    assert_same(service.predict(spellings[spelling]).json, expected)


@pytest.mark.parametrize("spelling", ["canonical", "raw"])
def test_the_real_table_one_by_one(service: Service, spellings, expected, spelling):
    assert_same([service.predict(customer).json for customer in spellings[spelling]], expected)


def customers(largest: float) -> st.SearchStrategy[dict]:
    """Any customer of the schema, its numbers up to `largest`."""
    values = {"integer": st.integers(0, int(largest)), "number": st.floats(0, largest) | st.integers(0, int(largest))}
    return st.fixed_dictionaries(
        {
            field.name: st.sampled_from(field.values) if field.is_category else values[field.type]
            for field in SCHEMA.fields
        }
    )


# Within these bounds the probability is not rounded to 0 or 1.
@PROPERTY
@given(customer=customers(largest=1_000))
def test_any_customer_scores_like_scikit_learn(pair, customer):
    vectorizer, classifier = pair
    probability = in_process.predict(customer).json["churn_probability"]
    assert 0 < probability < 1
    assert probability == pytest.approx(classifier.predict_proba(vectorizer.transform([customer]))[0, 1], abs=1e-12)


@PROPERTY
@given(customer=customers(largest=LARGEST_NUMBER))
def test_the_largest_numbers_score_too(pair, customer):
    vectorizer, classifier = pair
    probability = in_process.predict(customer).json["churn_probability"]
    assert probability == pytest.approx(classifier.predict_proba(vectorizer.transform([customer]))[0, 1], abs=1e-12)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*SCHEMA.names]), inner),
)
spoilt_customers = st.builds(
    lambda customer, spoilt: customer | spoilt,
    customers(100),
    st.dictionaries(
        st.sampled_from([*(field.name for field in SCHEMA.fields), "customerid", "customerID"]), any_json, max_size=3
    ),
)


@PROPERTY
@given(value=any_json | spoilt_customers | st.lists(spoilt_customers, max_size=3))
def test_any_json_value_is_answered_or_refused(service: Service, value):
    answer = service.predict(json.dumps(value).encode("utf-8", "surrogatepass"))
    if answer.status != 200:
        assert 400 <= answer.status < 500
        assert answer.headers["content-type"] == "application/problem+json"
    msgspec.json.decode(answer.body)


@PROPERTY
@given(body=st.binary())
def test_any_bytes_are_answered_or_refused(body):
    answer = in_process.predict(body)
    assert answer.status in (200, 400, 422)
    msgspec.json.decode(answer.body)
