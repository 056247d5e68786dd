"""Two models compared by `python -m serving.compare`, held to pandas and scikit-learn."""

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MODEL_FILE, read, run
from sklearn.metrics import log_loss, roc_auc_score

from serving.compare import comparison

ROWS = 1500


@pytest.fixture(scope="module")
def files(published, tmp_path_factory) -> dict[str, Path]:
    """The real table's last rows, and models that were trained on the others or on all of them."""
    folder = tmp_path_factory.mktemp("compared")
    found = {name: folder / f"{name}.bin" for name in ("logistic", "weak", "forest", "less")}
    table = folder / "table.csv"
    published.tail(ROWS).to_csv(table, index=False)
    training = folder / "training.csv"
    published.head(len(published) - ROWS).to_csv(training, index=False)
    plain = [str(training), "--target", "churn"]
    for name, words in {
        "logistic": [],
        "weak": ["--C", "0.00001"],
        "forest": ["--model", "forest"],
        "less": ["--drop", "tenure", "--id", "customerid"],
    }.items():
        done = run("train.py", *plain, *words, "--output", str(found[name]))
        assert done.returncode == 0, done.stderr
    return found | {"table": table}


def compared(files, old: str, new: str, *words: str):
    done = run("-m", "serving.compare", str(files[old]), str(files[new]), str(files["table"]), *words)
    assert "Traceback" not in done.stderr
    return done


def scikit_learns(file: Path, table: Path) -> np.ndarray:
    """A model's probabilities by scikit-learn alone."""
    vectorizer, classifier = pickle.loads(file.read_bytes())
    frame = pd.read_csv(table, dtype=str)
    frame.columns = frame.columns.str.lower()
    frame = frame.apply(lambda column: column.str.strip().str.lower().str.replace(" ", "_"))
    for name in ("seniorcitizen", "tenure", "monthlycharges", "totalcharges"):
        frame[name] = frame[name].replace("", "0").fillna("0").astype(float)
    return classifier.predict_proba(vectorizer.transform(frame.to_dict("records")))[:, 1]


@pytest.mark.parametrize(
    ("old", "new", "status", "said"),
    [
        ("logistic", "logistic", 0, "the new model can take the old one's place"),
        ("logistic", "weak", 2, "it is worse"),
        ("weak", "logistic", 0, "the new model can take the old one's place"),
        ("weak", "forest", 0, "the new model can take the old one's place"),
        ("logistic", "less", 2, "it is worse"),
        ("less", "logistic", 1, "callers would break: tenure must be there"),
    ],
)
def test_the_exit_status_says_whether_the_new_can_take_the_place_of_the_old(files, old, new, status, said):
    done = compared(files, old, new)
    assert (done.returncode, said in done.stdout) == (status, True), done.stdout


def test_the_lists_are_those_of_pandas(files, tmp_path):
    report = tmp_path / "compare.html"
    done = compared(files, "logistic", "forest", "--report", str(report))
    frame = pd.read_csv(files["table"], dtype=str)
    frame["old"], frame["new"] = (scikit_learns(files[name], files["table"]) for name in ("logistic", "forest"))
    enter = frame[(frame["old"] < 0.5) & (frame["new"] >= 0.5)].sort_values("new", ascending=False)
    leave = frame[(frame["old"] >= 0.5) & (frame["new"] < 0.5)].sort_values("new", ascending=False)
    assert f"{len(enter)} enter the list, {len(leave)} leave it" in done.stdout
    page = report.read_text()
    for title, expected in (("On the list from now on", enter), ("On the list no more", leave)):
        part = page.partition(f"<summary>{title}: {len(expected)}</summary>")[2].partition("</details>")[0]
        rows = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)%</td><td>(.*?)%</td>', part)
        assert sorted(rows) == sorted(
            (row.customerID, f"{100 * row.old:.1f}", f"{100 * row.new:.1f}") for row in expected.itertuples()
        )
    largest = frame.loc[(frame["new"] - frame["old"]).abs().sort_values(ascending=False).index[:10], "customerID"]
    part = page.partition('<h2 id="largest">')[2]
    assert re.findall(r'<th scope="row">(.*?)</th>', part) == [*largest]
    assert len(re.findall(r'<td class="words">[^<]*: [^<]* [+-]\d\.\d\d</td>', part)) == 20


