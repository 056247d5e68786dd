"""Trees, forests and boosted trees say what their own libraries said of the same records, and why.

The files in tests/trees/files were written by the libraries themselves, in versions from 2021 on (see the scripts
beside them), with their probabilities and with the SHAP values of shap and of XGBoost.
"""

import copy
import functools
import itertools
import json
import math
import pickle
import posixpath
import random
import struct
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import GUNICORN, MODEL_FILE, ROOT, SEED, probabilities, read, run, running
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import fbeta_score, make_scorer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from test_trial import put

from serving.model import ubjson
from serving.model.base import About, Model
from serving.model.packing import Parts
from serving.model.quick_scorer import QuickScorer
from serving.model.sound import require_sound_trees
from serving.model.stand_ins import BadModel, Inert
from serving.model.through_sklearn import SklearnModel
from serving.model.tree_model import FEW, TreeModel
from serving.model.trees import Codes, Ensemble, Tree, laid_out
from serving.records import JSONReader
from serving.schema import from_features

FILES = Path(__file__).parent / "trees" / "files"
VERSIONS = {folder.name: json.loads((folder / "answers.json").read_text()) for folder in sorted(FILES.glob("*-*"))}
CASES = [(version, case) for version, said in VERSIONS.items() for case in said["cases"]]
REFUSED = [(version, case, why) for version, said in VERSIONS.items() for case, why in said.get("refused", {}).items()]
RECORDS = json.loads((FILES / "records.json").read_text())


def files(version: str, case: str) -> list[Path]:
    vectorizer = VERSIONS[version]["cases"].get(case, {}).get("vectorizer")
    return [FILES / version / name for name in (vectorizer, case) if name]


def with_blanks(model: Model, names: list[str]) -> bytes:
    """The model's schema, with numbers of these names that may be blank, and then are missing."""
    schema = msgspec.to_builtins(model.schema)
    for field in schema["fields"]:
        if field["name"] in names:
            field["blank"] = "NaN"
    return msgspec.json.encode(schema)


@functools.cache
def model_of(version: str, case: str) -> Model:
    model = read(*files(version, case))
    blanks = VERSIONS[version]["cases"][case]["blanks"]
    return read(*files(version, case), schema=with_blanks(model, blanks)) if blanks else model


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_all_classes_and_versions_are_there():
    assert [*VERSIONS] == [
        *(f"sklearn-{version}" for version in ("0.24.2", "1.0.2", "1.2.2", "1.3.2", "1.5.2", "1.9.1")),
        *(f"xgboost-{version}" for version in ("1.4.2", "1.7.6", "2.1.4", "3.0.5", "3.4.1")),
    ]
    for version, said in VERSIONS.items():
        classes = {case["classifier"] for case in said["cases"].values()}
        if version.startswith("xgboost"):
            assert classes == {"Booster", "XGBClassifier"}
        else:
            single, several = ("DecisionTree", "ExtraTree"), ("RandomForest", "ExtraTrees")
            names = (*single, *several, "GradientBoosting", "HistGradientBoosting")
            assert {f"{name}Classifier" for name in names} <= classes


@pytest.mark.parametrize(("version", "case"), CASES)
def test_each_scores_as_its_own_library_does_alone_and_together(version, case):
    said, model = VERSIONS[version]["cases"][case], model_of(version, case)
    records = RECORDS[said["records"]]
    assert isinstance(model, TreeModel)
    together = probabilities(model, records)
    assert together == pytest.approx(said["probabilities"], abs=2e-6 if version.startswith("xgboost") else 1e-12, rel=0)
    assert [probabilities(model, [record])[0] for record in records] == together
    assert len(records) > FEW  # else the arrays are not scored in another way


@pytest.mark.parametrize(("version", "case"), CASES)
def test_each_scores_the_same_where_its_trees_are_walked(version, case, monkeypatch):
    said, model = VERSIONS[version]["cases"][case], model_of(version, case)
    records = RECORDS[said["records"]]
    monkeypatch.setattr("serving.model.quick_scorer.MOST_BYTES", 0)
    walked = read(*files(version, case), schema=msgspec.json.encode(model.schema))
    for record in records[:20]:
        assert probabilities(walked, [record]) == probabilities(model, [record])


@pytest.mark.parametrize(("version", "case"), CASES)
def test_the_reasons_are_the_shap_values_and_add_up(version, case):
    said, model = VERSIONS[version]["cases"][case], model_of(version, case)
    records = RECORDS[said["records"]]
    columns = JSONReader(model.schema)(json.dumps(records).encode(), len(records)).columns
    reasons, scores = model.reasons(columns), model.probabilities(columns)
    is_mean = (
        said["classifier"] in ("DecisionTreeClassifier", "ExtraTreeClassifier") or "forest" in case or "ees" in case
    )
    assert model.reasons_unit == ("probability" if is_mean or case == "pipeline.bin" else "log-odds")
    values = scores if model.reasons_unit == "probability" else [*map(log_odds, scores)]
    # What they are counted from is the same for all records.
    expected = [value - sum(reason.share for reason in found) for value, found in zip(values, reasons, strict=True)]
    assert max(expected) - min(expected) < 1e-9
    assert all([*map(abs, shares)] == sorted(map(abs, shares), reverse=True) for shares in map(shares_of, reasons))
    if "contributions" in said:
        assert expected[0] == pytest.approx(said["expected"], abs=1e-6)
        for found, contributions in zip(reasons, said["contributions"], strict=False):
            by_field = dict.fromkeys(model.schema.names, 0.0)
            for feature, share in contributions.items():
                by_field[feature if feature in by_field else feature.partition("=")[0]] += share
            assert {reason.field: reason.share for reason in found} == pytest.approx(by_field, abs=1e-6)


