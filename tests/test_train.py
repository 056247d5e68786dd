"""`python train.py` as a user runs it."""

import io
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MODEL_FILE, ROOT

from serving import whole_file
from serving.errors import BadTable
from serving.training import any_table, fitting, table, telecom
from serving.training.any_table import Asked


def train(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "train.py", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """A model trained on the packaged table, and what was printed."""
    folder = tmp_path_factory.mktemp("trained")
    done = train(cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no convergence warning
    return folder / "model_C=1.0.bin", done.stdout


def test_it_prints_what_the_course_prints(trained):
    _, printed = trained
    lines = printed.splitlines()
    assert lines[0] == "doing validation with C=1.0"
    assert [line.split(" is ")[0] for line in lines[1:6]] == [f"auc on fold {fold}" for fold in range(5)]
    assert lines[6:9] == ["validation results:", "C=1.0 0.842 +- 0.007", "training the final model"]
    assert lines[9].startswith("auc=0.858")
    assert lines[10:] == ["the model is saved to model_C=1.0.bin"]


def test_the_csv_gives_the_same_bytes_as_the_packaged_table(trained, published_csv, tmp_path):
    assert train(published_csv, "--output", tmp_path / "m.bin").returncode == 0
    assert (tmp_path / "m.bin").read_bytes() == trained[0].read_bytes()


def test_the_lower_case_csv_gives_the_same_bytes_with_no_other_columns(trained, published, tmp_path):
    lower = published.rename(columns=str.lower).apply(lambda column: column.str.lower().str.replace(" ", "_"))
    del lower["customerid"]
    lower.to_csv(tmp_path / "lower.csv", index=False)
    assert train(tmp_path / "lower.csv", "--output", tmp_path / "m.bin").returncode == 0
    assert (tmp_path / "m.bin").read_bytes() == trained[0].read_bytes()


def test_columns_that_the_telecom_company_has_not_are_named(published, tmp_path):
    published.assign(Region="north", **{"Tariff 2": 1}).to_csv(tmp_path / "table.csv", index=False)
    found, said = any_table.read(tmp_path / "table.csv", Asked())
    named = "left out, since the telecom company has no such columns: Region, Tariff 2"
    assert said == ["7,043 rows", f"{named} (--keep Region trains on them too)"]
    assert found == telecom.of_text(table.of_frame(published))


def test_the_committed_model_is_the_one_that_training_gives(trained, pair):
    # Not byte by byte: another processor's linear algebra rounds differently.
    vectorizer, classifier = pickle.loads(trained[0].read_bytes())
    assert vectorizer.feature_names_ == pair[0].feature_names_
    assert classifier.coef_[0] == pytest.approx(pair[1].coef_[0], abs=1e-9)
    assert classifier.intercept_ == pytest.approx(pair[1].intercept_, abs=1e-9)


def test_scikit_learn_alone_reads_the_model():
    code = f"""
import pickle, sys
sys.path = [folder for folder in sys.path if folder]
dv, model = pickle.load(open({str(MODEL_FILE)!r}, "rb"))
print(type(dv).__name__, type(model).__name__, [name for name in sys.modules if name.startswith("churn")])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["DictVectorizer", "LogisticRegression", "[]"]


def test_another_c_names_another_file(tmp_path):
    done = train("--C", "0.5", cwd=tmp_path)
    assert "C=0.5 0.8" in done.stdout
    assert (tmp_path / "model_C=0.5.bin").exists()


def test_a_training_that_is_stopped_says_so_in_one_line(tmp_path):
    command = [sys.executable, "-u", ROOT / "train.py"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "doing validation with C=1.0\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "train.py: stopped\n")
    assert [*tmp_path.iterdir()] == []


def changed(published, row, column, value):
    frame = published.head(200).copy()
    frame.loc[row, column] = value
    return frame


BAD_TABLES = {
    "no churn column": (lambda t: t.drop(columns=["Churn"]), "it has no column churn: say which holds the answer with"),
    "an unknown category": (lambda t: changed(t, 3, "Contract", "Weekly"), 'row 5, contract: the text "Weekly"'),
    "an unknown churn": (
        lambda t: changed(t, 3, "Churn", "perhaps"),
        "churn has 3 values: no (150), yes (49), perhaps (1); say which",
    ),
    "text for a number": (lambda t: changed(t, 0, "tenure", "two"), 'row 2, tenure: the text "two"'),
    "a negative number": (lambda t: changed(t, 0, "MonthlyCharges", "-1"), 'row 2, monthlycharges: the text "-1"'),
    "no number": (lambda t: changed(t, 0, "MonthlyCharges", "nan"), 'row 2, monthlycharges: the text "nan"'),
    "a blank number": (lambda t: changed(t, 0, "MonthlyCharges", ""), "row 2, monthlycharges"),
    "no rows": (lambda t: t.head(0), "no rows"),
    "only one class": (lambda t: t[t["Churn"] == "No"], "churn is no in every row"),
    "too few rows": (lambda t: t.head(9), "it has 9 rows: too few to train on"),
    "too few leavers": (lambda t: t.drop(t.index[t["Churn"] == "Yes"][1:]), "too few"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_leaves_the_old_model(published, refused, case):
    spoil, said = BAD_TABLES[case]
    spoil(published).to_csv("table.csv", index=False)
    refused("table.csv", said=said)


def test_a_data_frames_rows_are_counted_as_a_files(published):
    with pytest.raises(BadTable, match=r"^row 5, contract: "):
        telecom.of_text(table.of_frame(changed(published, 3, "Contract", "Weekly")))


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_an_error_names_the_row_as_the_file_counts_it(published, refused, kind):
    frame = changed(published, 3, "Contract", "Weekly")
    if kind == "csv":
        lines = frame.to_csv(index=False).replace("0001-MADEUP", '"0001\n\nMADEUP"').splitlines()
        Path("table.csv").write_text("\n".join(["", "", *lines[:2], "", *lines[2:]]))
        refused("table.csv", said="row 10, contract")  # the header is line 3, and one customer has three
    else:
        file = io.BytesIO()
        frame.to_excel(file, index=False, startrow=4, engine="openpyxl")
        Path("table.csv").write_bytes(file.getvalue())
        refused("table.csv", said="row 9, contract")


def test_a_refusal_is_one_line_and_exit_status_1(tmp_path):
    done = train("nowhere.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "train.py: nowhere.csv: No such file or directory\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (MODEL_FILE.read_bytes(), "it is no text"),
        (b"", "it is empty"),
        (b"a,b\n1,2,3\n1,2,3,4\n", "row 2: it has 3 cells, and the header 2"),
    ],
)
def test_what_is_not_a_table_is_refused(refused, content, said):
    Path("table.csv").write_bytes(content)
    refused("table.csv", said=said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.csv"], "nowhere.csv: No such file"),
        (["."], "Is a directory"),
        (["--C", "0"], "0 is not a number above 0"),
        (["--C", "-1"], "above 0"),
        (["--C", "inf"], "above 0"),
        (["--C", "much"], "above 0"),
        (["--target", "status", "--drop", "age"], "the table is missing that --target, --drop says something of"),
        (["--threshold", "0"], "the table is missing that --threshold says"),
        (["--describe", "--schema", "s.json"], "the table is missing that --schema says"),
        (["--output", "nowhere/model.bin"], "nowhere/model.bin: cannot be written: No such file"),
        (["--output", "."], ".: cannot be written: it is a folder"),
        (["--output", os.devnull], f"{os.devnull}: cannot be written: it is no regular file"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_fitted(refused, monkeypatch, arguments, said):
    monkeypatch.setattr(fitting, "prepare", None)
    refused(*arguments, said=said)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_symbolic_link_stays_one_and_its_file_is_written(tmp_path, is_there):
    file, link = tmp_path / "models" / "m.bin", tmp_path / "m.bin"
    file.parent.mkdir()
    if is_there:
        file.write_bytes(b"old")
    link.symlink_to("models/m.bin")
    whole_file.write(link, b"new")
    assert link.is_symlink()
    assert [*file.parent.iterdir()] == [file]
    assert file.read_bytes() == b"new"


def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="cannot be written: it is no regular file"):
        whole_file.write(tmp_path / "pipe", b"new")
    assert (tmp_path / "pipe").is_fifo()
