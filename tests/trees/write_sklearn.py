"""Write scikit-learn's trees as files, and beside them what that scikit-learn says of 40 records.

    python tests/trees/write_sklearn.py

writes files/sklearn-VERSION/CASE.bin and files/sklearn-VERSION/answers.json for the scikit-learn it runs under, and
files/records.json, which is the same for all. The files here were written with these, installed by pip:

| Python | scikit-learn | numpy | scipy | shap |
| --- | --- | --- | --- | --- |
| 3.11.7 | 1.9.1 | 2.4.6 | 1.17.1 | 0.51.0 |
| 3.12.1 | 1.5.2 | 2.0.2 | 1.14.1 | |
| 3.11.7 | 1.3.2 | 1.26.4 | 1.11.4 | |
| 3.10.13 | 1.2.2 | 1.23.5 | 1.10.1 | |
| 3.9.18 | 1.0.2 | 1.21.6 | 1.7.3 | |
| 3.8.18 | 0.24.2 | 1.19.5 | 1.6.3 | |

Nothing in the files or in the answers is of the moment: on the same versions, the script writes the same again.

records.json has four sets of records by their name. answers.json has the `versions` and the `cases` by the name of
their file. A case has the `classifier`, the set that its `records` are, the number fields that are null in any of them
(`blanks`), for each record the `probabilities` of the yes and, where shap can tell them, for each of the first eight
records the `contributions` of the features that have any, and what they are counted from (`expected`): probabilities
for trees and forests, log-odds for boosting.
"""

from __future__ import annotations

import pickle
import platform
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import rows
import scipy
import sklearn
from sklearn.feature_extraction import DictVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

VERSION = tuple(int(part) for part in sklearn.__version__.split(".")[:2])
if VERSION < (1, 0):
    from sklearn.experimental import enable_hist_gradient_boosting  # noqa: F401 (the import is what enables it)

from sklearn.ensemble import (  # noqa: E402 (after what enables the last of them)
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)

try:
    import shap
except ImportError:
    shap = None

TODAY = (1, 9)  # the version that the project locks: it alone writes what depends on no version
FOLDER = rows.FILES / f"sklearn-{sklearn.__version__}"
EXPLAINED = 8

TREE = {"max_depth": 4, "min_samples_leaf": 12, "random_state": 1}
FOREST = {"n_estimators": 3, **TREE}
BOOSTING = {"n_estimators": 3, "learning_rate": 0.6, "max_depth": 3, "min_samples_leaf": 12, "random_state": 1}
HIST = {"max_iter": 3, "learning_rate": 0.6, "max_depth": 4, "min_samples_leaf": 20, "max_bins": 30, "random_state": 1}


def write_pair(name: str, model: Any, rows_of: str = "plain", sparse: bool = False, words: bool = False) -> Path:
    """A file of a vectorizer and this model, trained on these rows, on request with words for classes."""
    vectorizer = DictVectorizer(sparse=sparse)
    matrix = vectorizer.fit_transform(rows.TRAININGS[rows_of])
    model.fit(matrix, [("no", "yes")[answer] for answer in rows.ANSWERS] if words else rows.ANSWERS)
    return write(name, (vectorizer, model))


def write(name: str, content: Any, protocol: int | None = None) -> Path:
    """A pickle, of Python's default protocol if no other is asked for."""
    path = FOLDER / name
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def of_every_version() -> dict[Path, str]:
    """The files that each scikit-learn can write, and the records that each is asked about."""
    grade = [DictVectorizer().fit(rows.TRAINING).feature_names_.index("grade")]
    plain = [
        write_pair("decision-tree.bin", DecisionTreeClassifier(**TREE)),
        write_pair("extra-tree.bin", ExtraTreeClassifier(**TREE)),
        write_pair("random-forest.bin", RandomForestClassifier(**FOREST)),
        write_pair("random-forest-sparse.bin", RandomForestClassifier(**FOREST), sparse=True),
        write_pair("random-forest-words.bin", RandomForestClassifier(class_weight="balanced", **FOREST), words=True),
        write_pair("extra-trees.bin", ExtraTreesClassifier(**FOREST)),
        write_pair("gradient-boosting.bin", GradientBoostingClassifier(**BOOSTING)),
        write_pair("gradient-boosting-exponential.bin", GradientBoostingClassifier(loss="exponential", **BOOSTING)),
        write_pair("gradient-boosting-zero.bin", GradientBoostingClassifier(init="zero", **BOOSTING)),
        write_pair("hist.bin", HistGradientBoostingClassifier(**HIST)),
    ]
    asked = dict.fromkeys(plain, "plain")
    asked[write_pair("hist-blanks.bin", HistGradientBoostingClassifier(**HIST), "blanks")] = "blanks"
    for name, rows_of in ("hist-codes.bin", "codes"), ("hist-codes-blanks.bin", "codes and blanks"):
        asked[write_pair(name, HistGradientBoostingClassifier(categorical_features=grade, **HIST), rows_of)] = rows_of
    return asked


