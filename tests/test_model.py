"""Model files: which are read, how they score, and which are refused."""

import gzip
import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sklearn
from conftest import GUNICORN, MODEL_FILE, ROOT, run, running
from msgspec.structs import astuple
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from serving import dataset, model
from serving.customer import LARGEST_NUMBER, SEED_CUSTOMER, columns_of, features


@pytest.fixture(scope="module")
def table() -> dataset.TrainingTable:
    table = dataset.packaged()
    return dataset.TrainingTable(table.customers[:500], table.churn[:500])


@pytest.fixture(scope="module")
def rows(table) -> list[dict]:
    return [features(customer) for customer in table.customers]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "model.bin"


def fitted(classifier, rows, churn, **options):
    vectorizer = DictVectorizer(sparse=False, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few steps are enough here
        return vectorizer, classifier.fit(vectorizer.fit_transform(rows), churn)


def save(pair, file: Path) -> Path:
    file.write_bytes(pickle.dumps(pair))
    return file


def assert_scores_like_scikit_learn(read, pair, table, rows):
    vectorizer, classifier = pair
    expected = classifier.predict_proba(vectorizer.transform(rows))[:, 1]
    assert read.probabilities(columns_of([*map(astuple, table.customers)])) == pytest.approx(expected, abs=1e-12)
    assert read.probability(astuple(table.customers[0])) == pytest.approx(expected[0], abs=1e-12)
    assert read.probabilities(columns_of([*map(astuple, [])])) == []


LINEAR = {
    "logistic regression": LogisticRegression(),
    "without intercept": LogisticRegression(fit_intercept=False),
    "stochastic gradient": SGDClassifier(loss="log_loss", random_state=1, alpha=0.1),
}


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("options", [{}, {"separator": ":"}, {"sort": False}])
def test_a_linear_model_scores_like_scikit_learn(table, rows, file, name, options):
    pair = fitted(LINEAR[name], rows, table.churn, **options)
    read = model.read(save(pair, file))
    assert isinstance(read, model.LinearModel)
    assert_scores_like_scikit_learn(read, pair, table, rows)


def test_a_customers_probability_does_not_depend_on_who_else_is_asked_about(table):
    read = model.read(MODEL_FILE)
    extremes = [msgspec.structs.replace(SEED_CUSTOMER, **{name: LARGEST_NUMBER}) for name in ("tenure", "totalcharges")]
    customers = [*table.customers, *extremes]
    assert read.probabilities(columns_of([*map(astuple, customers)])) == [
        read.probability(astuple(each)) for each in customers
    ]
    assert [read.probability(astuple(each)) for each in extremes] == [0, 1]


@pytest.mark.parametrize("spell", [bool, int, np.int32, lambda left: "yes" if left else "no"])
def test_churn_may_have_been_spelt_in_other_ways(table, rows, file, spell):
    pair = fitted(LogisticRegression(), rows, [spell(left) for left in table.churn])
    assert_scores_like_scikit_learn(model.read(save(pair, file)), pair, table, rows)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_is_read(pair, file, protocol):
    file.write_bytes(pickle.dumps(pair, protocol))
    read = model.read(file)
    assert isinstance(read, model.LinearModel)
    assert read.probability(astuple(SEED_CUSTOMER)) == pytest.approx(0.339064, abs=1e-6)


def as_version(data: bytes, version: str) -> bytes:
    """A pickle of protocol 2 with the stamp, and the NumPy module names, of an older scikit-learn."""
    assert len(version) == len(sklearn.__version__)
    stamped = data.replace(sklearn.__version__.encode(), version.encode())
    assert stamped != data
    return stamped.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def test_a_linear_model_of_another_scikit_learn_scores_the_same(pair, file):
    file.write_bytes(as_version(pickle.dumps(pair, 2), "0.7.1"))
    assert model.read(file).probability(astuple(SEED_CUSTOMER)) == model.read(MODEL_FILE).probability(
        astuple(SEED_CUSTOMER)
    )


def test_a_category_that_training_never_saw_has_no_weight(table, rows, file):
    dsl = [row for row in rows if row["internetservice"] == "dsl"][:40]
    pair = fitted(LogisticRegression(), dsl, [True, False] * 20)
    assert_scores_like_scikit_learn(model.read(save(pair, file)), pair, table, rows)


OTHERS = {
    "forest": RandomForestClassifier(5, max_depth=4, random_state=1),
    "gradient boosting": GradientBoostingClassifier(n_estimators=5, random_state=np.random.RandomState(1)),
    "histogram boosting": HistGradientBoostingClassifier(max_iter=3),
    "calibrated": CalibratedClassifierCV(LogisticRegression(), cv=2),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    "network": MLPClassifier((4,), max_iter=5),
    "neighbours": KNeighborsClassifier(algorithm="brute"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_classifier_is_scored_by_scikit_learn(table, rows, file, name):
    pair = fitted(OTHERS[name], rows, table.churn)
    read = model.read(save(pair, file))
    assert isinstance(read, model.SklearnModel)
    assert_scores_like_scikit_learn(read, pair, table, rows)


def test_another_classifier_of_another_scikit_learn_is_refused(table, rows, file):
    file.write_bytes(as_version(pickle.dumps(fitted(OTHERS["forest"], rows, table.churn), 2), "0.7.1"))
    with pytest.raises(model.BadModel, match=rf"written by scikit-learn 0\.7\.1, and {sklearn.__version__}"):
        model.read(file)


def without(rows, field):
    return [{name: value for name, value in row.items() if name != field} for row in rows]


def test_a_model_of_other_fields_is_refused_with_their_names(table, rows, file):
    strangers = [row | {"region": "north", "age": 40} for row in rows]
    for pair in (
        fitted(LogisticRegression(), strangers, table.churn),
        fitted(OTHERS["forest"], strangers, table.churn),
    ):
        with pytest.raises(model.BadModel, match="other fields than a customer has: age, region=north"):
            model.read(save(pair, file))


def test_a_model_that_lacks_a_field_is_refused_with_its_name(table, rows, file):
    pair = fitted(LogisticRegression(), without(rows, "contract"), table.churn)
    with pytest.raises(model.BadModel, match="without the field contract"):
        model.read(save(pair, file))


UNFIT = {
    "not fitted": (lambda rows, churn: (DictVectorizer(), LogisticRegression()), "not fitted"),
    "no classifier": (lambda rows, churn: (fitted(LogisticRegression(), rows, churn)[0], {}), "not a pair"),
    "no vectorizer": (lambda rows, churn: fitted(LogisticRegression(), rows, churn)[::-1], "not a pair"),
    "not a pair": (lambda rows, churn: fitted(LogisticRegression(), rows, churn)[1], "not a pair"),
    "three": (lambda rows, churn: (*fitted(LogisticRegression(), rows, churn), 1), "not a pair"),
    "other classes": (lambda rows, churn: fitted(LogisticRegression(), rows, ["ab"[c] for c in churn]), "its classes"),
    "three classes": (
        lambda rows, churn: fitted(LogisticRegression(), rows, [i % 3 for i in range(len(churn))]),
        "its classes",
    ),
    "no probabilities": (lambda rows, churn: fitted(RidgeClassifier(), rows, churn), "gives no probabilities"),
    "no log loss": (lambda rows, churn: fitted(SGDClassifier(loss="hinge"), rows, churn), "_sgd_fast.Hinge"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_is_no_fitted_pair_is_refused(table, rows, file, case):
    make, said = UNFIT[case]
    with pytest.raises(model.BadModel, match=said):
        model.read(save(make(rows, table.churn), file))


WHOLE = MODEL_FILE.read_bytes()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"\x80\x04", "cut off"),
        (WHOLE[:100], "it is not a pickle, or a broken one"),
        (WHOLE[:-1], "cut off|broken"),
        (b"PK\x03\x04", "not a pickle"),
        (gzip.compress(WHOLE), "not a pickle"),
        (b"<html></html>", "not a pickle"),
        (pickle.dumps([1, 2, 3]), "not a pair"),
        (WHOLE.replace(b"coef_", b"koef_"), "not fitted"),
    ],
)
def test_what_is_no_model_file_is_refused(file, data, said):
    file.write_bytes(data)
    with pytest.raises(model.BadModel, match=said):
        model.read(file)


@pytest.mark.parametrize("place", range(0, len(WHOLE), len(WHOLE) // 200))
def test_a_damaged_file_is_refused_or_read_and_nothing_else(file, place):
    file.write_bytes(WHOLE[:place] + bytes([WHOLE[place] ^ 0x41]) + WHOLE[place + 1 :])
    try:
        read = model.read(file)
    except model.BadModel:
        return
    read.probability(astuple(SEED_CUSTOMER))


class Call:
    """Pickled, it makes whoever unpickles it call a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# Functions, and arguments with which they would leave a trace or read a file.
HOSTILE = {
    "os.system": lambda trace: (f"touch {trace}",),
    "subprocess.check_call": lambda trace: (["touch", trace],),
    "builtins.eval": lambda trace: (f"open({trace!r}, 'w')",),
    "builtins.exec": lambda trace: (f"open({trace!r}, 'w')",),
    "builtins.open": lambda trace: (trace, "w"),
    "builtins.getattr": lambda trace: (1, "real"),
    "importlib.import_module": lambda trace: ("antigravity",),
    "shutil.copy": lambda trace: (str(MODEL_FILE), trace),
    "pickle.loads": lambda trace: (pickle.dumps(1),),
    "numpy.save": lambda trace: (trace, 1),
    "numpy.fromfile": lambda trace: (str(MODEL_FILE),),
    "scipy.io.savemat": lambda trace: (trace, {"a": 1}),
    "sklearn.utils.check_array": lambda trace: ([[1]],),
    "sklearn.datasets.load_iris": lambda trace: (),
    "sklearn.datasets.get_data_home": lambda trace: (trace,),
    "joblib.dump": lambda trace: (1, trace),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("where", ["alone", "in a linear classifier", "in a forest", "as the classifier"])
def test_a_file_that_calls_a_function_is_refused_before_it_runs(table, rows, file, tmp_path, name, where):
    module, _, attribute = name.rpartition(".")
    trace = tmp_path / "trace"
    call = Call(getattr(importlib.import_module(module), attribute), *HOSTILE[name](str(trace)))
    classifier = OTHERS["forest"] if where == "in a forest" else LINEAR["logistic regression"]
    vectorizer, classifier = fitted(clone(classifier), rows, table.churn)
    if where == "alone":
        save(call, file)
    elif where == "as the classifier":
        save((vectorizer, call), file)
    else:
        classifier.extra_ = call
        save((vectorizer, classifier), file)
    with pytest.raises(model.BadModel, match=rf"it names .*\b{attribute}\b|not a pair|no classifier"):
        model.read(file)
    assert not trace.exists()


REFUSING = ["-m", "gunicorn", "predict:app", "--bind", "127.0.0.1:0"]


def test_gunicorn_does_not_start_with_a_hostile_model(file, tmp_path):
    file.write_bytes(pickle.dumps(Call(os.system, f"touch {tmp_path}/trace")))
    done = run(*REFUSING, SERVING_MODEL=str(file))
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"predict.py: the model cannot be served: {file}: it names posix.system")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "trace").exists()


def test_gunicorn_does_not_start_without_its_model(tmp_path):
    done = run(*REFUSING, SERVING_MODEL=str(tmp_path / "none.bin"))
    assert done.returncode == 1
    assert "No such file" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_forest_is_served_over_http(table, rows, file, customer):
    pair = fitted(OTHERS["forest"], rows, table.churn)
    with running(GUNICORN, SERVING_MODEL=str(save(pair, file))) as service:
        vectorizer, classifier = pair
        expected = classifier.predict_proba(vectorizer.transform([customer]))[0, 1]
        assert service.predict(customer).json["churn_probability"] == pytest.approx(expected, abs=1e-12)


def test_serving_a_linear_model_imports_no_scikit_learn():
    code = """
import json, sys, predict
answer = predict.app.test_client().post("/predict", json=json.loads(sys.argv[1]))
assert answer.status_code == 200, answer.text
print(sorted({"sklearn", "scipy", "pandas", "numpy"} & sys.modules.keys()))
"""
    body = json.dumps(features(SEED_CUSTOMER))
    done = subprocess.run([sys.executable, "-c", code, body], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"  # the lines before are the log


def test_a_failed_write_leaves_the_old_file(file, pair, monkeypatch):
    file.write_bytes(b"the old model")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot be written: No space left"):
        model.write(pair, file)
    assert file.read_bytes() == b"the old model"
    assert list(file.parent.iterdir()) == [file]


def test_a_written_model_can_be_read_by_other_users(file, pair):
    # As a container's unprivileged user must.
    old = os.umask(0o022)
    try:
        model.write(pair, file)
    finally:
        os.umask(old)
    assert file.stat().st_mode & 0o777 == 0o644
    shutil.copy(file, file.with_name("copy.bin"))
    assert model.read(file.with_name("copy.bin")).probability(astuple(SEED_CUSTOMER)) == pytest.approx(
        0.339064, abs=1e-6
    )
