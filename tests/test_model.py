"""Model files: which are read, how they score, and which are refused."""

import collections
import datetime
import gzip
import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import uuid
import warnings
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import GUNICORN, MODEL_FILE, ROOT, SEED, customers, packaged, probabilities, read, run, running
from scipy import stats
from scipy.sparse import csr_matrix
from sklearn import metrics, model_selection
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, TimeSeriesSplit
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import Bunch

from serving.fields import LARGEST_NUMBER
from serving.model import file as model_file
from serving.model.linear import LinearModel
from serving.model.stand_ins import BadModel, Dtype
from serving.model.through_sklearn import SklearnModel
from serving.model.tree_model import TreeModel
from serving.prediction import Predictor
from serving.training.telecom import SCHEMA

CHURN = packaged().target[:500]


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return customers()[:500]


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


def assert_scores_like_scikit_learn(model, pair, rows):
    vectorizer, classifier = pair
    expected = classifier.predict_proba(vectorizer.transform(rows))[:, 1]
    assert probabilities(model, rows) == pytest.approx(expected, abs=1e-12)
    assert probabilities(model, rows[:1]) == [pytest.approx(expected[0], abs=1e-12)]
    assert probabilities(model, []) == []


LINEAR = {
    "logistic regression": LogisticRegression(),
    "without intercept": LogisticRegression(fit_intercept=False),
    "stochastic gradient": SGDClassifier(loss="log_loss", random_state=1, alpha=0.1),
    "cross-validated": LogisticRegressionCV(Cs=2, cv=model_selection.StratifiedKFold(2), solver="newton-cholesky"),
}


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("options", [{}, {"separator": ":"}, {"sort": False}])
def test_a_linear_model_scores_like_scikit_learn(rows, file, name, options):
    pair = fitted(LINEAR[name], rows, CHURN, **options)
    model = read(save(pair, file))
    assert isinstance(model, LinearModel)
    assert_scores_like_scikit_learn(model, pair, rows)


