"""Model files of strangers, with the answers of their own libraries. They lie beside the project, or not at all."""

import contextlib
import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import GUNICORN, ROOT, Running, probabilities, read, running
from openapi_spec_validator import validate

from serving.errors import InvalidRecords

MODELS = ROOT.parent / "shared" / "models"

ENTRIES = {file.parent.name: json.loads(file.read_text()) for file in sorted(MODELS.glob("*/entry.json"))}
NAMES = [*ENTRIES]

pytestmark = pytest.mark.skipif(not NAMES, reason=f"there are no model files in {MODELS}")


def files(name: str) -> list[Path]:
    return [MODELS / name / file for file in ENTRIES[name]["files"]]


@contextlib.contextmanager
def serving(name: str, **settings: str) -> Iterator[Running]:
    with running([*GUNICORN, "--workers", "1"], SERVING_MODEL=",".join(map(str, files(name))), **settings) as service:
        yield service


def as_csv(records: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, [*records[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_linear_model_is_served_described_and_shown(name):
    entry = ENTRIES[name]
    records, expected, tolerance = entry["records"], entry["probabilities"], entry["tolerance"]
    with serving(name) as service:
        alone = [service.predict(record).json["churn_probability"] for record in records]
        assert alone == pytest.approx(expected, abs=tolerance)
        array = service.predict(records).json
        assert [each["churn_probability"] for each in array] == alone
        assert not any("unusual" in each for each in array)
        answer = service.predict(as_csv(records), "text/csv")
        rows = [*csv.DictReader(io.StringIO(answer.body.decode()))]
        assert {row["error"] + row["note"] for row in rows} == {""}
        assert [float(row["churn_probability"]) for row in rows] == alone

        if request := entry.get("request"):
            wrong = {*entry.get("request_missing", ()), *entry.get("request_unseen", ())}
            answer = service.predict(request)
            if wrong:
                assert answer.status == 422
                assert {error["field"] for error in answer.json["errors"]} == wrong
            else:
                assert answer.json["churn_probability"] == pytest.approx(entry["request_probability"], abs=tolerance)

        described = service.get("/openapi.json").json
        validate(described)
        assert described["components"]["schemas"]["Record"]["properties"].keys() == entry["fields"].keys()
        assert service.get("/docs").status == service.get("/").status == service.get("/metrics").status == 200
        smoke = [sys.executable, "predict-test.py", "--example", "--url", service.url]
        done = subprocess.run(smoke, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_leniently_it_answers_as_scikit_learn_does(name):
    entry, model = ENTRIES[name], read(*files(name))
    asked = [*entry["edge_records"], *([entry["request"]] if "request" in entry else [])]
    expected = [*entry["edge_probabilities"], *([entry["request_probability"]] if "request" in entry else [])]
    assert probabilities(model, asked, lenient=True) == pytest.approx(expected, abs=entry["tolerance"])
    with pytest.raises(InvalidRecords):
        probabilities(model, entry["edge_records"])


def test_a_lenient_service_says_what_it_ignored():
    entry = ENTRIES["credit-default-linear"]
    with serving("credit-default-linear", SERVING_LENIENT="1") as service:
        answer = service.predict(entry["request"]).json
        assert answer["churn_probability"] == pytest.approx(entry["request_probability"], abs=1e-12)
        assert answer["unusual"] == ["pay_5"]
        rows = [*csv.DictReader(io.StringIO(service.predict(as_csv([entry["request"]]), "text/csv").body.decode()))]
        assert rows[0]["note"] == "unusual: pay_5"
        assert float(rows[0]["churn_probability"]) == answer["churn_probability"]
        assert 'serving_unusual_fields_total{field="pay_5"} 2.0' in service.get("/metrics").body.decode()


def test_they_are_served_without_scikit_learn_and_pandas():
    code = "import sys, predict; print(sorted({'sklearn', 'scipy', 'pandas', 'numpy'} & sys.modules.keys()))"
    for name in NAMES:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PATH": "", "SERVING_MODEL": ",".join(map(str, files(name)))},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == "[]"
