"""A model file can be anything, and harms nothing: it is refused with one line, and the old model serves on."""

import copy
import hashlib
import os
import pickle
import posix
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import (
    GUNICORN,
    MODEL_FILE,
    Service,
    customers,
    packaged,
    probabilities,
    reload,
    run,
    running,
    wait_until,
    workers,
)
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.tree import DecisionTreeClassifier
from test_metrics import Counts

from serving import limits
from serving.model import trial
from serving.model.base import Model
from serving.model.stand_ins import BadModel


@pytest.fixture(scope="module")
def rows(pair):
    vectorizer, _ = pair
    return vectorizer.transform(customers()), packaged().target


class ArrayOf:
    """Pickled as an array that claims a shape and a type whatever its bytes are."""

    def __init__(self, shape: tuple[int, ...], dtype: str, data: bytes):
        self.state = (1, shape, np.dtype(dtype), False, data)

    def __reduce__(self) -> tuple[Any, ...]:
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), self.state


def tampered(tree: DecisionTreeClassifier, change: Callable[[Any], None]) -> DecisionTreeClassifier:
    """A fitted tree whose nodes were changed."""
    other = copy.deepcopy(tree)
    state = other.tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    change(state)
    other.tree_.__setstate__(state)
    return other


def put(field: str, node: int, value: float) -> Callable[[Any], None]:
    def change(state: Any) -> None:
        state["nodes"][field][node] = value

    return change


def with_figures(classifier: Any, **changed: Any) -> Any:
    other = copy.copy(classifier)
    other.serving_figures_ = {**classifier.serving_figures_, **changed}
    return other


@pytest.fixture(scope="module")
def hostile(pair, rows) -> dict[str, tuple[bytes, str]]:
    """Files that are no model, or would harm whoever serves them, and what is said of each."""
    vectorizer, classifier = pair
    tree = DecisionTreeClassifier(max_depth=4, random_state=1).fit(*rows)
    boosted = HistGradientBoostingClassifier(max_iter=2).fit(*rows)
    boosted._predictors[1][0].nodes["left"][0] = 0
    forest = RandomForestClassifier(3, max_depth=3, random_state=1).fit(*rows)
    forest.estimators_[2] = tampered(forest.estimators_[2], put("right_child", 1, 900))

    def voting(classifier: Any) -> VotingClassifier:
        found = VotingClassifier([("one", DecisionTreeClassifier(max_depth=1))], voting="soft").fit(*rows)
        found.estimators_ = [classifier]
        return found

    def weights(value: Any) -> Any:
        other = copy.copy(classifier)
        other.coef_ = value
        return other

    figures = classifier.serving_figures_
    nan = np.full_like(classifier.coef_, np.nan)
    nan_in_one = np.where(np.arange(nan.shape[1]) == 9, nan, classifier.coef_)
    pairs = {
        "not fitted": ((vectorizer, RandomForestClassifier()), "not fitted"),
        "size 0": ((vectorizer, weights(ArrayOf((10**9,), "V0", b""))), "1,000,000,000 values"),
        "text of size 0": ((vectorizer, weights(ArrayOf((10**9,), "U0", b""))), "1,000,000,000 values"),
        "a billion": ((vectorizer, weights(ArrayOf((10**9,), "f8", b"12345678"))), "1,000,000,000 values"),
        "no numbers": ((vectorizer, weights(nan)), "weights that are no numbers"),
        "one is no number": ((vectorizer, weights(nan_in_one)), "weights that are no numbers"),
        "too large a number": ((vectorizer, weights(ArrayOf((1,), "O", [10**400]))), ""),
        "a cycle": ((vectorizer, tampered(tree, put("left_child", 5, 1))), "leads back to itself"),
        "a child outside": ((vectorizer, forest), "out of its"),
        "another feature": ((vectorizer, tampered(tree, put("feature", 3, 10_000))), "features"),
        "a cycle in boosting": ((vectorizer, boosted), "leads back to itself"),
        # These are scored by scikit-learn itself.
        "a cycle in voting": ((vectorizer, voting(tampered(tree, put("left_child", 5, 1)))), "leads back to itself"),
        "a child outside in voting": ((vectorizer, voting(forest)), "out of its"),
        "a feature outside in voting": ((vectorizer, voting(tampered(tree, put("feature", 3, 10_000)))), "features"),
        "boosting in voting": ((vectorizer, voting(boosted)), "leads back to itself"),
        "figures: NaN": ((vectorizer, with_figures(classifier, log_loss=float("nan"))), "some are no numbers"),
        "figures: many": (
            (vectorizer, with_figures(classifier, thresholds=figures["thresholds"] * 60_000)),
            "training figures cannot be used",
        ),
        "figures: short": ((vectorizer, with_figures(classifier, auc={})), "training figures cannot be used"),
    }
    # A tuple of itself, forty times: to hash it takes 2 ** 40 steps. And a place in the unpickler's memory for 16 GB.
    nested = b"\x80\x04})" + b"2\x86" * 40 + b"Ns."
    return {name: (pickle.dumps(pair), said) for name, (pair, said) in pairs.items()} | {
        "hash": (nested, "took more than 10 seconds"),
        "memo": (b"\x80\x04}r\xff\xff\xff\x7f.", "it takes more than 1 GB of memory"),
        "memory": (pickle.dumps(bytes(10))[:2] + b"\x8e" + (2**40).to_bytes(8, "little") + b"x.", ""),
        "text": (b"hello\n", "not a pickle"),
        "cut off": (MODEL_FILE.read_bytes()[:1000], "truncated"),
    }