@pytest.mark.parametrize(
    ("model", "record", "category"),
    [
        (model_of("sklearn-1.3.2", "random-forest.bin"), RECORDS["plain"][0], "contract"),
        (read(MODEL_FILE), SEED, "contract"),
    ],
    ids=["forest", "linear"],
)
def test_a_reason_has_the_value_that_was_given(model, record, category):
    given = {name: record[name] for name in model.schema.names if name != category}
    columns = JSONReader(model.schema, lenient=True, absent=model.absent)(json.dumps(given).encode(), 1).columns
    [reasons] = model.reasons(columns)
    assert {reason.field: reason.value for reason in reasons} == given | {category: None}


# Three ask for reasons at once, in greenlets, of which each lets others in while it makes ready.
ASKED_AT_ONCE = """
import gevent.monkey
gevent.monkey.patch_all()
import sys, time
from pathlib import Path
import gevent
from serving.model import file, many_records

made = []

class Slow(many_records.Shapley):
    def __init__(self, *given):
        made.append(self)
        time.sleep(0.01)
        super().__init__(*given)

many_records.Shapley = Slow
path = Path(sys.argv[1])
model = file.of(file.Source([path.name], [path.read_bytes()], b""))
asked = [gevent.spawn(model.reasons, [[0.5]]) for _ in range(3)]
gevent.joinall(asked)
print(len(made), len({str(each.value) for each in asked}))
"""


def test_reasons_that_are_asked_for_at_once_are_made_ready_for_once(tmp_path):
    """What each would make ready for itself can take hundreds of megabytes."""
    records = [{"size": place / 50} for place in range(50)]
    pipeline = make_pipeline(DictVectorizer(), DecisionTreeClassifier()).fit(
        records, [place > 20 for place in range(50)]
    )
    (tmp_path / "model.bin").write_bytes(pickle.dumps(pipeline))
    done = run("-c", ASKED_AT_ONCE, str(tmp_path / "model.bin"))
    assert (done.stdout, done.stderr) == ("1 1\n", "")


def shares_of(reasons: Any) -> list[float]:
    return [reason.share for reason in reasons]


def test_most_cases_are_compared_with_shap():
    has = [case for version, case in CASES if "contributions" in VERSIONS[version]["cases"][case]]
    assert len(has) > 60


@pytest.mark.parametrize(("version", "case", "why"), REFUSED)
def test_what_is_no_probability_or_of_other_trees_is_refused_with_its_reason(version, case, why):
    said = {
        "squared.bin": "its objective is reg:squarederror, whose answer is no probability",
        "linear.bin": "its booster is gblinear",
        "three-classes.bin": "it answers more than one yes/no question",
    }
    with pytest.raises(BadModel, match=said[case]):
        read(*files(version, case))


def test_serving_trees_imports_none_of_their_libraries():
    code = """
import json, sys, predict
client = predict.app.test_client()
record, many = json.loads(sys.argv[1]), [json.loads(sys.argv[1])] * 20
others = ("sklearn", "scipy", "xgboost", "pandas")
assert client.post("/predict", json=record).status_code == 200
print("numpy" in sys.modules, sorted({*others} & sys.modules.keys()))
assert client.post("/predict?explain=true", json=many).status_code == 200
print("numpy" in sys.modules, sorted({*others} & sys.modules.keys()))
"""
    for version, case in [("sklearn-1.3.2", "random-forest.bin"), ("xgboost-2.1.4", "model.ubj")]:
        setting = ",".join(map(str, files(version, case)))
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(RECORDS["plain"][0])],
            cwd=ROOT,
            env={"PATH": "", "SERVING_MODEL": setting},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-2:] == ["False []", "True []"]


# Reasons, worked out from what they are.


def by_definition(trees: list[Tree], record: dict[int, float], features: int) -> list[float]:
    """The Shapley values of features, as the mean over all orders in which they can become known."""

    def value(tree: Tree, node: int, known: set[int]) -> float:
        if tree.left[node] < 0:
            return tree.value[node]
        sides = tree.left[node], tree.right[node]
        feature, split = tree.feature[node], tree.split[node]
        if feature in known:
            given = record[feature]
            if isinstance(split, Codes):
                is_missing, goes_left = given not in split.known, given in split.left
            else:
                is_missing, goes_left = math.isnan(given), given <= split
            return value(tree, sides[0 if (tree.missing_left[node] if is_missing else goes_left) else 1], known)
        weight = tree.cover[node]
        # Where nobody came by, either side is as likely.
        shares = [tree.cover[side] / weight if weight else 0.5 for side in sides]
        return sum(share * value(tree, side, known) for share, side in zip(shares, sides, strict=True))

    found = [0.0] * features
    for order in itertools.permutations(range(features)):
        known: set[int] = set()
        before = sum(value(tree, 0, known) for tree in trees)
        for feature in order:
            known.add(feature)
            after = sum(value(tree, 0, known) for tree in trees)
            found[feature] += after - before
            before = after
    return [each / math.factorial(features) for each in found]


