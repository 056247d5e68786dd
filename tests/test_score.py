"""Tables beyond one service, file by file: `python -m serving.score` as a user runs it, on this machine's cores."""

import contextlib
import gzip
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import MODEL_FILE, ROOT, InProcess, children, free_port, run, wait_until

import predict

distributed = pytest.importorskip("distributed", reason="install it with: pipenv sync --categories score")
fsspec = pytest.importorskip("fsspec")
parquet = pytest.importorskip("pyarrow.parquet")

from serving.model import trial  # noqa: E402 (what these need may be missing)
from serving.score import places, work  # noqa: E402

BAD_ROWS = [3, 1200]


def score(*words: str | Path, **environment: str) -> subprocess.CompletedProcess:
    return run("-m", "serving.score", *map(str, words), **environment)


def served(table: bytes, content_type: str = "text/csv") -> bytes:
    """What the service answers."""
    answer = InProcess(predict.app.test_client()).predict(table, content_type)
    assert answer.status == 200, answer.body
    return answer.body


@contextlib.contextmanager
def own_cluster(output: places.Output) -> Iterator[distributed.Client]:
    """A cluster whose workers are threads of this process, and have the model."""
    with (
        distributed.Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client,
        work.model_on_workers(client, trial.tried([MODEL_FILE]), False, output.run),
    ):
        yield client


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def frame(published) -> pd.DataFrame:
    """The table with two rows that are no customers, and a number that is unusual."""
    frame = published.copy()
    frame.loc[BAD_ROWS, "Contract"] = ["for life", "Two years"]
    frame.loc[7, "MonthlyCharges"] = "11885.0"
    return frame


@pytest.fixture(scope="module")
def numbers(frame) -> pd.DataFrame:
    """The same with numbers where they are numbers, and nothing where there is none."""
    frame = frame.copy()
    frame["TotalCharges"] = pd.to_numeric(frame["TotalCharges"].str.strip())
    frame["MonthlyCharges"] = pd.to_numeric(frame["MonthlyCharges"])
    for column in ("tenure", "SeniorCitizen"):
        frame[column] = frame[column].astype("int64")
    return frame


@pytest.fixture(scope="module")
def tables(frame, numbers, tmp_path_factory) -> Path:
    """The table in six parts, each written differently, and as one Parquet file."""
    folder = tmp_path_factory.mktemp("tables")
    frame[:2000].to_csv(folder / "comma.csv", index=False)
    frame[2000:3000].to_csv(folder / "semicolon.csv", sep=";", decimal=",", index=False)
    frame[3000:4000].to_csv(folder / "tabs.tsv", sep="\t", encoding="utf-16", index=False)
    frame[4000:4500].to_excel(folder / "excel.xlsx", index=False)
    frame[4500:6000].to_csv(folder / "packed.csv.gz", index=False)
    frame[6000:].to_csv(folder / "no-suffix", index=False)
    numbers.to_parquet(folder / "all.parquet", index=False)
    return folder