def of_newer_versions() -> dict[Path, str]:
    """Trees that take blanks, from when scikit-learn had them on."""
    asked = {}
    if VERSION >= (1, 3):
        asked[write_pair("decision-tree-blanks.bin", DecisionTreeClassifier(**TREE), "blanks")] = "blanks"
    if VERSION >= (1, 4):
        asked[write_pair("random-forest-blanks.bin", RandomForestClassifier(**FOREST), "blanks")] = "blanks"
    if VERSION >= (1, 6):
        asked[write_pair("extra-trees-blanks.bin", ExtraTreesClassifier(**FOREST), "blanks")] = "blanks"
    return asked


def of_today() -> dict[Path, str]:
    """Other ways to put the same into a file."""
    pipeline = make_pipeline(DictVectorizer(sparse=False), StandardScaler(), RandomForestClassifier(**FOREST))
    pipeline.fit(rows.TRAINING, rows.ANSWERS)

    vectorizer, scaler = DictVectorizer(sparse=False), MinMaxScaler()
    matrix = vectorizer.fit_transform(rows.TRAINING)
    boosting = GradientBoostingClassifier(**BOOSTING).fit(scaler.fit_transform(matrix), rows.ANSWERS)
    tree = (vectorizer, DecisionTreeClassifier(**TREE).fit(matrix, rows.ANSWERS))
    forest = (vectorizer, RandomForestClassifier(**FOREST).fit(matrix, rows.ANSWERS))

    joblib.dump(forest, FOLDER / "random-forest-joblib.bin", compress=3)
    paths = [
        write("pipeline.bin", pipeline),
        write("scaler-gradient-boosting.bin", (vectorizer, scaler, boosting)),
        write("decision-tree-protocol-2.bin", tree, protocol=2),
        write("decision-tree-protocol-5.bin", tree, protocol=5),
        FOLDER / "random-forest-joblib.bin",
    ]
    return dict.fromkeys(paths, "plain")


def answer(path: Path, records_of: str) -> dict[str, Any]:
    """What the model says that is read back from the file."""
    content = joblib.load(path) if "joblib" in path.name else pickle.loads(path.read_bytes())
    vectorizer, *scalers, model = [step for _, step in content.steps] if isinstance(content, Pipeline) else content
    matrix = vectorizer.transform(rows.RECORDS[records_of])
    for scaler in scalers:
        matrix = scaler.transform(matrix)
    answers = {
        "classifier": type(model).__name__,
        "records": records_of,
        "blanks": rows.blanks(records_of),
        "probabilities": model.predict_proba(matrix)[:, 1].tolist(),
    }
    if shap:
        try:
            answers.update(explain(model, matrix[:EXPLAINED], vectorizer.feature_names_))
        except Exception as error:  # of any kind: shap's way to say that it doesn't know such a model
            print(f"{path.name}: no contributions, {type(error).__name__}: {error}")
    return answers


def explain(model: Any, matrix: Any, names: list[str]) -> dict[str, Any]:
    """shap's contributions to the yes, if they add up to what the model says."""
    matrix = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
    values = explainer.shap_values(matrix, check_additivity=False)
    values = values[:, :, 1] if values.ndim == 3 else values
    expected = float(np.ravel(explainer.expected_value)[-1])

    boosted = hasattr(model, "decision_function")
    output = model.decision_function(matrix) if boosted else model.predict_proba(matrix)[:, 1]
    gap = np.abs(values.sum(axis=1) + expected - output).max()
    if not gap < 1e-5:
        raise ValueError(f"they miss the model's output by {gap}")
    return {"contributions": rows.contributions(names, values), "expected": expected}


def main() -> None:
    """Write the files and the answers."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    asked = {**of_every_version(), **of_newer_versions(), **(of_today() if VERSION >= TODAY else {})}
    versions = {
        "python": platform.python_version(),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    answers = {
        "versions": {**versions, "shap": shap.__version__} if shap else versions,
        "cases": {path.name: answer(path, records_of) for path, records_of in asked.items()},
    }
    rows.write_json(FOLDER / "answers.json", answers)
    rows.write_records()


if __name__ == "__main__":
    main()