def grown(dice: random.Random, features: int, depth: int) -> Tree:
    """A tree of made-up tests, of which a way has several of the same feature, with thresholds, codes and no weight."""
    columns: list[list[Any]] = [[] for _ in range(7)]

    def grow(left_over: int, weight: float) -> int:
        node = len(columns[0])
        for column, start in zip(columns, (-1, -1, 0, 0.0, False, dice.uniform(-1, 1), weight), strict=True):
            column.append(start)
        if left_over and dice.random() < 0.85:
            feature = dice.randrange(features)
            codes = Codes(frozenset({1.0, 3.0}), frozenset({0.0, 1.0, 2.0, 3.0}))
            split = codes if feature == features - 1 else dice.choice([0.5, 1.5, 2.5, 3.5])
            share = dice.choice([0.0, 0.2, 0.5, 0.9])
            made = (grow(left_over - 1, weight * share), grow(left_over - 1, weight * (1 - share)))
            for column, each in zip(columns, (*made, feature, split, dice.random() < 0.5), strict=False):
                column[node] = each
        return node

    grow(depth, 100.0)
    return Tree(*columns)


def made(trees: list[Tree], features: int, **options: Any) -> TreeModel:
    """A model of trees over numbers f0, f1, ..."""
    names = [f"f{number}" for number in range(features)]
    vectorizer = Inert()
    vectorizer.state = {"feature_names_": names, "separator": "=", "sparse": False}
    about = About("made up", "", "", None)
    ensemble = Ensemble(trees, **{"is_logistic": True, "is_single": False, **options})
    return TreeModel(Parts(vectorizer, [], None), from_features(names, "="), about, ensemble)


@pytest.mark.parametrize("seed", range(12))
def test_shares_are_the_mean_over_the_orders_in_which_features_become_known(seed):
    dice, features = random.Random(seed), 4
    trees = [grown(dice, features, depth) for depth in (0, 1, 3, 6)]
    model = made(trees, features)
    rows = [[dice.choice([0.0, 1.0, 2.0, 3.0, 4.0, math.nan]) for _ in range(features)] for _ in range(5)]
    for row, found in zip(rows, model.reasons([*zip(*rows, strict=True)]), strict=True):
        shares = {reason.field: reason.share for reason in found}
        wanted = by_definition(trees, dict(enumerate(row)), features)
        assert [shares[f"f{number}"] for number in range(features)] == pytest.approx(wanted, abs=1e-9)


def test_a_deep_way_of_many_features_has_exact_shares():
    # One leaf of 1 behind 16 tests, each of its own feature: all features are alike.
    depth = 16
    left = [each for number in range(depth) for each in (2 * number + 2, -1)] + [-1]
    right = [each for number in range(depth) for each in (2 * number + 1, -1)] + [-1]
    feature = [each for number in range(depth) for each in (number, 0)] + [0]
    cover = [each for number in range(depth) for each in (0.5**number, 0.5 ** (number + 1))] + [0.5**depth]
    nodes = len(left)
    tree = Tree(left, right, feature, [0.5] * nodes, [False] * nodes, [0.0] * (nodes - 1) + [1.0], cover)
    [reasons] = made([tree], depth).reasons([[0.0]] * depth)
    assert shares_of(reasons) == pytest.approx([(1 - 0.5**depth) / depth] * depth, abs=1e-12)


def test_trees_of_a_single_leaf_score_and_have_no_reasons():
    leaf = Tree([-1], [-1], [0], [0.0], [False], [0.25], [10.0])
    model = made([leaf, leaf], 2, is_logistic=False, divisor=2)
    assert model.probabilities([[1.0], [2.0]]) == [0.25]
    assert model.probabilities([[1.0] * 20, [2.0] * 20]) == [0.25] * 20
    assert [reason.share for [*found] in model.reasons([[1.0], [2.0]]) for reason in found] == [0, 0]


@pytest.mark.parametrize(("is_strict", "sides"), [(False, [0.0, 0.0, 1.0]), (True, [0.0, 1.0, 1.0])])
def test_a_value_that_is_the_threshold_goes_left_in_scikit_learn_and_right_in_xgboost(is_strict, sides):
    tree = Tree([1, -1, -1], [2, -1, -1], [0, 0, 0], [1.5, 0, 0], [False] * 3, [0.5, 0.0, 1.0], [2.0, 1.0, 1.0])
    model = made([tree], 1, is_logistic=False, is_strict=is_strict)
    values = [1.0, 1.5, 2.0]
    assert [model.probabilities([[value]])[0] for value in values] == sides
    assert model.probabilities([values * 4]) == sides * 4


def test_numbers_are_compared_as_single_precision_rounds_them():
    # 16777217 is between two numbers of single precision, of which it becomes the lower one.
    tree = Tree([1, -1, -1], [2, -1, -1], [0, 0, 0], [16777216.0, 0, 0], [False] * 3, [0.5, 0.0, 1.0], [2.0, 1.0, 1.0])
    for is_single, side in ((True, 0.0), (False, 1.0)):
        model = made([tree], 1, is_logistic=False, is_single=is_single)
        assert model.probabilities([[16777217.0]]) == [side]
        assert model.probabilities([[16777217.0] * 20]) == [side] * 20


def test_a_number_beyond_single_precision_is_infinite():
    tree = Tree([1, -1, -1], [2, -1, -1], [0, 0, 0], [3e38, 0, 0], [False] * 3, [0.5, 0.0, 1.0], [2.0, 1.0, 1.0])
    model = made([tree], 1, is_logistic=False)
    values = [1e39, -1e39]
    assert [model.probabilities([[value]])[0] for value in values] == [1.0, 0.0]
    assert model.probabilities([values * 5]) == [1.0, 0.0] * 5