@pytest.fixture(scope="module")
def output(tables, tmp_path_factory) -> Path:
    """The folder with the scores of all parts."""
    folder = tmp_path_factory.mktemp("output") / "made" / "by it"
    done = score(tables / "*", "--output", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("parts: 7 scored, 0 skipped, 0 failed\nrows: 14,086, 4 of them bad; in ")
    return folder


def test_a_part_is_to_the_byte_what_the_service_answers(tables, output):
    assert names(output) == [
        *("all.parquet", "comma.csv", "excel.csv", "no-suffix.csv", "packed.csv", "semicolon.csv", "tabs.csv")
    ]
    for name in ("comma.csv", "semicolon.csv", "tabs.tsv", "no-suffix"):
        assert (output / name).with_suffix(".csv").read_bytes() == served((tables / name).read_bytes())
    excel = (tables / "excel.xlsx").read_bytes()
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    assert (output / "excel.csv").read_bytes() == served(excel, kind)
    assert (output / "packed.csv").read_bytes() == served(gzip.decompress((tables / "packed.csv.gz").read_bytes()))


def test_a_parquet_file_keeps_its_types_and_gets_the_same_scores(frame, numbers, output, tmp_path):
    scored = pd.read_parquet(output / "all.parquet")
    pd.testing.assert_frame_equal(scored[numbers.columns], numbers)
    assert [*scored.columns[-4:]] == ["churn_probability", "churn", "note", "error"]
    frame.to_csv(tmp_path / "all.csv", index=False)
    (tmp_path / "scored.csv").write_bytes(served((tmp_path / "all.csv").read_bytes()))
    expected = pd.read_csv(tmp_path / "scored.csv")
    # By the very numbers: what is written is read back.
    assert scored["churn_probability"].equals(expected["churn_probability"])
    assert scored["churn"].dropna().tolist() == expected["churn"].dropna().tolist()
    for column in ("note", "error"):
        assert scored[column].fillna("").tolist() == expected[column].fillna("").tolist()


def test_bad_rows_keep_their_place(output):
    scored = pd.read_parquet(output / "all.parquet")
    assert scored.index[scored["error"].notna()].tolist() == BAD_ROWS
    assert scored.loc[BAD_ROWS, ["churn_probability", "churn"]].isna().all(axis=None)
    assert scored["error"][3].startswith('contract: the text "for life" is not one of the allowed values')
    assert scored["note"][7] == "unusual: monthlycharges"


def test_a_second_run_makes_what_is_missing_and_leaves_the_rest(tables, tmp_path):
    words = (tables / "comma.csv", f"file://{tables}/semi*.csv", "--output", f"file://{tmp_path}/out", "--workers", "1")
    assert "parts: 2 scored, 0 skipped, 0 failed" in score(*words).stdout
    kept, made = tmp_path / "out" / "comma.csv", tmp_path / "out" / "semicolon.csv"
    before, expected = kept.stat().st_mtime_ns, made.read_bytes()
    made.unlink()
    assert "parts: 1 scored, 1 skipped, 0 failed" in score(*words).stdout
    assert kept.stat().st_mtime_ns == before
    assert made.read_bytes() == expected
    assert score(*words).stdout.startswith("parts: 0 scored, 2 skipped, 0 failed")


def test_a_part_that_is_no_table_is_named_at_the_end_and_the_others_are_scored(tables, frame, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "empty.csv").write_text("")
    (folder / "picture.csv").write_bytes(b"\x89PNG\0\0")
    (folder / "nothing.parquet").write_bytes(b"PAR1 and no more")
    frame[:5].drop(columns="tenure").to_csv(folder / "lacking.csv", index=False)
    frame[:5].drop(columns="tenure").to_parquet(folder / "lacking.parquet")
    frame[:5].assign(tenure=[[1]] * 5).to_parquet(folder / "nested.parquet")
    (folder / "good.csv").write_bytes((tables / "comma.csv").read_bytes())
    done = score(folder / "*", "--output", tmp_path / "out")
    assert done.returncode == 1
    assert done.stdout.startswith("parts: 1 scored, 0 skipped, 6 failed\nrows: 2,000, 2 of them bad")
    reasons = {Path(line.split(": ")[1]).name: line for line in done.stderr.splitlines()}
    assert reasons.keys() == {*names(folder)} - {"good.csv"}
    assert "it is empty" in reasons["empty.csv"]
    assert "it is no text" in reasons["picture.csv"]
    assert "cannot be read as Parquet" in reasons["nothing.parquet"]
    assert "its column tenure holds list<" in reasons["nested.parquet"]
    for name in ("lacking.csv", "lacking.parquet"):
        assert "tenure: the table lacks this column" in reasons[name]
    assert names(tmp_path / "out") == ["good.csv"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{tables}/*.nope", "--output", "{tmp}/out"], "*.nope: there is no such file"),
        (["{tables}", "--output", "{tmp}/out"], "is a folder; name its files, such as"),
        (["{tables}/comma.csv", "{tmp}/comma.tsv", "--output", "{tmp}/out"], "would both become comma.csv"),
        (["{tables}/comma.csv", "--output", "{tables}"], "would be replaced by its own scores"),
        (["{tables}/comma.csv", "--output", "{tmp}/comma.tsv"], "comma.tsv: File exists"),
        (["{tables}/comma.csv", "--output", "nowhere://bucket"], "nowhere://bucket: Protocol not known"),
        (["{tables}/comma.csv", "--output", "{tmp}/out", "--model", "no.bin"], "no.bin: No such file"),
        (["{tables}/comma.csv", "--output", "{tmp}/out", "--model", "README.md"], "README.md: it is not a pickle"),
        (["{tables}/comma.csv", "--output", "{tmp}/out", "--scheduler", "tcp://127.0.0.1:{port}"], "Timed out"),
        (["{tables}/comma.csv", "--output", "{tmp}/out", "--scheduler", "here"], "here: missing port number"),
        (["{tables}/comma.csv", "--output", "{tmp}/out", "--workers", "0"], "0 is not a whole number from 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(tables, tmp_path, words, said):
    (tmp_path / "comma.tsv").write_text("")
    done = score(*(word.format(tables=tables, tmp=tmp_path, port=free_port()) for word in words))
    assert done.returncode in (1, 2)
    line = done.stderr.splitlines()[-1]
    assert "serving.score: " in line
    assert said in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists() or not names(tmp_path / "out")


def test_without_its_packages_it_says_how_to_get_them(tmp_path):
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError(name='distributed')")
    done = score("a.csv", "--output", tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert 'pipenv sync --categories "packages score"' in done.stderr


def test_a_column_of_a_scores_name_stays_and_the_score_gets_another(numbers, tmp_path):
    numbers[:9].assign(churn="yes").to_parquet(tmp_path / "twice.parquet")
    assert score(tmp_path / "*", "--output", tmp_path / "out", "--workers", "1").returncode == 0
    scored = pd.read_parquet(tmp_path / "out" / "twice.parquet")
    assert [*scored.columns[-4:]] == ["churn_probability", "churn_", "note", "error"]
    assert {*scored["churn"]} == {"yes"}


def test_an_object_store_is_read_and_written(tables):
    """One that is this process's own, and so are the workers."""
    store = fsspec.filesystem("memory")
    expected = served((tables / "comma.csv").read_bytes())
    for name in ("a", "b"):
        store.pipe_file(f"/in/{name}.csv", (tables / "comma.csv").read_bytes())
    output = places.Output("memory://out/scores", uuid.uuid4().hex)
    parts = places.parts(["memory://in/*.csv"], output)
    with own_cluster(output) as client:
        done = {part.name: (counted.rows, counted.bad) for part, counted in work.score(client, parts, output)}
    assert done == {"a.csv": (2000, 2), "b.csv": (2000, 2)}
    assert store.ls("/out/scores", detail=False) == ["/out/scores/a.csv", "/out/scores/b.csv"]
    assert store.cat_file("/out/scores/a.csv") == store.cat_file("/out/scores/b.csv") == expected


def test_a_part_is_on_its_disk_before_it_has_its_name(tables, tmp_path, monkeypatch):
    there: list[list[str]] = []
    monkeypatch.setattr(work.os, "fsync", lambda _: there.append(names(tmp_path / "out")))
    output = places.Output(str(tmp_path / "out"), uuid.uuid4().hex)
    parts = places.parts([str(tables / "comma.csv")], output)
    with own_cluster(output) as client:
        assert [counted.rows for _, counted in work.score(client, parts, output)] == [2000]
    [at_once] = there
    assert "comma.csv" not in at_once
    assert names(tmp_path / "out") == ["comma.csv"]


def test_a_cluster_is_sent_the_model_and_keeps_nothing_of_it(tables, tmp_path):
    model = tmp_path / "elsewhere.bin"
    model.write_bytes(MODEL_FILE.read_bytes())
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as cluster:
        plugins = {*cluster.scheduler.worker_plugins}
        words = ("--scheduler", cluster.scheduler_address, "--model", model)
        done = score(tables / "comma.csv", "--output", tmp_path / "out", *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert {*cluster.scheduler.worker_plugins} == plugins
        cluster.scale(0)
        wait_until(lambda: not cluster.scheduler.workers)
        with scoring(tables / "semicolon.csv", "--output", tmp_path / "out", *words) as process:
            assert process.stderr.readline() == "The cluster has no workers yet; waiting for them.\n"
            cluster.scale(1)
            process.communicate(timeout=60)
            assert process.returncode == 0
    for name in ("comma.csv", "semicolon.csv"):
        assert (tmp_path / "out" / name).read_bytes() == served((tables / name).read_bytes())


def test_a_run_that_is_stopped_leaves_nothing_of_the_model_on_the_cluster():
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        before = {*cluster.scheduler.worker_plugins}
        has_model = work.model_on_workers(client, trial.tried([MODEL_FILE]), False, "stopped")
        with contextlib.suppress(KeyboardInterrupt), has_model:
            during = {*cluster.scheduler.worker_plugins}
            raise KeyboardInterrupt
        assert during == {*before, "stopped"}
        assert {*cluster.scheduler.worker_plugins} == before


@contextlib.contextmanager
def scoring(*words: str | Path) -> Iterator[subprocess.Popen]:
    """A run that goes on, as the leader of its processes, which a terminal interrupts together."""
    command = [sys.executable, "-m", "serving.score", *map(str, words)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def workers(pid: int) -> list[int]:
    """The processes that score."""
    return [child for child in children(pid) if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.fixture(scope="module")
def many(published, tmp_path_factory) -> tuple[Path, bytes]:
    """Eight parts of 50,000 rows, and what the service answers to each."""
    folder = tmp_path_factory.mktemp("many")
    table = pd.concat([published] * 8)[:50_000].to_csv(index=False).encode()
    for number in range(8):
        (folder / f"{number}.csv").write_bytes(table)
    return folder, served(table)


def begun(folder: Path) -> Callable[[], bool]:
    """Whether a part is there, and others are under way."""
    return lambda: folder.exists() and any(folder.glob("?.csv")) and any(folder.glob(".?.csv.*"))


def test_a_worker_that_is_killed_loses_no_row_and_leaves_nothing(many, tmp_path):
    folder, expected = many
    with scoring(folder / "*.csv", "--output", tmp_path / "out", "--workers", "2") as process:
        wait_until(begun(tmp_path / "out"))
        os.kill(workers(process.pid)[0], signal.SIGKILL)
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert said.startswith("parts: 8 scored, 0 skipped, 0 failed\nrows: 400,000, 0 of them bad")
    assert names(tmp_path / "out") == [f"{number}.csv" for number in range(8)]
    assert all((tmp_path / "out" / f"{number}.csv").read_bytes() == expected for number in range(8))


def test_a_run_that_is_stopped_leaves_whole_parts_and_the_next_goes_on_beside_another(many, tmp_path):
    folder, expected = many
    words = (folder / "*.csv", "--output", tmp_path / "out", "--workers", "1")
    with scoring(*words) as process:
        wait_until(begun(tmp_path / "out"))
        os.kill(workers(process.pid)[0], signal.SIGINT)  # a terminal interrupts all of them, in any order
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "serving.score: stopped; run it again for what is left\n"
    found = names(tmp_path / "out")
    assert 1 <= len(found) < 8
    with scoring(*words) as one, scoring(*words) as other:
        for process in (one, other):
            said, errors = process.communicate(timeout=60)
            assert (process.returncode, errors) == (0, "")
            assert re.match(rf"parts: {8 - len(found)} scored, {len(found)} skipped, 0 failed", said)
    assert names(tmp_path / "out") == [f"{number}.csv" for number in range(8)]
    assert all((tmp_path / "out" / f"{number}.csv").read_bytes() == expected for number in range(8))
