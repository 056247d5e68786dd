"""GET /openapi.json and GET /docs: the description is valid, complete, and true."""

import copy
import csv
import errno
import io
import os
import re
import subprocess
import sys

import pytest
from conftest import GUNICORN, MODEL_FILE, ROOT, SEED, Service, read, running
from openapi_spec_validator import validate

import predict
from serving.model import trial
from serving.model.base import About
from serving.prediction import Predictor
from serving.records import ZERO
from serving.tables import scored as table
from serving.training.telecom import SCHEMA
from serving.web import examples
from serving.web.examples import DISK_FULL, NOT_ALWAYS, TOO_LARGE, UNHEALTHY, WITH_KEYS, WITHOUT_KEYS
from serving.web.settings import Settings

PREDICTOR = Predictor(read(MODEL_FILE))
ALWAYS = examples.always(PREDICTOR)
DOCUMENT = predict.app.test_client().get("/openapi.json").json

# Pages are for people, and their files belong to them.
PAGES = {"/", "/docs", "/docs/<path:file>", "/static/<path:filename>"}


def test_the_description_is_valid_openapi(service: Service):
    answer = service.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["openapi"].startswith("3.1")
    validate(answer.json)


def test_every_route_is_described_with_its_method():
    routes = {
        (rule.rule, method.lower())
        for rule in predict.app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule not in PAGES
    }
    described = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == routes


def test_the_record_described_is_that_of_the_schema():
    described = DOCUMENT["components"]["schemas"]["Record"]
    assert described["required"] == [*SEED]
    for field in SCHEMA.fields:
        if field.is_category:
            assert set(described["properties"][field.name]["enum"]) == set(field.values)
    assert described["properties"]["tenure"] == {
        "title": "Tenure, in months",
        "type": "integer",
        "minimum": 0,
        "maximum": 2**53 - 1,
    }
    assert {"type": "null"} in described["properties"]["totalcharges"]["anyOf"]


def test_an_example_is_shown_with_its_request_and_its_answer():
    described = DOCUMENT["paths"]["/predict"]["post"]
    for media_type, name in (("application/json", "several"), ("text/csv", "table")):
        assert name in described["requestBody"]["content"][media_type]["examples"]
        assert name in described["responses"]["200"]["content"][media_type]["examples"]


def without_id(found):
    """An answer without the id of its request, which is another each time."""
    if isinstance(found, dict):
        found.pop("request_id", None)
    return found


def test_every_described_status_has_an_example():
    paths = DOCUMENT["paths"]
    described = {
        (path, int(status)) for path, item in paths.items() for each in item.values() for status in each["responses"]
    }
    shown = {(example.path.partition("?")[0], example.status) for example in [*ALWAYS, *NOT_ALWAYS]}
    assert described == shown


# What the example's customer was told before its answers were made by the model that is served.
SHARES = {
    "totalcharges": -0.537531865,
    "internetservice": -0.522234680,
    "tenure": 0.513662654,
    "contract": 0.468186059,
    "monthlycharges": 0.392387151,
    "paymentmethod": 0.213138980,
    "onlinesecurity": 0.175870249,
    "techsupport": 0.165111209,
    "paperlessbilling": 0.133691076,
    "streamingmovies": -0.128870820,
    "phoneservice": 0.095504150,
    "multiplelines": 0.079470729,
    "streamingtv": -0.074253492,
    "deviceprotection": 0.062780243,
    "seniorcitizen": -0.031142488,
    "onlinebackup": -0.025403859,
    "dependents": 0.018861880,
    "partner": 0.017255296,
    "gender": 0.014983215,
}