def stairs(leaves: int) -> Tree:
    """A tree with a leaf for each whole number from 0 on, whose value it is: each test splits off the lowest."""
    left, right, split, value = [], [], [], []
    for number in range(leaves - 1):
        node = 2 * number
        left += [node + 1, -1]
        right += [node + 2, -1]
        split += [number + 0.5, 0.0]
        value += [0.0, float(number)]
    size = 2 * leaves - 1
    return Tree(
        [*left, -1], [*right, -1], [0] * size, [*split, 0.0], [False] * size, [*value, leaves - 1.0], [1.0] * size
    )


@pytest.mark.parametrize("leaves", [1, 2, 8, 9, 16, 17, 32, 33, 63, 64, 65, 80])
def test_each_leaf_of_a_tree_is_come_to_however_many_it_has(leaves):
    model = made([stairs(leaves), stairs(2), stairs(leaves)], 1, is_logistic=False, start=0.5)
    for number in range(leaves + 1):
        wanted = 0.5 + 2 * min(number, leaves - 1) + min(number, 1)
        assert model.probabilities([[float(number)]]) == [wanted]
        assert model.probabilities([[float(number)] * (FEW + 1)]) == [wanted] * (FEW + 1)


@pytest.mark.parametrize(("most", "is_quick"), [(24, True), (23, False)])
def test_trees_are_walked_where_what_their_values_rule_out_takes_too_many_bytes(most, is_quick, monkeypatch):
    monkeypatch.setattr("serving.model.quick_scorer.MOST_BYTES", most)
    # For each of the 8 ranks among 7 thresholds, a byte for each of the trees.
    nodes = laid_out(Ensemble([stairs(8)] * 3, is_logistic=False), [0])
    assert (QuickScorer.of(nodes, [], 0.0) is not None) == is_quick


def test_an_array_of_many_blocks_is_scored_as_its_records_alone():
    dice = random.Random(1)
    trees = [grown(dice, 4, 12) for _ in range(30)]
    model = made(trees, 4)
    columns = [[dice.choice([0.0, 1.0, 2.0, 3.0, 4.0, math.nan]) for _ in range(5000)] for _ in range(4)]
    found = model.probabilities(columns)
    for place in (0, 1, 1023, 1024, 2047, 2048, 4095, 4096, 4999):
        assert model.probabilities([[column[place]] for column in columns]) == [found[place]]


# Missing values.


@pytest.mark.parametrize("case", ["hist-blanks.bin", "decision-tree-blanks.bin"])
def test_a_blank_can_stay_missing_in_json_tables_and_metrics(case, tmp_path):
    version = "sklearn-1.9.1"
    said, model = VERSIONS[version]["cases"][case], model_of(version, case)
    (tmp_path / "schema.json").write_bytes(with_blanks(read(*files(version, case)), said["blanks"]))
    records = RECORDS["blanks"]
    place = next(place for place, record in enumerate(records) if record["age"] is None)
    settings = {"SERVING_MODEL": str(files(version, case)[0]), "SERVING_SCHEMA": str(tmp_path / "schema.json")}
    with running([*GUNICORN, "--workers", "1"], **settings) as service:
        answer = service.predict(records[place]).json
        assert answer["churn_probability"] == pytest.approx(said["probabilities"][place], abs=1e-12)
        header = ",".join(records[place])
        cells = ",".join("" if value is None else str(value) for value in records[place].values())
        table = service.predict(f"{header}\n{cells}\n".encode(), "text/csv").body.decode().splitlines()
        assert f",{answer['churn_probability']!r}," in table[1]
        explained = service.request(
            "POST", "/predict?explain=true", json.dumps(records[place]).encode(), {"Content-Type": "application/json"}
        ).json
        assert {reason["field"]: reason["value"] for reason in explained["reasons"]}["age"] is None
        assert 'serving_number_sum{field="age"} 0.0' in service.get("/metrics").body.decode()
        assert service.predict({**records[place], "bonus": None}).status == 422
    assert model.schema.blanks


@pytest.mark.parametrize(
    ("version", "case"),
    [
        ("sklearn-1.9.1", "gradient-boosting.bin"),
        ("sklearn-1.9.1", "random-forest-sparse.bin"),
        ("sklearn-1.3.2", "random-forest.bin"),
        ("sklearn-1.5.2", "extra-trees.bin"),
        ("sklearn-1.2.2", "decision-tree.bin"),
    ],
)
def test_a_blank_cannot_stay_missing_where_the_library_takes_none(version, case):
    file = FILES / version / case
    with pytest.raises(BadModel, match="knows no missing values"):
        read(file, schema=with_blanks(read(file), ["age"]))


@pytest.mark.parametrize("kind", ["linear", "older tree"])
def test_a_blank_cannot_stay_missing_where_the_model_knows_no_missing_values(kind, tmp_path):
    records = [{"a": 1.0}, {"a": 2.0}]
    vectorizer = DictVectorizer()
    pair = vectorizer, LogisticRegression().fit(vectorizer.fit_transform(records), [0, 1])
    (tmp_path / "model.bin").write_bytes(pickle.dumps(pair))
    file, name = (
        (tmp_path / "model.bin", "a") if kind == "linear" else (FILES / "sklearn-1.0.2/decision-tree.bin", "age")
    )
    with pytest.raises(BadModel, match="knows no missing values"):
        read(file, schema=with_blanks(read(file), [name]))