NAMES = [
    *("not fitted", "size 0", "text of size 0", "a billion", "no numbers", "one is no number", "too large a number"),
    *("a cycle", "a child outside", "another feature", "a cycle in boosting"),
    *("a cycle in voting", "a child outside in voting", "a feature outside in voting", "boosting in voting"),
    *("figures: NaN", "figures: many", "figures: short", "hash", "memo", "memory", "text", "cut off"),
]


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_in_a_file_it_is_refused_with_one_line_that_says_why(hostile, name, tmp_path):
    content, said = hostile[name]
    file = tmp_path / "model.bin"
    file.write_bytes(content)
    with pytest.raises(BadModel) as refusal:
        trial.read([file])
    assert str(refusal.value).startswith(f"{file}: ")
    assert said in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert len(str(refusal.value)) < 700


def test_every_hostile_file_is_tried(hostile):
    assert set(NAMES) == set(hostile)


@pytest.mark.parametrize("name", ["not fitted", "hash", "memo"])
def test_a_start_with_such_a_file_is_one_line(hostile, name, tmp_path):
    (tmp_path / "model.bin").write_bytes(hostile[name][0])
    done = run("-m", "gunicorn", "predict:app", "--bind", "127.0.0.1:0", SERVING_MODEL=str(tmp_path / "model.bin"))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("predict.py: the model cannot be served: ")
    assert hostile[name][1] in line
    assert "Traceback" not in done.stdout


