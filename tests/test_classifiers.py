"""Every class of scikit-learn that gives probabilities is served as scikit-learn answers, or refused with a reason."""

import os
import pickle
import shutil
import warnings
from typing import Any

import pytest
from conftest import GUNICORN, MODEL_FILE, children, customers, packaged, probabilities, read, reload, running
from sklearn.ensemble import BaggingClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

from serving.model.through_sklearn import SCORED_AT_ONCE

# What some classes need to be made, and what makes others fast or able to give probabilities.
ARGUMENTS: dict[str, dict[str, Any]] = {
    **{
        name: {"estimator": LogisticRegression(max_iter=1000)}
        for name in (
            *("ClassifierChain", "FixedThresholdClassifier", "MultiOutputClassifier", "OneVsOneClassifier"),
            *("OneVsRestClassifier", "OutputCodeClassifier", "RFE", "RFECV", "SelfTrainingClassifier"),
            *("TunedThresholdClassifierCV",),
        )
    },
    "GridSearchCV": {"estimator": LogisticRegression(max_iter=1000), "param_grid": {"C": [0.1, 1]}},
    "RandomizedSearchCV": {
        "estimator": LogisticRegression(max_iter=1000), "param_distributions": {"C": [0.1, 1]}, "n_iter": 2
    },
    "HalvingGridSearchCV": {"estimator": LogisticRegression(max_iter=1000), "param_grid": {"C": [0.1, 1]}},
    "StackingClassifier": {"estimators": [("one", LogisticRegression(max_iter=1000))]},
    "VotingClassifier": {"estimators": [("one", LogisticRegression(max_iter=1000))], "voting": "soft"},
    "SGDClassifier": {"loss": "log_loss"},
    "SVC": {"probability": True},
    "NuSVC": {"probability": True},
}  # fmt: skip

# Said of those that cannot be served.
REFUSED = ("classes", "gives no probabilities", "is not among the classes", "cannot be read", "it gives")


def candidates() -> list[tuple[str, Any]]:
    found = []
    for name, kind in all_estimators(type_filter="classifier"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some are deprecated
            found.append((name, kind(**ARGUMENTS.get(name, {}))))
    return found


def test_each_is_served_as_it_answers_or_refused_and_none_hangs(pair, customer, tmp_path, capsys):
    vectorizer, _ = pair
    rows = customers()[:600]
    matrix, churn = vectorizer.transform(rows), packaged().target[:600]
    file = tmp_path / "model.bin"
    shutil.copy(MODEL_FILE, file)
    served, refused = [], {}
    settings = {"SERVING_MODEL": str(file), "SERVING_ALLOW_SCHEMA_CHANGE": "1"}  # their schemas are the vectorizer's
    with running([*GUNICORN, "--workers", "2"], **settings) as service:
        for name, estimator in candidates():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # how well it fits is another question
                try:
                    fitted = estimator.fit(matrix, churn)
                    expected = fitted.predict_proba(matrix[:50])[:, 1]
                except (AttributeError, ValueError, TypeError, IndexError):
                    continue  # it gives no probabilities, or is for other tables
            (tmp_path / "new").write_bytes(pickle.dumps((vectorizer, fitted)))
            (tmp_path / "new").replace(file)
            refusals = service.log().count("model refused")
            reload(service)
            if service.log().count("model refused") > refusals:
                refused[name] = (
                    service.log().rpartition("model refused")[2].partition('"reason": "')[2].partition("\n")[0]
                )
                continue
            served.append(name)
            for place in (0, 7):
                service.close()  # whichever worker it is
                found = service.predict(rows[place]).json["churn_probability"]
                assert found == pytest.approx(expected[place], abs=1e-9), name
            answers = service.predict(rows[:50]).json
            assert [each["churn_probability"] for each in answers] == pytest.approx(expected, abs=1e-9), name
        assert "Traceback" not in service.log()
    with capsys.disabled():
        print(f"\n{len(served)} classes served; {len(refused)} refused: {refused}")
    assert {"LogisticRegression", "HistGradientBoostingClassifier", "MLPClassifier"} <= set(served)
    assert len(served) > 20
    assert all(any(reason in said for reason in REFUSED) for said in refused.values()), refused


@pytest.mark.parametrize("number", [1, SCORED_AT_ONCE, SCORED_AT_ONCE + 1, 2 * SCORED_AT_ONCE + 5])
def test_each_record_of_many_has_its_probability_in_its_place(number, tmp_path):
    records = [{"size": float(place % 97), "kind": "ab"[place % 2]} for place in range(number)]
    some = [{"size": float(place), "kind": "ab"[place % 2]} for place in range(100)]
    pipeline = make_pipeline(DictVectorizer(sparse=False), StandardScaler(), GaussianNB())
    pipeline.fit(some, [place > 40 + 20 * (place % 2) for place in range(100)])
    file = tmp_path / "model.bin"
    file.write_bytes(pickle.dumps(pipeline))
    expected = pipeline.predict_proba(records)[:, 1].tolist()
    assert probabilities(read(file), records) == pytest.approx(expected, abs=1e-12)


def test_a_model_of_many_processes_is_scored_in_one(tmp_path):
    """Those of joblib's outlive a worker of gunicorn, and hold up its end."""
    records = [{"size": float(place % 97), "kind": "ab"[place % 2]} for place in range(200)]
    pipeline = make_pipeline(DictVectorizer(), BaggingClassifier(LogisticRegression(), n_estimators=4))
    pipeline.fit(records, [place % 97 > 40 for place in range(200)])
    expected = pipeline.predict_proba(records)[:, 1].tolist()
    pipeline[-1].n_jobs = 2
    file = tmp_path / "model.bin"
    file.write_bytes(pickle.dumps(pipeline))
    before = {*children(os.getpid())}
    assert probabilities(read(file), records) == pytest.approx(expected, abs=1e-12)
    assert {*children(os.getpid())} <= before