def test_leniently_what_is_absent_is_missing_to_a_sparse_booster_and_0_to_a_dense_one():
    record = RECORDS["plain"][0]
    without = {name: value for name, value in record.items() if name != "balance"}
    sparse, dense = (read(FILES / "xgboost-3.0.5" / f"booster-{kind}.bin") for kind in ("sparse", "dense"))
    nothing = {**without, "balance": None}
    zero = {**without, "balance": 0.0}
    # A blank is missing to either.
    assert probabilities_leniently(sparse, without) == probabilities_leniently(sparse, nothing)
    assert probabilities_leniently(sparse, without) != probabilities_leniently(sparse, zero)
    assert probabilities_leniently(dense, without) == probabilities_leniently(dense, zero)
    assert probabilities_leniently(dense, without) != probabilities_leniently(dense, nothing)


def probabilities_leniently(model: Model, record: dict[str, Any]) -> list[float]:
    return model.probabilities(JSONReader(model.schema, True, model.absent)(json.dumps(record).encode(), 1).columns)


# What people's scripts leave in and around their models.


def agrees(data: bytes, folder: Path, vectorizer: DictVectorizer, classifier: Any, kind: type = TreeModel) -> None:
    """The file with these bytes says what its classifier says of the plain records."""
    (folder / "model.bin").write_bytes(data)
    model = read(folder / "model.bin")
    assert type(model) is kind
    expected = classifier.predict_proba(vectorizer.transform(RECORDS["plain"]))[:, 1]
    assert probabilities(model, RECORDS["plain"]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("protocol", range(6))
def test_boosting_is_read_in_every_pickle_protocol(protocol, tmp_path):
    vectorizer, classifiers = of_scikit_learn()
    for kind in ("histogram", "gradient"):
        agrees(pickle.dumps((vectorizer, classifiers[kind]), protocol), tmp_path, vectorizer, classifiers[kind])


def test_a_model_that_was_searched_for_is_the_best_one(tmp_path):
    vectorizer, classifiers = of_scikit_learn()
    answers = [place % 2 for place in range(len(RECORDS["plain"]))]
    grid = GridSearchCV(classifiers["tree"], {"max_depth": [1, 2]}, scoring="roc_auc", cv=2)
    grid.fit(vectorizer.transform(RECORDS["plain"]), answers)
    agrees(pickle.dumps((vectorizer, grid)), tmp_path, vectorizer, grid)
    whole = RandomizedSearchCV(
        make_pipeline(DictVectorizer(), RandomForestClassifier(2, random_state=1)),
        {"randomforestclassifier__max_depth": [1, 2, 3]},
        n_iter=2,
        cv=2,
        random_state=1,
    ).fit(RECORDS["plain"], answers)
    parts = [step for _, step in whole.best_estimator_.steps]
    agrees(pickle.dumps(whole), tmp_path, *parts)


def test_what_a_model_was_measured_by_is_no_part_of_it(tmp_path):
    vectorizer, _ = of_scikit_learn()
    matrix = vectorizer.transform(RECORDS["plain"])
    measured = HistGradientBoostingClassifier(
        max_iter=3, early_stopping=True, scoring=make_scorer(fbeta_score, beta=2), min_samples_leaf=2
    ).fit(matrix, [place % 2 for place in range(len(matrix))])
    agrees(pickle.dumps((vectorizer, measured)), tmp_path, vectorizer, measured)
    measured.metric_ = posixpath.join
    data = pickle.dumps((vectorizer, measured), 0).replace(b"cposixpath\njoin\n", b"c__main__\nmetric\n")
    refused(tmp_path, data, "__main__.metric, which only the script has that trained it")


def test_a_vectorizer_of_single_precision_is_read_without_a_scaler(tmp_path):
    vectorizer = DictVectorizer(dtype=np.float32, sparse=False)
    matrix, answers = vectorizer.fit_transform(RECORDS["plain"]), [place % 2 for place in range(40)]
    boosted = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2).fit(matrix, answers)
    agrees(pickle.dumps((vectorizer, boosted)), tmp_path, vectorizer, boosted)
    # Between two numbers of single precision: the library rounds it before it compares.
    model, age = read(tmp_path / "model.bin"), {**RECORDS["plain"][0], "income": 12345.67849}
    expected = boosted.predict_proba(vectorizer.transform([age]))[0, 1]
    assert probabilities(model, [age]) == [pytest.approx(expected, abs=1e-12)]
    scaler = StandardScaler()
    forest = RandomForestClassifier(2, random_state=1).fit(scaler.fit_transform(matrix), answers)
    (tmp_path / "model.bin").write_bytes(pickle.dumps((vectorizer, scaler, forest)))
    assert isinstance(read(tmp_path / "model.bin"), SklearnModel)


def test_leniently_a_blank_of_text_and_number_is_a_missing_number(tmp_path):
    records = [{"a": "x"}, {"a": 1.0}, {"a": 2.5}, {"a": "y"}, {"a": 3.0}, {"a": math.nan}] * 10
    vectorizer = DictVectorizer(sparse=False)
    matrix = vectorizer.fit_transform(records)
    boosted = HistGradientBoostingClassifier(max_iter=9, min_samples_leaf=2).fit(matrix, [0, 0, 1, 0, 1, 1] * 10)
    (tmp_path / "model.bin").write_bytes(pickle.dumps((vectorizer, boosted)))
    expected = boosted.predict_proba(vectorizer.transform([{"a": None}]))[0, 1]
    assert probabilities_leniently(read(tmp_path / "model.bin"), {"a": None}) == [pytest.approx(expected, abs=1e-12)]