def test_the_measures_and_their_intervals_are_scikit_learns(files):
    answers = pd.read_csv(files["table"])["Churn"] == "Yes"
    both = [scikit_learns(files[name], files["table"]) for name in ("logistic", "forest")]
    chosen = int((both[0] >= 0.5).sum())

    def figures(rows) -> np.ndarray:
        """New less old: AUC, log loss, calibration, and yes among the most probable."""
        of_each = []
        for scores in both:
            most = np.argsort(-scores, kind="stable")
            tenth = np.empty(len(scores), dtype=int)
            tenth[most] = np.arange(len(scores)) * 10 // len(scores)
            off = scores - answers.to_numpy()
            calibration = sum(abs(off[rows][tenth[rows] == each].sum()) for each in range(10)) / len(rows)
            ordered = rows[np.argsort(np.argsort(most)[rows], kind="stable")]
            yes = answers.to_numpy()[ordered[:chosen]].sum()
            auc = roc_auc_score(answers.to_numpy()[rows], scores[rows])
            of_each.append([auc, log_loss(answers.to_numpy()[rows], scores[rows]), calibration, yes])
        return np.subtract(of_each[1], of_each[0])

    found = comparison.compare(read(files["logistic"]), read(files["forest"]), files["table"])
    difference = [each.new - each.old for each in found.measures]
    assert difference == pytest.approx(figures(np.arange(ROWS)), abs=1e-9)
    assert found.measures[0].old == pytest.approx(roc_auc_score(answers, both[0]), abs=1e-12)
    assert found.measures[1].new == pytest.approx(log_loss(answers, both[1]), abs=1e-12)
    random = np.random.default_rng(1)
    samples = np.array([figures(random.integers(0, ROWS, ROWS)) for _ in range(1000)])
    low, high = np.percentile(samples, (2.5, 97.5), axis=0)
    assert [each.low for each in found.measures] == pytest.approx(low, abs=1e-9)
    assert [each.high for each in found.measures] == pytest.approx(high, abs=1e-9)


def test_the_same_models_and_table_give_the_same_bytes(files, tmp_path):
    pages = []
    for _ in range(2):
        done = compared(files, "logistic", "less", "--report", str(tmp_path / "compare.html"))
        pages.append((done.stdout, (tmp_path / "compare.html").read_bytes()))
    assert pages[0] == pages[1]


def test_rows_that_one_model_refuses_or_without_an_answer_are_left_out(files, tmp_path):
    frame = pd.read_csv(files["table"], dtype=str)
    frame.loc[0, "Contract"] = "weekly"
    frame.loc[1, "Churn"] = ""
    frame.loc[2, "tenure"] = "long"  # which only one of the models asks about
    frame.to_csv(tmp_path / "table.csv", index=False)
    done = compared(files | {"table": tmp_path / "table.csv"}, "logistic", "less")
    assert f"compared on {ROWS - 3:,} records; 3 records that one of the models refuses" in done.stdout


def test_without_answers_only_the_decisions_are_compared(files, tmp_path):
    pd.read_csv(files["table"], dtype=str).drop(columns="Churn").to_csv(tmp_path / "table.csv", index=False)
    done = compared(files | {"table": tmp_path / "table.csv"}, "logistic", "weak")
    assert done.returncode == 0
    assert "it is not known which is better" in done.stdout
    assert "AUC" not in done.stdout
    assert "leave it" in done.stdout


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        ({"new": Path("none.bin")}, [], "none.bin: No such file"),
        ({"new": Path("Makefile")}, [], "Makefile: "),
        ({"table": Path("none.csv")}, [], "none.csv: No such file"),
        ({"table": Path("Makefile")}, [], "Makefile: "),
        ({}, ["--target", "left"], "it lacks the column left"),
        ({}, ["--target", "Contract"], "say which are a yes with --positive"),
        ({}, ["--targett"], "unrecognized arguments"),
    ],
)
def test_what_cannot_be_compared_has_a_status_of_its_own(files, change, words, said):
    done = compared(files | {"new": MODEL_FILE} | change, "logistic", "new", *words)
    assert done.returncode == 3
    assert said in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("serving.compare: ")


def test_the_answers_can_be_in_another_column_and_other_words(files, tmp_path):
    frame = pd.read_csv(files["table"], dtype=str)
    frame["Left"] = frame.pop("Churn").map({"Yes": "gone", "No": "here"})
    frame.to_csv(tmp_path / "table.csv", index=False)
    same = compared(files, "logistic", "weak").stdout.splitlines()[2]
    done = compared(
        files | {"table": tmp_path / "table.csv"}, "logistic", "weak", "--target", "left", "--positive", "gone"
    )
    assert done.stdout.splitlines()[2] == same