def test_the_examples_of_the_committed_model_say_what_it_is_known_to_say():
    answers = copy.deepcopy({example.name: example.answer for example in ALWAYS})
    stays = {"churn_probability": pytest.approx(0.33906403093358023, abs=1e-9), "churn": False}
    assert answers["one"] == stays
    assert answers["several"] == [stays, stays | {"customerid": "xyz-123"}]
    reasons = answers["explained"].pop("reasons")
    assert answers["explained"].pop("reasons_unit") == "log-odds"
    assert answers["explained"] == stays
    assert [(each["field"], each["value"]) for each in reasons] == [(name, SEED[name]) for name in SHARES]
    assert [each["share"] for each in reasons] == pytest.approx([*SHARES.values()], abs=1e-9)
    assert answers["invalid"]["errors"] == [
        {
            "index": 0,
            "field": "gender",
            "message": 'the text "no such value" is not one of the allowed values',
            "allowed": ["female", "male"],
        }
    ]
    header, good, bad = csv.reader(io.StringIO(answers["table"]))
    assert header == [*SEED, "churn_probability", "churn", "note", "error"]
    assert good[:19] == [str(value) for value in SEED.values()]
    assert float(good[19]) == pytest.approx(0.33906403093358023, abs=1e-9)
    assert good[20:] == ["false", "", ""]
    assert bad[19:] == ["", "", "", 'gender: the text "no such value" is not one of the allowed values']


@pytest.mark.parametrize("example", ALWAYS, ids=lambda example: f"{example.path[1:]}-{example.name}")
def test_an_example_gets_the_answer_that_is_shown(service: Service, example):
    headers = {"Content-Type": example.content_type} if example.content_type else {}
    answer = service.request(example.method, example.path, example.body, headers)
    assert answer.status == example.status
    if example.answer is not None:
        found = answer.body.decode() if answer.headers["content-type"].startswith("text/") else answer.json
        assert rounded(without_id(found)) == rounded(example.answer)


def test_the_example_of_a_model_that_does_not_score(monkeypatch):
    class Broken:
        about = About("model.bin", "0" * 64, "LogisticRegression", None)
        schema = SCHEMA
        absent = ZERO

        def probabilities(self, columns):
            raise ArithmeticError

    monkeypatch.setattr(trial, "read", lambda files, schema: Broken())
    answer = predict.create_app(Settings()).test_client().get(UNHEALTHY.path)
    assert (answer.status_code, without_id(answer.json)) == (UNHEALTHY.status, UNHEALTHY.answer)


@pytest.mark.parametrize(
    ("example", "settings"),
    [
        *((example, Settings(api_keys="4d0fa1")) for example in WITH_KEYS),
        *((example, Settings(require_key=True)) for example in WITHOUT_KEYS),
    ],
    ids=lambda value: f"{value.path}-{value.name}" if hasattr(value, "path") else "",
)
def test_the_examples_of_a_service_with_keys(example, settings):
    client = predict.create_app(settings).test_client()
    answer = client.open(example.path, method=example.method, data=example.body, content_type=example.content_type)
    assert (answer.status_code, without_id(answer.json)) == (example.status, example.answer)


def test_the_example_of_a_body_that_is_too_large():
    # In process: a server refuses it unread, and then it is chance whether the client reads the answer.
    body = b" " * (Settings().max_json_bytes + 1)
    answer = predict.app.test_client().post(TOO_LARGE.path, data=body, content_type=TOO_LARGE.content_type)
    assert (answer.status_code, without_id(answer.json)) == (TOO_LARGE.status, TOO_LARGE.answer)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT])
def test_the_example_of_a_full_disk(number, monkeypatch):
    def disk_full(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(table, "score", disk_full)
    answer = predict.app.test_client().post(DISK_FULL.path, data=DISK_FULL.body, content_type=DISK_FULL.content_type)
    assert (answer.status_code, without_id(answer.json)) == (DISK_FULL.status, DISK_FULL.answer)


def rounded(value):
    """A decoded answer with its numbers to nine places, since the last ones depend on the machine."""
    match value:
        case dict():
            return {key: rounded(each) for key, each in value.items()}
        case list():
            return [rounded(each) for each in value]
        case float():
            return round(value, 9)
        case str():
            return re.sub(r"\d+\.\d{9,}", lambda number: str(round(float(number[0]), 9)), value)
    return value


def test_schemathesis_finds_no_difference_between_description_and_service():
    with running(GUNICORN) as service:
        schemathesis = [sys.executable, "-m", "schemathesis.cli", "run", "--max-examples", "100", "--seed", "1"]
        done = subprocess.run(
            [*schemathesis, f"{service.url}/openapi.json"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": ".:tests", "SCHEMATHESIS_HOOKS": "fuzz_tables"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_docs_page_loads_its_files_from_here(service: Service):
    page = service.get("/docs")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for file in ("/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/static/docs.js"):
        assert service.get(file).status == 200
    assert service.get("/docs/no-such-file.js").status == 404