@pytest.mark.filterwarnings("ignore:Trying to unpickle estimator")
def test_what_numbered_an_older_classifiers_answers_is_no_part_of_it(tmp_path, monkeypatch):
    # XGBoost may not be installed; its classes are pickled by name and attributes.
    monkeypatch.setitem(sys.modules, "xgboost", types.ModuleType("xgboost"))
    for name, kind in (("core", "Booster"), ("sklearn", "XGBClassifier"), ("compat", "XGBoostLabelEncoder")):
        module = types.ModuleType(f"xgboost.{name}")
        setattr(module, kind, type(kind, (), {"__module__": module.__name__}))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    case = "classifier-early-stopping.bin"
    vectorizer, classifier = pickle.loads((FILES / "xgboost-1.4.2" / case).read_bytes())
    classifier._le = LabelEncoder().fit([0, 1])
    (tmp_path / "model.bin").write_bytes(pickle.dumps((vectorizer, classifier)))
    records = RECORDS["plain"]
    expected = probabilities(model_of("xgboost-1.4.2", case), records)
    assert probabilities(read(tmp_path / "model.bin"), records) == expected


def test_what_is_missing_to_an_older_classifier_is_read_from_its_json(tmp_path):
    model = json.loads((FILES / "xgboost-1.4.2" / "classifier.json").read_text())
    told = json.loads(model["learner"]["attributes"]["scikit_learn"])
    assert math.isnan(told["missing"])
    model["learner"]["attributes"]["scikit_learn"] = json.dumps({**told, "missing": 0.0})
    (tmp_path / "model.json").write_text(json.dumps(model))
    usual, zero = (
        read(FILES / "xgboost-1.4.2" / "dv.bin", path)
        for path in (FILES / "xgboost-1.4.2" / "classifier.json", tmp_path / "model.json")
    )
    assert (math.isnan(usual._ensemble.missing), zero._ensemble.missing) == (True, 0.0)


@pytest.mark.parametrize("start", ["\ufeff", "\n  "])
def test_xgboosts_json_may_begin_with_a_mark_or_a_blank(start, tmp_path):
    (tmp_path / "model.json").write_text(start + json.dumps(MODEL_JSON), encoding="utf-8")
    said = VERSIONS["xgboost-3.0.5"]["cases"]["model.json"]
    model = read(FILES / "xgboost-3.0.5" / "dv.bin", tmp_path / "model.json")
    assert probabilities(model, RECORDS["plain"]) == pytest.approx(said["probabilities"], abs=2e-6)


# Damage.


@functools.cache
def of_scikit_learn() -> tuple[DictVectorizer, dict[str, Any]]:
    vectorizer = DictVectorizer(sparse=False)
    records = RECORDS["plain"]
    matrix, answers = vectorizer.fit_transform(records), [place % 2 for place in range(len(records))]
    return vectorizer, {
        "tree": DecisionTreeClassifier(random_state=1).fit(matrix, answers),
        "forest": RandomForestClassifier(2, random_state=1).fit(matrix, answers),
        "gradient": GradientBoostingClassifier(n_estimators=2, random_state=1).fit(matrix, answers),
        "histogram": HistGradientBoostingClassifier(
            max_iter=2, min_samples_leaf=2, categorical_features=[vectorizer.vocabulary_["grade"]]
        ).fit(matrix, answers),
    }


def claim(state: Any) -> None:
    state["node_count"] = 10**6


def no_leaves(state: Any) -> None:
    nodes = state["nodes"]
    nodes["left_child"] = nodes["right_child"] = 0


TREE_DAMAGE = {
    "a cycle": (put("left_child", 0, 0), "leads back to itself"),
    "a cycle of two": (put("right_child", 1, 0), "leads back to itself"),
    "no leaves": (no_leaves, "leads back to itself"),
    "a child outside": (put("right_child", 0, 10**6), "out of its"),
    "a negative child": (put("right_child", 0, -3), "out of its"),
    "a feature outside": (put("feature", 0, 10**6), "out of its"),
    "a negative feature": (put("feature", 0, -1), "out of its"),
    "a threshold of NaN": (put("threshold", 0, math.nan), "a threshold that is no number"),
    "a weight of NaN": (put("weighted_n_node_samples", 1, math.nan), "no numbers"),
    "a negative weight": (put("weighted_n_node_samples", 1, -1), "no numbers"),
    "10^6 nodes": (claim, "1,000,000 nodes"),
}


class Claiming:
    """Pickled as a tree whose state is another one than it has, which scikit-learn itself would not take."""

    def __init__(self, tree: Any, change: Callable[[Any], None]):
        self.tree, self.change = tree, change

    def __reduce__(self) -> Any:
        make, arguments, state = self.tree.__reduce__()
        state = {**state, "nodes": state["nodes"].copy(), "values": state["values"].copy()}
        self.change(state)
        return make, arguments, state


