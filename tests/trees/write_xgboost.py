"""Write XGBoost's boosters as files, and beside them what that XGBoost says of 40 records.

    python tests/trees/write_xgboost.py

writes files/xgboost-VERSION/CASE.bin, .json and .ubj and files/xgboost-VERSION/answers.json for the XGBoost it runs
under. The files here were written with these, installed by pip (XGBoost itself with --no-deps: it needs no GPU's
libraries for this):

| Python | xgboost | scikit-learn | numpy | scipy |
| --- | --- | --- | --- | --- |
| 3.13.0 | 3.4.1 | 1.9.1 | 2.4.6 | 1.17.1 |
| 3.12.1 | 3.0.5 | 1.6.1 | 2.1.3 | 1.14.1 |
| 3.11.7 | 2.1.4 | 1.5.2 | 1.26.4 | 1.13.1 |
| 3.10.13 | 1.7.6 | 1.2.2 | 1.23.5 | 1.10.1 |
| 3.8.18 | 1.4.2 | 0.24.2 | 1.19.5 | 1.6.3 |

answers.json has what that of write_sklearn.py has, all of it as XGBoost tells it: `contributions` and `expected` are
log-odds. The models that XGBoost's own save_model wrote name the file of their `vectorizer`. `refused` has the files
that no service of yes and no can take, and why.
"""

from __future__ import annotations

import pickle
import platform
from typing import Any

import numpy as np
import rows
import scipy
import sklearn
import xgboost
from sklearn.feature_extraction import DictVectorizer
from xgboost import Booster, DMatrix, XGBClassifier

VERSION = tuple(int(part) for part in xgboost.__version__.split(".")[:2])
FOLDER = rows.FILES / f"xgboost-{xgboost.__version__}"
EXPLAINED = 8

COMMON = {"nthread": 1, "seed": 1, "verbosity": 0}
BINARY = {"objective": "binary:logistic", "max_depth": 4, "min_child_weight": 10, "eta": 0.4, **COMMON}


def fitted(rows_of: str = "plain", sparse: bool = False) -> tuple[DictVectorizer, Any]:
    """A vectorizer of these rows, and their matrix."""
    vectorizer = DictVectorizer(sparse=sparse)
    return vectorizer, vectorizer.fit_transform(rows.TRAININGS[rows_of])


def write(name: str, content: Any) -> None:
    """A pickle, as Python writes it if nothing else is asked for."""
    (FOLDER / name).write_bytes(pickle.dumps(content))


def write_booster(
    name: str, params: dict[str, Any], rows_of: str = "plain", sparse: bool = False, **named: Any
) -> None:
    """A file of a vectorizer and the booster that XGBoost's own train() makes with these parameters."""
    vectorizer, matrix = fitted(rows_of, sparse)
    rounds = named.pop("rounds", 8)
    if named.pop("names", False):
        named["feature_names"] = vectorizer.feature_names_
    data = DMatrix(matrix, label=named.pop("label", rows.ANSWERS), **named)
    write(name, (vectorizer, xgboost.train(params, data, num_boost_round=rounds)))


def classifier(**params: Any) -> XGBClassifier:
    """A classifier, which before 1.6 wanted to hear that the answers are numbers already."""
    if VERSION < (1, 6):
        params["use_label_encoder"] = False
    return XGBClassifier(random_state=1, n_jobs=1, verbosity=0, **params)


def stopped_early(model: XGBClassifier, matrix: Any, validation: Any) -> XGBClassifier:
    """The classifier, trained until it no longer gets better: it has more trees than it uses."""
    patience = {"early_stopping_rounds": 2}
    model.set_params(eval_metric="logloss", **(patience if VERSION >= (1, 6) else {}))
    told = {} if VERSION >= (1, 6) else patience
    model.fit(matrix, rows.ANSWERS, eval_set=[(validation, rows.VALIDATION_ANSWERS)], verbose=False, **told)
    trees = len(model.get_booster().get_dump())
    if model.best_iteration + 1 >= trees:
        raise ValueError(f"the classifier has {trees} trees and stopped at none")
    return model