def memory(service) -> float:
    """The proportional set size of the main process in MB."""
    rollup = Path(f"/proc/{service.process.pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1000


def test_a_running_service_takes_none_of_them_over(hostile, customer, tmp_path):
    file = tmp_path / "model.bin"
    shutil.copy(MODEL_FILE, file)
    with running([*GUNICORN, "--workers", "2"], SERVING_MODEL=str(file)) as service:
        expected = service.predict(customer)
        stop = threading.Event()
        wrong: list[Any] = []

        def client() -> None:
            mine = Service(service.port)
            while not stop.is_set():
                answer = mine.predict(customer)
                if (answer.status, answer.body) != (200, expected.body):
                    wrong.append(answer)
            mine.close()

        clients = [threading.Thread(target=client) for _ in range(2)]
        for each in clients:
            each.start()
        try:
            before = memory(service)
            for number, (content, _) in enumerate(hostile.values(), start=1):
                (tmp_path / "new").write_bytes(content)
                (tmp_path / "new").replace(file)
                service.process.send_signal(signal.SIGHUP)
                wait_until(lambda number=number: service.log().count("model refused") == number, seconds=60)
            assert memory(service) < before + 10
        finally:
            stop.set()
            for each in clients:
                each.join()
        assert not wrong, wrong[:3]
        service.close()
        assert Counts(service).of("serving_model_files_total", outcome="refused") == len(hostile)
        shutil.copy(MODEL_FILE, tmp_path / "new")
        (tmp_path / "new").replace(file)
        reload(service)
        assert Counts(service).of("serving_model_files_total", outcome="taken_over") == 1
        assert service.predict(customer).body == expected.body
    assert "Traceback" not in service.log()


@pytest.fixture
def slow_file(pair, rows, tmp_path) -> Iterator[Path]:
    """A good file whose trial takes some seconds: scikit-learn is imported for it."""
    vectorizer, _ = pair
    file = tmp_path / "model.bin"
    file.write_bytes(pickle.dumps((vectorizer, DecisionTreeClassifier(max_depth=3).fit(*rows))))
    return file


def meanwhile(path: Path, act: Callable[[], object]) -> Model:
    """What is read of a file when something else happens to it during its trial."""
    spawn = posix.posix_spawn

    def spawn_and_act(*args: Any, **options: Any) -> int:
        child = spawn(*args, **options)
        act()
        return child

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(posix, "posix_spawn", spawn_and_act)
        return trial.read([path])


def test_a_file_that_is_swapped_or_removed_while_it_is_tried_is_served_as_it_was_tried(slow_file):
    tried = hashlib.sha256(slow_file.read_bytes()).hexdigest()
    other = slow_file.with_name("other")
    shutil.copy(MODEL_FILE, other)
    assert meanwhile(slow_file, lambda: other.replace(slow_file)).about.sha256 == tried
    assert meanwhile(slow_file, slow_file.unlink).about.sha256 == hashlib.sha256(MODEL_FILE.read_bytes()).hexdigest()


@pytest.mark.parametrize("changed", [0, 1])
def test_two_files_are_taken_only_where_neither_changed_while_they_were_read(pair, tmp_path, monkeypatch, changed):
    files = [tmp_path / "dv.bin", tmp_path / "model.bin"]
    for file, part in zip(files, pair, strict=True):
        file.write_bytes(pickle.dumps(part))
    read_bytes = Path.read_bytes

    def read_and_write(path: Path) -> bytes:
        data = read_bytes(path)
        if path == files[1]:
            with files[changed].open("r+b") as again:
                again.write(b"\x80\x04")  # as long as before
        return data

    monkeypatch.setattr(Path, "read_bytes", read_and_write)
    with pytest.raises(BadModel, match=r"dv.bin,.*model\.bin: it was written to while it was read"):
        trial.read(files)
    monkeypatch.undo()
    assert trial.read(files).about.file == "dv.bin,model.bin"


def test_a_file_of_just_as_many_bytes_as_there_may_be_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "MOST_BYTES", MODEL_FILE.stat().st_size)
    assert trial.read([MODEL_FILE]).about.file == MODEL_FILE.name
    (tmp_path / "model.bin").write_bytes(MODEL_FILE.read_bytes() + b"x")
    with pytest.raises(BadModel, match="bytes, and can have"):
        trial.read([tmp_path / "model.bin"])


def test_what_reads_a_file_gets_no_key(monkeypatch):
    monkeypatch.setenv("SERVING_API_KEYS", "4d0fa1")
    found = limits.environment(LANGUAGE="en")
    assert not {name for name in found if name.startswith("SERVING_")}
    assert (found["LANGUAGE"], found["PATH"]) == ("en", os.environ["PATH"])


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "zeros", "missing", "empty"])
def test_what_is_no_file_of_a_models_size_is_refused_unread(kind, tmp_path):
    file = tmp_path / "model.bin"
    said = {
        **{
            "pipe": "a pipe",
            "folder": "a folder",
            "device": "a device",
            "zeros": "300,000,001 bytes, and can have 300,000,000",
        },
        **{"missing": "No such file", "empty": "it is empty"},
    }
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "device":
            file = Path("/dev/zero")
        case "zeros":
            with file.open("wb") as sparse:
                sparse.truncate(300_000_001)
        case "empty":
            file.touch()
    with pytest.raises((BadModel, FileNotFoundError), match=said[kind]):
        trial.read([file])


def test_boosting_is_served_by_several_workers(pair, rows, customer, tmp_path):
    vectorizer, _ = pair
    boosted = HistGradientBoostingClassifier(max_iter=20, random_state=1).fit(*rows)
    file = tmp_path / "model.bin"
    file.write_bytes(pickle.dumps((vectorizer, boosted)))
    expected = boosted.predict_proba(vectorizer.transform([customer]))[0, 1]
    with running([*GUNICORN, "--workers", "2"], SERVING_MODEL=str(file)) as service:
        wait_until(lambda: len(workers(service)) == 2)
        for _ in range(10):
            service.close()  # so that both are asked
            assert service.predict(customer).json["churn_probability"] == pytest.approx(expected, abs=1e-12)
            assert len(service.predict([customer] * 2500).json) == 2500


def test_the_committed_model_passes_its_trial(customer):
    assert probabilities(trial.read([MODEL_FILE]), [customer]) == [pytest.approx(0.339064, abs=1e-6)]