@pytest.mark.parametrize("kind", ["tree", "forest", "gradient"])
@pytest.mark.parametrize("damage", TREE_DAMAGE)
def test_a_damaged_tree_is_refused(damage, kind, tmp_path):
    change, said = TREE_DAMAGE[damage]
    vectorizer, classifiers = of_scikit_learn()
    damaged = copy.deepcopy(classifiers[kind])
    tree = {
        "tree": lambda: damaged,
        "forest": lambda: damaged.estimators_[1],
        "gradient": lambda: damaged.estimators_[1, 0],
    }
    holder = tree[kind]()
    holder.tree_ = Claiming(holder.tree_, change)
    refused(tmp_path, pickle.dumps((vectorizer, damaged)), said)


def refused(folder: Path, data: bytes, said: str) -> None:
    file = folder / "model.bin"
    file.write_bytes(data)
    with pytest.raises(BadModel) as error:
        read(file)
    assert said in str(error.value)


def values_of(change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def put_values(state: Any) -> None:
        state["values"] = change(state["values"])

    return put_values


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (values_of(lambda values: values[:, :, :1]), "of other than two classes"),
        (values_of(lambda values: -values), "shares that are none"),
        (values_of(lambda values: values * math.nan), "no numbers"),
        (values_of(lambda values: values[:-1]), "of other than two classes"),
    ],
)
def test_leaves_without_shares_are_refused(change, said, tmp_path):
    vectorizer, classifiers = of_scikit_learn()
    damaged = copy.deepcopy(classifiers["tree"])
    damaged.tree_ = Claiming(damaged.tree_, change)
    refused(tmp_path, pickle.dumps((vectorizer, damaged)), said)


HISTOGRAM_DAMAGE = {
    "a cycle": ("left", 0, "leads back to itself"),
    "a child outside": ("right", 10**6, "out of its"),
    "a feature outside": ("feature_idx", 500, "out of its"),
    "a set outside": ("bitset_idx", 77, "categories that it does not have"),
}


@pytest.mark.parametrize("damage", HISTOGRAM_DAMAGE)
def test_damaged_histogram_boosting_is_refused(damage, tmp_path):
    field, value, said = HISTOGRAM_DAMAGE[damage]
    vectorizer, classifiers = of_scikit_learn()
    damaged = copy.deepcopy(classifiers["histogram"])
    nodes = damaged._predictors[0][0].nodes
    if field == "bitset_idx":
        nodes["is_categorical"][0] = 1
    nodes[field][0] = value
    refused(tmp_path, pickle.dumps((vectorizer, damaged)), said)


@pytest.mark.parametrize("damage", [name for name in HISTOGRAM_DAMAGE if name != "a set outside"])
def test_damaged_histogram_boosting_in_another_classifier_is_refused(damage, tmp_path):
    """There scikit-learn scores, which would follow them anywhere."""
    field, value, said = HISTOGRAM_DAMAGE[damage]
    vectorizer, _ = of_scikit_learn()
    votes = VotingClassifier(
        [("histogram", HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=2))], voting="soft"
    )
    matrix = vectorizer.transform(RECORDS["plain"])
    votes.fit(matrix, [place % 2 for place in range(len(matrix))])
    file = tmp_path / "whole.bin"
    file.write_bytes(pickle.dumps((vectorizer, votes)))
    assert read(file).about.classifier == "VotingClassifier"
    votes.estimators_[0]._predictors[0][0].nodes[field][0] = value
    refused(tmp_path, pickle.dumps((vectorizer, votes)), said)


def test_a_classifier_that_holds_itself_is_looked_through_once():
    forest = RandomForestClassifier(3, max_depth=2).fit([[0.0], [1.0], [2.0]], [False, True, True])
    forest.around = [forest]
    require_sound_trees(forest, 1)
    forest.estimators_[-1].tree_.children_left[0] = 0
    with pytest.raises(BadModel, match="leads back to itself"):
        require_sound_trees(forest, 1)


def test_trees_for_other_features_than_the_vectorizers_are_refused(tmp_path):
    _, classifiers = of_scikit_learn()
    others = [RECORDS["plain"][0], {"age": 1, "grade": 2}, {"a": "another one"}]
    for other in (
        DictVectorizer(sparse=False).fit(others[1:2]),
        DictVectorizer(sparse=False).fit(RECORDS["plain"] + others),
    ):
        for kind in classifiers:
            refused(tmp_path, pickle.dumps((other, classifiers[kind])), "features")
        plain = HistGradientBoostingClassifier(max_iter=1).fit([[1.0], [2.0]] * 30, [0, 1] * 30)
        refused(tmp_path, pickle.dumps((other, plain)), "features")
        (tmp_path / "dv.bin").write_bytes(pickle.dumps(other))
        with pytest.raises(BadModel, match="features, and its vectorizer"):
            read(tmp_path / "dv.bin", FILES / "xgboost-3.0.5" / "model.json")


MODEL_JSON = json.loads((FILES / "xgboost-3.0.5" / "model.json").read_text())


