"""The short version of what `make reliability` sends by the hundred thousand."""

import json
from collections.abc import Iterator

import pytest
from bad_bytes import bad_bodies, bad_http, require_valid
from conftest import GUNICORN, Service, running
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.training.telecom import SCHEMA

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
CUSTOMERS = st.fixed_dictionaries(
    {field.name: VALUES | st.sampled_from(field.allowed if field.is_category else [0, 1.5]) for field in SCHEMA.fields}
)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running([*GUNICORN, "--workers", "1"]) as service:
        yield service


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(asked=VALUES | CUSTOMERS | st.lists(CUSTOMERS, max_size=3), explain=st.booleans())
def test_whatever_json_may_be_has_a_valid_answer(service, asked, explain):
    body = json.dumps(asked).encode()
    path = "/predict?explain=true" if explain else "/predict"
    answer = service.request("POST", path, body, {"Content-Type": "application/json"})
    require_valid(answer, body)


@pytest.mark.parametrize("server", ["gunicorn", "waitress"])
def test_mutated_bodies_have_valid_answers(server):
    shown = bad_bodies(2000, server)
    # Mutations that leave some requests good, or nothing but the first check would be tried.
    assert {200, 400, 422} <= shown.statuses.keys()


def test_mutated_http_has_valid_answers_or_none():
    assert {200, 400} <= bad_http(500).statuses.keys()