# What classifiers keep that are no part of the model: how they were searched for and measured, chance, numbers.
KEPT = {
    **{
        each.__name__: each()
        for each in (
            *(model_selection.KFold, model_selection.StratifiedKFold, model_selection.GroupKFold),
            *(model_selection.RepeatedKFold, model_selection.RepeatedStratifiedKFold, model_selection.LeaveOneOut),
            *(model_selection.ShuffleSplit, model_selection.StratifiedShuffleSplit, model_selection.GroupShuffleSplit),
        )
    },
    **{
        each.__name__: metrics.make_scorer(each)
        for each in (metrics.accuracy_score, metrics.f1_score, metrics.precision_score, metrics.recall_score)
    },
    **{
        each.__name__: metrics.make_scorer(each, response_method="predict_proba")
        for each in (metrics.roc_auc_score, metrics.average_precision_score)
    },
    **{
        each.__name__: each(1)
        for each in (
            *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
            *(np.float16, np.float32, np.float64, np.bool_),
        )
    },
    "generator": np.random.default_rng(1),
    "another generator": np.random.Generator(np.random.MT19937(np.random.SeedSequence(1))),
    "old generator": np.random.RandomState(1),
    "bunch": Bunch(a=1),
    "sparse matrix": csr_matrix([[0.0, 1.0]]),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_linear_model_is_read_whatever_it_keeps_of_its_training(rows, file, name):
    pair = fitted(LogisticRegression(), rows, CHURN)
    pair[1].kept = [KEPT[name]]
    assert_scores_like_scikit_learn(read(save(pair, file)), pair, rows)


def test_a_records_probability_does_not_depend_on_who_else_is_asked_about(rows):
    model = read(MODEL_FILE)
    extremes = [SEED | {name: LARGEST_NUMBER} for name in ("tenure", "totalcharges")]
    everyone = [*rows, *extremes]
    assert probabilities(model, everyone) == [probabilities(model, [each])[0] for each in everyone]
    assert probabilities(model, extremes) == [0, 1]


@pytest.mark.parametrize("spell", [bool, int, np.int32, lambda left: "yes" if left else "no", lambda left: "ab"[left]])
def test_churn_may_have_been_spelt_in_other_ways(rows, file, spell):
    pair = fitted(LogisticRegression(), rows, [spell(left) for left in CHURN])
    assert_scores_like_scikit_learn(read(save(pair, file)), pair, rows)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_is_read(pair, file, protocol):
    file.write_bytes(pickle.dumps(pair, protocol))
    model = read(file)
    assert isinstance(model, LinearModel)
    assert probabilities(model, [SEED]) == [pytest.approx(0.339064, abs=1e-6)]


PACKED = {
    "list": list,
    "dictionary": lambda pair: {"model": pair[1], "dv": pair[0]},
    "dictionary with more": lambda pair: {"dv": pair[0], "model": pair[1], "threshold": 0.4, "features": ["tenure"]},
    "dictionary with tuples": lambda pair: {
        "model": pair,
        "shape": (3, 4),
        "params": {"range": (0, 1), "names": ["a"]},
    },
    "dictionary with objects of anything": lambda pair: {
        "model": pair[1],
        "dv": pair[0],
        "again": make_pipeline(*pair),
        "labels": LabelEncoder().fit(["no", "yes"]),
        "made": [datetime.datetime.now(datetime.UTC), np.datetime64("2026-01-01"), uuid.uuid4()],
        "columns": pd.Index(["tenure"]),
        "read from": Path("table.csv"),
        "counts": collections.defaultdict(list, {"no": [1]}),
        "options": SimpleNamespace(depth=range(1, 4), cost=Decimal(3)),
    },
    "with a threshold and names": lambda pair: (*pair, 0.4, ["tenure"]),
    "pipeline": lambda pair: Pipeline([("vectorize", pair[0]), ("nothing", "passthrough"), ("classify", pair[1])]),
    "the other way round": lambda pair: pair[::-1],
    "pair of a pipeline": lambda pair: (pair[0], make_pipeline(pair[1])),
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("dump", [pickle.dump, joblib.dump], ids=["pickle", "joblib"])
def test_a_model_is_read_however_it_is_packed(rows, file, pair, packed, dump):
    with file.open("wb") as opened:
        dump(PACKED[packed](pair), opened)
    model = read(file)
    assert isinstance(model, LinearModel)
    assert_scores_like_scikit_learn(model, pair, rows)


def test_two_pickles_in_one_file_are_a_pair(rows, file, pair):
    file.write_bytes(pickle.dumps(pair[0]) + pickle.dumps(pair[1]))
    assert_scores_like_scikit_learn(read(file), pair, rows)


def found_by_searches() -> dict[str, Any]:
    logistic, numbers = LogisticRegression(max_iter=1000), {"n_estimators": stats.randint(2, 9)}
    return {
        "a range": GridSearchCV(DecisionTreeClassifier(random_state=1), {"max_depth": range(1, 4)}, cv=3),
        "a distribution": RandomizedSearchCV(logistic, {"C": stats.loguniform(0.1, 10)}, n_iter=2, cv=3),
        "numbers of trees": RandomizedSearchCV(RandomForestClassifier(random_state=1), numbers, n_iter=2, cv=3),
        "by time": GridSearchCV(logistic, {"C": [0.1, 1]}, cv=TimeSeriesSplit(3)),
        "given folds": GridSearchCV(logistic, {"C": [0.1, 1]}, cv=[(range(300), range(300, 500))]),
        "of several kinds": GridSearchCV(
            Pipeline([("c", logistic)]), {"c": [logistic, RandomForestClassifier(2, random_state=1)]}, cv=3
        ),
        "of what scikit-learn scores": GridSearchCV(BernoulliNB(), {"alpha": [0.5, 1]}, cv=3),
    }


@pytest.mark.parametrize("name", found_by_searches())
def test_what_a_search_was_made_with_is_no_part_of_the_model(rows, file, name):
    pair = fitted(found_by_searches()[name], rows, CHURN)
    assert_scores_like_scikit_learn(read(save(pair, file)), pair, rows)


@pytest.mark.parametrize("compress", [("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_file_of_joblib_may_be_compressed(rows, file, pair, compress, protocol):
    joblib.dump(pair, file, compress=compress, protocol=protocol)
    assert_scores_like_scikit_learn(read(file), pair, rows)


def test_a_forest_of_joblib_is_read_with_its_arrays_of_objects_and_numbers(rows, file):
    pair = fitted(
        RandomForestClassifier(5, max_depth=4, random_state=1), rows, ["yes" if each else "no" for each in CHURN]
    )
    pair[1].classes_ = pair[1].classes_.astype(object)
    joblib.dump(pair, file)
    assert_scores_like_scikit_learn(read(file), pair, rows)


def test_two_files_are_read_in_either_order(rows, tmp_path, pair):
    files = [tmp_path / "dv.bin", tmp_path / "model.bin"]
    for file, part in zip(files, pair, strict=True):
        save(part, file)
    for order in (files, files[::-1]):
        assert_scores_like_scikit_learn(read(*order), pair, rows)


SCALERS = {
    "standard": StandardScaler(),
    "standard without mean": StandardScaler(with_mean=False),
    "standard without deviation": StandardScaler(with_std=False),
    "of 0 to 1": MinMaxScaler(),
    "of -1 to 3": MinMaxScaler((-1, 3)),
    "by the largest": MaxAbsScaler(),
    "robust": RobustScaler(),
    "robust without center": RobustScaler(with_centering=False),
    "robust without scale": RobustScaler(with_scaling=False),
    "nothing": StandardScaler(with_mean=False, with_std=False),
    "clipped": MinMaxScaler(clip=True),
}


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("packed", ["tuple", "pipeline"])
def test_a_scaler_is_folded_into_the_weights(rows, file, name, packed):
    vectorizer, scaler = DictVectorizer(sparse=False), clone(SCALERS[name])
    classifier = LogisticRegression(solver="newton-cholesky")
    whole = make_pipeline(vectorizer, scaler, classifier).fit(rows[:400], CHURN[:400])
    save(whole if packed == "pipeline" else (vectorizer, scaler, classifier), file)
    model = read(file)
    assert isinstance(model, SklearnModel if name == "clipped" else LinearModel)
    assert probabilities(model, rows) == pytest.approx(whole.predict_proba(rows)[:, 1], abs=1e-12)


@pytest.mark.parametrize("name", ["standard", "robust"])  # (the others of scikit-learn lose some themselves)
def test_a_scaler_loses_nothing_of_numbers_that_are_large_and_close_together(file, name):
    rows = [{"seen": 1_700_000_000.0 + 60 * row, "where": "ab"[row % 2]} for row in range(60)]
    whole = make_pipeline(DictVectorizer(sparse=False), clone(SCALERS[name]), LogisticRegression(C=100))
    save(whole.fit(rows, [row % 7 < 3 for row in range(60)]), file)
    assert probabilities(read(file), rows) == pytest.approx(whole.predict_proba(rows)[:, 1], abs=1e-12)


@pytest.mark.parametrize("dtype", [float, int, np.float32, np.int8])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_vectorizer_may_have_any_type_of_number(rows, file, dtype, protocol):
    pair = fitted(LogisticRegression(), [row | {"totalcharges": 1} for row in rows], CHURN, dtype=dtype)
    file.write_bytes(pickle.dumps(pair, protocol))
    model = read(file)
    assert isinstance(model, LinearModel if dtype is float else SklearnModel)
    assert_scores_like_scikit_learn(model, pair, [row | {"totalcharges": 1} for row in rows])


# By what they are scored with: weights, trees, and scikit-learn itself.
OF_A_FRAME = {
    "logistic": (LogisticRegression(), LinearModel),
    "tree": (DecisionTreeClassifier(max_depth=4, random_state=1), TreeModel),
    "bagging": (BaggingClassifier(DecisionTreeClassifier(max_depth=4), 5, random_state=1), SklearnModel),
}


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("has_categories", [False, True])
@pytest.mark.parametrize("name", OF_A_FRAME)
def test_a_scaler_of_a_data_frame_scales_the_columns_that_it_names(rows, file, name, has_categories, is_sparse):
    classifier, kind = OF_A_FRAME[name]
    numbers = ["tenure", "totalcharges", "monthlycharges"]  # in another order than the vectorizer's
    frame = pd.DataFrame(rows)[numbers + ["contract", "partner"] * has_categories]
    frame[numbers] = frame[numbers].astype(float)
    scaler, scaled = StandardScaler(), frame.copy()
    scaled[numbers] = scaler.fit_transform(frame[numbers])
    vectorizer = DictVectorizer(sparse=is_sparse)
    matrix = vectorizer.fit_transform(scaled.to_dict(orient="records"))
    model = read(save((vectorizer, scaler, clone(classifier).fit(matrix, CHURN)), file))
    assert isinstance(model, kind)
    found = probabilities(model, frame.to_dict(orient="records"))
    expected = clone(classifier).fit(matrix, CHURN).predict_proba(matrix)[:, 1]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classifier", [LogisticRegression(), DecisionTreeClassifier(), BernoulliNB()])
def test_a_scaler_of_other_columns_than_the_vectorizers_is_refused(rows, file, classifier):
    vectorizer, classifier = fitted(classifier, rows, CHURN)
    frame = pd.DataFrame(rows)[["tenure", "monthlycharges"]].astype(float)
    with pytest.raises(BadModel, match=f"is of 2 columns, and its vectorizer makes {len(vectorizer.feature_names_)}"):
        read(save((vectorizer, StandardScaler().fit(frame.to_numpy()), classifier), file))
    other = frame.rename(columns={"tenure": "months"})
    with pytest.raises(BadModel, match=r"was fitted on columns that its vectorizer does not make: months$"):
        read(save((vectorizer, StandardScaler().fit(other), classifier), file))


def test_what_chose_the_rows_to_train_on_does_nothing_to_a_record(rows, file):
    # As imbalanced-learn names its pipeline and a sampler; the service has no such library.
    named = {
        b"csklearn.pipeline\nPipeline\n": b"cimblearn.pipeline\nPipeline\n",
        b"csklearn.preprocessing._function_transformer\nFunctionTransformer\n": b"cimblearn.combine._smote\nSMOTE\n",
    }
    pair = fitted(LogisticRegression(), rows, CHURN)
    steps = [("dv", pair[0]), ("smote", FunctionTransformer()), ("model", pair[1])]
    data = pickle.dumps(Pipeline(steps), 2)  # which writes a name as a line
    for ours, theirs in named.items():
        assert ours in data
        data = data.replace(ours, theirs)
    file.write_bytes(data)
    assert_scores_like_scikit_learn(read(file), pair, rows)


def test_the_loss_that_some_versions_pickle_is_no_stranger(rows, file):
    pair = fitted(SGDClassifier(loss="log_loss", random_state=1), rows, CHURN)
    data = pickle.dumps(pair, 2)  # which writes a name as a line
    assert b"sklearn._loss._loss\n" in data
    file.write_bytes(data.replace(b"sklearn._loss._loss\n", b"_loss\n"))  # as scikit-learn 1.6 to 1.8 name it
    assert_scores_like_scikit_learn(read(file), pair, rows)


def test_of_two_scalers_the_second_scales_what_the_first_gave(rows, file):
    whole = make_pipeline(DictVectorizer(sparse=False), StandardScaler(), MinMaxScaler(), LogisticRegression())
    save(whole.fit(rows, CHURN), file)
    assert isinstance(model := read(file), LinearModel)
    assert probabilities(model, rows) == pytest.approx(whole.predict_proba(rows)[:, 1], abs=1e-12)


def test_a_multinomial_model_of_two_classes_is_twice_the_sum(rows, file):
    # As scikit-learn up to 1.6 fitted it, and still predicts: softmax of the sum and its negative.
    vectorizer, classifier = fitted(LogisticRegression(max_iter=1000), rows, CHURN)
    sums = classifier.decision_function(vectorizer.transform(rows))
    classifier.multi_class = "multinomial"
    expected = np.exp(sums) / (np.exp(sums) + np.exp(-sums))
    assert probabilities(read(save((vectorizer, classifier), file)), rows) == pytest.approx(expected, abs=1e-12)


def as_version(data: bytes, version: str) -> bytes:
    """A pickle of protocol 2 with the stamp, and the NumPy module names, of an older scikit-learn."""
    assert len(version) == len(sklearn.__version__)
    stamped = data.replace(sklearn.__version__.encode(), version.encode())
    assert stamped != data
    return stamped.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def test_a_linear_model_of_another_scikit_learn_scores_the_same(pair, file, rows):
    file.write_bytes(as_version(pickle.dumps(pair, 2), "0.7.1"))
    assert probabilities(read(file), rows) == probabilities(read(MODEL_FILE), rows)


def test_a_category_that_training_never_saw_has_no_weight(rows, file):
    dsl = [row for row in rows if row["internetservice"] == "dsl"][:40]
    vectorizer, classifier = fitted(LogisticRegression(), dsl, [True, False] * 20)
    model_file.attach(SCHEMA, None, classifier)
    del classifier.serving_figures_
    assert_scores_like_scikit_learn(read(save((vectorizer, classifier), file)), (vectorizer, classifier), rows)


FOREST = RandomForestClassifier(5, max_depth=4, random_state=1)

OTHERS = {
    "bagging": BaggingClassifier(DecisionTreeClassifier(max_depth=4), 5, random_state=np.random.RandomState(1)),
    "boosting from another model": GradientBoostingClassifier(n_estimators=5, init=FOREST, random_state=1),
    "voting": VotingClassifier([("one", FOREST), ("two", HistGradientBoostingClassifier(max_iter=3))], voting="soft"),
    "calibrated": CalibratedClassifierCV(LogisticRegression(), cv=2),
    "one-vs-rest": OneVsRestClassifier(LogisticRegression()),
    "network": MLPClassifier((4,), max_iter=5),
    "neighbours": KNeighborsClassifier(algorithm="brute"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_classifier_is_scored_by_scikit_learn(rows, file, name):
    pair = fitted(OTHERS[name], rows, CHURN)
    model = read(save(pair, file))
    assert isinstance(model, SklearnModel)
    assert_scores_like_scikit_learn(model, pair, rows)


def test_another_classifier_of_another_scikit_learn_is_refused(rows, file):
    file.write_bytes(as_version(pickle.dumps(fitted(OTHERS["bagging"], rows, CHURN), 2), "0.7.1"))
    with pytest.raises(BadModel, match=rf"written by scikit-learn 0\.7\.1, and {sklearn.__version__}"):
        read(file)


UNFIT = {
    "not fitted": (lambda rows, churn: (DictVectorizer(), LogisticRegression()), "not fitted"),
    "no classifier": (lambda rows, churn: (fitted(LogisticRegression(), rows, churn)[0], {}), "not a pair"),
    "no vectorizer": (
        lambda rows, churn: [LogisticRegression().fit([[1], [2]], [0, 1]) for _ in range(2)],
        "LogisticRegression, Log",
    ),
    "two vectorizers": (
        lambda rows, churn: [*fitted(LogisticRegression(), rows, churn), DictVectorizer()],
        "not a pair",
    ),
    "no vectorizer's file": (
        lambda rows, churn: fitted(LogisticRegression(), rows, churn)[1],
        "not a pair .* has LogisticRegression; the vectorizer's file can stand beside it",
    ),
    "no classifier's file": (
        lambda rows, churn: fitted(LogisticRegression(), rows, churn)[0],
        "not a pair .* has DictVectorizer; the classifier's file can stand beside it",
    ),
    "another way to make columns": (
        lambda rows, churn: make_pipeline(OneHotEncoder(), LogisticRegression()).fit([["a"], ["b"]], [0, 1]),
        "not a pair .* has OneHotEncoder, LogisticRegression; what makes a record's columns can be a DictVectorizer",
    ),
    "something between": (
        lambda rows, churn: make_pipeline(DictVectorizer(), SelectKBest(k=3), LogisticRegression()).fit(rows, churn),
        "not a pair .* has DictVectorizer, SelectKBest, LogisticRegression; between the two there can be scalers",
    ),
    "names that are numbers": (
        lambda rows, churn: fitted(LogisticRegression(), [{1: 2.0}, {1: 3.0}], [0, 1]),
        "has the feature 1, whose name is no text",
    ),
    "three": (lambda rows, churn: (*fitted(LogisticRegression(), rows, churn), LogisticRegression()), "not a pair"),
    "only what has gone wrong": (lambda rows, churn: datetime.date(2026, 1, 1), "not a pair .* but has datetime.date"),
    "three classes": (
        lambda rows, churn: fitted(LogisticRegression(), rows, [i % 3 for i in range(len(churn))]),
        "it has 3 classes",
    ),
    "three classes of a forest": (
        lambda rows, churn: fitted(clone(FOREST), rows, [i % 3 for i in range(len(churn))]),
        "it has 3 classes",
    ),
    "a regressor": (
        lambda rows, churn: fitted(LinearRegression(), rows, churn),
        "is no classifier: it answers no yes/no",
    ),
    "a forest of regressors": (
        lambda rows, churn: fitted(RandomForestRegressor(2), rows, churn),
        "is no classifier: it answers",
    ),
    "no probabilities": (lambda rows, churn: fitted(RidgeClassifier(), rows, churn), "gives no probabilities"),
    "no log loss": (lambda rows, churn: fitted(SGDClassifier(loss="hinge"), rows, churn), "gives no probabilities"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_is_no_fitted_pair_is_refused(rows, file, case):
    make, said = UNFIT[case]
    with pytest.raises(BadModel, match=said):
        read(save(make(rows, CHURN), file))


WHOLE = MODEL_FILE.read_bytes()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"\x80\x04", "cut off"),
        (WHOLE[:100], "it is not a pickle, or a broken one"),
        (WHOLE[:-1], "cut off|broken"),
        (b"PK\x03\x04", "not a pickle"),
        (gzip.compress(WHOLE)[:-100], "cut off"),
        (gzip.compress(bytes(300_000_001)), "unpacks to more than 300,000,000 bytes"),
        (b"<html></html>", "not a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "git lfs pull"),
        (b"binf\0\0\0?\x06\0\0\0", "XGBoost's old binary format: load it in XGBoost, and save it as .json or .ubj"),
        (pickle.dumps([1, 2, 3]), "not a pair"),
        (WHOLE.replace(b"coef_", b"koef_"), "not fitted"),
    ],
)
def test_what_is_no_model_file_is_refused(file, data, said):
    file.write_bytes(data)
    with pytest.raises(BadModel, match=said):
        read(file)


@pytest.mark.parametrize("place", range(0, len(WHOLE), len(WHOLE) // 200))
def test_a_damaged_file_is_refused_or_read_and_nothing_else(file, place):
    file.write_bytes(WHOLE[:place] + bytes([WHOLE[place] ^ 0x41]) + WHOLE[place + 1 :])
    try:
        model = read(file)
    except BadModel:
        return
    Predictor(model).of_example()


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
def test_a_file_that_calls_a_function_is_refused_before_it_runs(rows, file, tmp_path, name, where):
    module, _, attribute = name.rpartition(".")
    trace = tmp_path / "trace"
    call = Call(getattr(importlib.import_module(module), attribute), *HOSTILE[name](str(trace)))
    classifier = FOREST if where == "in a forest" else LINEAR["logistic regression"]
    vectorizer, classifier = fitted(clone(classifier), rows, CHURN)
    if where == "alone":
        save(call, file)
    elif where == "as the classifier":
        save((vectorizer, call), file)
    else:
        classifier.extra_ = call
        save((vectorizer, classifier), file)
    with pytest.raises(BadModel, match=rf"it names .*\b{attribute}\b|not a pair|no classifier"):
        read(file)
    assert not trace.exists()


@pytest.mark.parametrize("name", [name for name in HOSTILE if not name.startswith(("sklearn.", "joblib."))])
@pytest.mark.parametrize("classifier", [LogisticRegression(), BernoulliNB()], ids=["read", "scored by scikit-learn"])
def test_what_lies_beside_a_model_is_not_run(rows, file, tmp_path, name, classifier):
    module, _, attribute = name.rpartition(".")
    trace = tmp_path / "trace"
    call = Call(getattr(importlib.import_module(module), attribute), *HOSTILE[name](str(trace)))
    pair = fitted(classifier, rows, CHURN)
    save({"dv": pair[0], "model": pair[1], "more": call}, file)
    assert_scores_like_scikit_learn(read(file), pair, rows)
    assert not trace.exists()


REFUSING = ["-m", "gunicorn", "predict:app", "--bind", "127.0.0.1:0"]


def test_gunicorn_does_not_start_with_a_hostile_model(file, tmp_path):
    vectorizer, classifier = pickle.loads(WHOLE)
    classifier.extra_ = Call(os.system, f"touch {tmp_path}/trace")
    file.write_bytes(pickle.dumps((vectorizer, classifier)))
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


def test_a_forest_is_served_over_http(rows, file, customer):
    pair = fitted(FOREST, rows, CHURN)
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
    body = json.dumps(SEED)
    done = subprocess.run([sys.executable, "-c", code, body], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"  # the lines before are the log


def test_a_failed_write_leaves_the_old_file(file, pair, monkeypatch):
    file.write_bytes(b"the old model")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot be written: No space left"):
        model_file.write(pair, file)
    assert file.read_bytes() == b"the old model"
    assert list(file.parent.iterdir()) == [file]


def test_a_written_model_can_be_read_by_other_users(file, pair):
    # As a container's unprivileged user must.
    old = os.umask(0o022)
    try:
        model_file.write(pair, file)
    finally:
        os.umask(old)
    assert file.stat().st_mode & 0o777 == 0o644
    shutil.copy(file, file.with_name("copy.bin"))
    assert probabilities(read(file.with_name("copy.bin")), [SEED]) == [pytest.approx(0.339064, abs=1e-6)]


CODES = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "U3"]


def stand_in(dtype):
    """What a pickle of this dtype makes of the stand-in."""
    _, arguments, state = dtype.__reduce__()
    found = Dtype(*arguments)
    fields = {name: (stand_in(each), offset) for name, (each, offset) in (dtype.fields or {}).items()}
    found.__setstate__((*state[:4], fields or None, *state[5:]))
    return found


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", CODES)
def test_arrays_of_every_type_are_read_as_numpy_reads_them(code, order):
    dtype = np.dtype(f"{order}{code}")
    values = np.array(["abc", "d", ""] if code == "U3" else [1, 0, 100 if code != "b1" else 1]).astype(dtype)
    if code[0] == "i":
        values[0] = -3
    read_ = stand_in(dtype).values(values.tobytes(), 3)
    assert (read_, [*map(type, read_)]) == (values.tolist(), [*map(type, values.tolist())])
    if code == "U3":
        return
    # In records, where each is its own size of bytes from the first or is not.
    for name, fields in {"fitting": [("a", dtype), ("b", dtype)], "not fitting": [("c", "u1"), ("a", dtype)]}.items():
        records = np.zeros(3, fields)
        records["a"] = values
        assert stand_in(records.dtype).column(records.tobytes(), 3, "a") == values.tolist(), name
    with pytest.raises(ValueError, match="3 values"):
        stand_in(dtype).values(values.tobytes() + b"0", 3)