def in_first_tree(**changes: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tree = model["learner"]["gradient_booster"]["model"]["trees"][0]
        for name, value in changes.items():
            tree[name] = value(tree[name]) if callable(value) else value

    return change


def at(place: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda found: [*found[:place], value, *found[place + 1 :]]


def parameter(name: str, value: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model["learner"]["learner_model_param"][name] = value

    return change


XGBOOST_DAMAGE = {
    "a cycle": (in_first_tree(left_children=at(0, 0)), "leads back to itself"),
    "a child outside": (in_first_tree(right_children=at(0, 10**6)), "out of its"),
    "a negative child": (in_first_tree(right_children=at(0, -2)), "out of its"),
    "a feature outside": (in_first_tree(split_indices=at(0, 99)), "out of its"),
    "no leaves": (in_first_tree(left_children=lambda found: [0] * len(found)), "leads back to itself"),
    "no nodes": (in_first_tree(left_children=[], right_children=[]), "without nodes"),
    "short": (in_first_tree(split_conditions=lambda found: found[:-1]), "lack something"),
    "a leaf too large": (in_first_tree(split_conditions=lambda found: [*found[:-1], 1e39]), "no numbers"),
    "a text": (in_first_tree(split_conditions=at(0, "1")), "no numbers"),
    "categories": (in_first_tree(split_type=at(0, 1)), "categories of its own"),
    "base score": (parameter("base_score", "1E0"), "no share between 0 and 1"),
    "base score of NaN": (parameter("base_score", "NaN"), "no share between 0 and 1"),
    "base score of two": (parameter("base_score", "[5E-1,5E-1]"), ""),
    "more features": (parameter("num_feature", "99"), "it has 99 features, and its vectorizer"),
    "two targets": (parameter("num_target", "2"), "more than one yes/no question"),
    "no learner": (lambda model: model.pop("learner"), "no model that XGBoost's save_model wrote"),
    "no trees": (lambda model: model["learner"]["gradient_booster"]["model"].update(trees=[]), "it has no trees"),
}


@pytest.mark.parametrize("damage", XGBOOST_DAMAGE)
def test_a_damaged_booster_is_refused(damage, tmp_path):
    change, said = XGBOOST_DAMAGE[damage]
    model = copy.deepcopy(MODEL_JSON)
    change(model)
    (tmp_path / "model.json").write_text(json.dumps(model))
    with pytest.raises(BadModel) as error:
        read(FILES / "xgboost-3.0.5" / "dv.bin", tmp_path / "model.json")
    assert said in str(error.value)


def test_a_threshold_of_nan_in_xgboosts_binary_file_is_refused(tmp_path):
    data = (FILES / "xgboost-3.0.5" / "model.ubj").read_bytes()
    mark = b"split_conditions[$d#L"
    start = data.index(mark) + len(mark) + 8
    (tmp_path / "model.ubj").write_bytes(data[:start] + struct.pack(">f", math.nan) + data[start + 4 :])
    with pytest.raises(BadModel, match="no number"):
        read(FILES / "xgboost-3.0.5" / "dv.bin", tmp_path / "model.ubj")


# UBJSON.

UBJ = (FILES / "xgboost-3.0.5" / "model.ubj").read_bytes()


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{i\x01aZi\x01bTi\x01cFNi\x01dCx}", {"a": None, "b": True, "c": False, "d": "x"}),
        (b"[i\xffU\xffI\xff\xfel\xff\xff\xff\xfdL" + struct.pack(">q", -4) + b"]", [-1, 255, -2, -3, -4]),
        (b"[d" + struct.pack(">f", 1.5) + b"D" + struct.pack(">d", 0.1) + b"]", [1.5, 0.1]),
        (b"Si\x03\xc3\xa9!", "é!"),
        (b"Hi\x0212", "12"),
        (b"[#i\x02i\x01i\x02", [1, 2]),
        (b"[$U#i\x03\x01\x02\x03", (1, 2, 3)),
        (b"{#i\x01i\x01a[]", {"a": []}),
        (b"{$i#i\x01i\x01a\x07", {"a": 7}),
    ],
)
def test_ubjson_is_read_as_its_specification_says(data, value):
    assert ubjson.decode(data) == value


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cut off"),
        (b"{", "cut off"),
        (b"[i\x01", "cut off"),
        (b"[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff", "cut off"),
        (b"[$i\x01", "cut off"),
        (b"[#i\xff", "cut off"),
        (b"[$Z#l\x7f\xff\xff\xff", "cut off"),
        (b"SD\x00\x00\x00\x00\x00\x00\x00\x00", "no length"),
        (b"Si\x02\xff\xff", "damaged"),
        (b"?", "mark '?'"),
        (b"i\x01i\x01", "ends at byte 2 of 4"),
        (b"[" * 200, "nested too deeply"),
    ],
)
def test_what_is_no_ubjson_is_refused(data, said):
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        ubjson.decode(data)


def test_a_booster_that_is_cut_off_anywhere_is_refused(tmp_path):
    vectorizer = FILES / "xgboost-3.0.5" / "dv.bin"
    for end in range(1, len(UBJ), 97):
        (tmp_path / "model.ubj").write_bytes(UBJ[:end])
        with pytest.raises(BadModel, match="cannot be read"):
            read(vectorizer, tmp_path / "model.ubj")


def test_a_booster_with_other_bytes_is_refused_or_read_and_nothing_else(tmp_path):
    vectorizer, dice = FILES / "xgboost-3.0.5" / "dv.bin", random.Random(1)
    for place in dice.sample(range(1, len(UBJ)), 300):
        damaged = bytearray(UBJ)
        damaged[place] ^= 1 << dice.randrange(8)
        (tmp_path / "model.ubj").write_bytes(damaged)
        try:
            model = read(vectorizer, tmp_path / "model.ubj")
        except BadModel:
            continue
        scores = probabilities(model, RECORDS["plain"])
        assert all(0 <= score <= 1 for score in scores)