def write_pickles() -> dict[str, str]:
    """The pickles that a service takes, and the records that each is asked about."""
    write_booster("booster-sparse.bin", BINARY, sparse=True)
    write_booster("booster-dense.bin", BINARY, rows_of="blanks")
    write_booster("base-score.bin", {**BINARY, "base_score": 0.2}, names=True, rounds=2)
    leafwise = {"grow_policy": "lossguide", "max_leaves": 12, "max_depth": 0, "tree_method": "hist"}
    sampled = {"min_child_weight": 4, "num_parallel_tree": 2, "subsample": 0.7}
    write_booster("lossguide.bin", {**BINARY, **leafwise, **sampled}, rounds=2)

    dropping = {"booster": "dart", "rate_drop": 0.5, "one_drop": 1}
    write_booster("dart.bin", {**BINARY, **dropping, "max_depth": 2}, rounds=4)

    vectorizer, matrix = fitted()
    validation = vectorizer.transform(rows.VALIDATION)
    data, told = DMatrix(matrix, label=rows.ANSWERS), DMatrix(validation, label=rows.VALIDATION_ANSWERS)
    stopping = {"evals": [(told, "validation")], "early_stopping_rounds": 2, "verbose_eval": False}
    stopped = xgboost.train({**BINARY, "max_depth": 2, "eta": 1.0}, data, num_boost_round=50, **stopping)
    write("booster-early-stopping.bin", (vectorizer, stopped))

    # Without classifier(): before 1.6, this one keeps a LabelEncoder, as those had that nobody told not to.
    early = XGBClassifier(n_estimators=50, max_depth=2, learning_rate=1.0, random_state=1, n_jobs=1, verbosity=0)
    write("classifier-early-stopping.bin", (vectorizer, stopped_early(early, matrix, validation)))
    zeros = classifier(n_estimators=3, max_depth=3, learning_rate=0.4, missing=0.0)
    write("classifier-missing-0.bin", (vectorizer, zeros.fit(matrix, rows.ANSWERS)))

    plain = ("booster-sparse", "booster-early-stopping", "base-score", "lossguide", "dart")
    classifiers = ("classifier-early-stopping", "classifier-missing-0")
    return {**{f"{name}.bin": "plain" for name in (*plain, *classifiers)}, "booster-dense.bin": "blanks"}


def write_models() -> dict[str, str]:
    """Models of XGBoost's own formats and the vectorizer that goes with each, and the records they are asked about."""
    vectorizer, matrix = fitted()
    write("dv.bin", vectorizer)
    booster = xgboost.train(BINARY, DMatrix(matrix, label=rows.ANSWERS), num_boost_round=3)
    early = classifier(n_estimators=50, max_depth=2, learning_rate=1.0)
    early = stopped_early(early, matrix, vectorizer.transform(rows.VALIDATION))

    booster.save_model(FOLDER / "model.json")
    early.save_model(FOLDER / "classifier.json")
    if VERSION >= (1, 6):
        booster.save_model(FOLDER / "model.ubj")
    return dict.fromkeys(["model.json", "classifier.json", *(["model.ubj"] if VERSION >= (1, 6) else [])], "plain")


def write_refused() -> dict[str, str]:
    """Models that say no probability of a yes, or that are no trees to be added up; and why each is refused."""
    small = {**BINARY, "max_depth": 1}
    write_booster("squared.bin", {**small, "objective": "reg:squarederror"}, rounds=1)
    write_booster("linear.bin", {"objective": "binary:logistic", "booster": "gblinear", **COMMON}, rounds=2)
    thirds = [record["grade"] % 3 for record in rows.TRAINING]
    write_booster("three-classes.bin", {**small, "objective": "multi:softprob", "num_class": 3}, rounds=1, label=thirds)
    return {
        "squared.bin": "objective reg:squarederror",
        "linear.bin": "booster gblinear",
        "three-classes.bin": "objective multi:softprob, of three classes",
    }


def read(name: str) -> tuple[DictVectorizer, Any]:
    """The vectorizer and the model, read back from their file or files."""
    path = FOLDER / name
    if path.suffix == ".bin":
        return pickle.loads(path.read_bytes())
    model = classifier() if name == "classifier.json" else Booster({"nthread": 1})
    model.load_model(path)
    return pickle.loads((FOLDER / "dv.bin").read_bytes()), model


def answer(name: str, records_of: str) -> dict[str, Any]:
    """What the model in this file says."""
    vectorizer, model = read(name)
    matrix = vectorizer.transform(rows.RECORDS[records_of])
    if isinstance(model, Booster):
        booster, trees = model, (0, 0)  # all of them, even where training stopped early
        data = DMatrix(matrix, feature_names=booster.feature_names)
        probabilities = booster.predict(data)
    else:
        booster = model.get_booster()
        trees = (0, getattr(booster, "best_iteration", -1) + 1)
        data = DMatrix(matrix, missing=model.missing)
        probabilities = model.predict_proba(matrix)[:, 1]

    values = booster.predict(data, pred_contribs=True, iteration_range=trees)[:EXPLAINED].astype(float)
    margins = booster.predict(data, output_margin=True, iteration_range=trees)
    odds = np.log(probabilities.astype(float)) - np.log1p(-probabilities.astype(float))
    for what, output in ("the margin", margins), ("the probability", odds):
        gap = np.abs(values.sum(axis=1) - output[:EXPLAINED]).max()
        if not gap < 1e-5:
            raise ValueError(f"{name}: the contributions miss {what} by {gap}")

    names = vectorizer.feature_names_
    return {
        "classifier": type(model).__name__,
        **({} if name.endswith(".bin") else {"vectorizer": "dv.bin"}),
        "records": records_of,
        "blanks": rows.blanks(records_of),
        "probabilities": probabilities.tolist(),
        "contributions": rows.contributions(names, values),
        "expected": float(values[0, -1]),
    }


def main() -> None:
    """Write the files and the answers."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    asked = {**write_pickles(), **write_models()}
    answers = {
        "versions": {
            "python": platform.python_version(),
            "xgboost": xgboost.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "cases": {name: answer(name, records_of) for name, records_of in asked.items()},
        "refused": write_refused(),
    }
    rows.write_json(FOLDER / "answers.json", answers)
    rows.write_records()


if __name__ == "__main__":
    main()
