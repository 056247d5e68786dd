"""The settings: where they come from, what they limit, and that they are written down."""

import subprocess
import sys

import msgspec
import pytest
from conftest import GUNICORN, MODEL_FILE, ROOT, running

from serving.web.settings import BadSetting, Settings, from_environment, variable


def test_every_setting_is_documented_with_its_default():
    page = (ROOT / "docs/operation.md").read_text()
    for name, value in msgspec.structs.asdict(Settings()).items():
        default = f"{value:,}" if type(value) is int else {"": "none", False: "0"}.get(value, value)
        assert f"| `{variable(name)}` | {default} |" in page


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SERVING_MAX_JSON_BYTES": "10 MB"}, "SERVING_MAX_JSON_BYTES is '10 MB'; it must be a whole number"),
        ({"SERVING_MAX_RECORDS": "1.5"}, "SERVING_MAX_RECORDS is '1.5'; it must be a whole number"),
        ({"SERVING_REQUIRE_KEY": "maybe"}, "SERVING_REQUIRE_KEY is 'maybe'; it must be 1 or 0"),
    ],
)
def test_a_bad_setting_is_named(environment, said):
    with pytest.raises(BadSetting, match=said):
        from_environment(environment)
    done = subprocess.run(
        [sys.executable, "-c", "import predict"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, f"predict.py: {said}\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CHURN_API_KEYS", "SERVING_API_KEYS"),
        ("CHURN_API_KEYS_FILE", "SERVING_API_KEYS_FILE"),
        ("CHURN_API_KEY", "SERVING_API_KEY"),
        ("CHURN_MAX_JSON_BYTES", "SERVING_MAX_JSON_BYTES"),
        ("CHURN_MODEL", "SERVING_MODEL"),
        ("CHURN_REQUIRE_KEY", "SERVING_REQUIRE_KEY"),
        ("CHURN_MAX_CUSTOMERS", "SERVING_MAX_RECORDS"),
        ("CHURN_MAX_CSV_BYTES", "SERVING_MAX_TABLE_BYTES"),
    ],
)
def test_a_variable_of_the_old_names_stops_the_start_and_names_its_successor(old, new):
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "predict:app", "--bind", "127.0.0.1:0"],
        cwd=ROOT,
        env={old: ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"predict.py: {old} is now called {new}; set that one instead\n")


def test_what_is_empty_is_not_set():
    assert from_environment({"SERVING_MAX_RECORDS": "", "SERVING_MODEL": ""}) == Settings()


@pytest.fixture(scope="module")
def small():
    """A service with small limits."""
    limits = {"SERVING_MAX_JSON_BYTES": "5000", "SERVING_MAX_TABLE_BYTES": "5000", "SERVING_MAX_RECORDS": "2"}
    with running(GUNICORN, **limits) as service:
        yield service


def test_what_is_too_large_is_a_413(small, customer):
    assert small.predict([customer, customer]).status == 200
    for body, content_type, said in (
        (b" " * 5001, "application/json", "A JSON body can have 5,000 bytes (SERVING_MAX_JSON_BYTES)"),
        (msgspec.json.encode([customer] * 3), "application/json", "An array can have 2 customers"),
        (b"a,b\n" + b"1,2\n" * 2000, "text/csv", "A table can have 5,000 bytes (SERVING_MAX_TABLE_BYTES)"),
    ):
        answer = small.predict(body, content_type)
        assert (answer.status, answer.headers["content-type"]) == (413, "application/problem+json")
        assert said in answer.json["detail"]
    assert small.predict(customer).status == 200


def test_the_model_file_may_be_named_from_the_services_folder(customer):
    with running(GUNICORN, SERVING_MODEL=MODEL_FILE.name) as service:
        assert service.get("/model").json["file"] == MODEL_FILE.name
