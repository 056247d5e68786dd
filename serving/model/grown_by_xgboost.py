"""Boosted trees as XGBoost 1.4 and later saved them, in a pickle or in a file of its own. No XGBoost, no NumPy."""

import codecs
import math
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from serving.model import ubjson
from serving.model.stand_ins import BadModel, Global, Inert
from serving.model.trees import Ensemble, Tree

BOOSTER = ("xgboost.core", "Booster")
CLASSIFIERS = {("xgboost.sklearn", name) for name in ("XGBClassifier", "XGBRFClassifier")}
CLASSES = {BOOSTER, *CLASSIFIERS}

# What else their pickles name.
PARTS: set[Global] = {
    *CLASSES,
    ("xgboost.compat", "XGBoostLabelEncoder"),
    ("sklearn.preprocessing._label", "LabelEncoder"),
}

# The objectives whose answer is the logistic function of the sum.
LOGISTIC = ("binary:logistic", "reg:logistic")


# How far from 0 and 1 XGBoost keeps the share that it begins with, from 3.2 on.
LEAST_SHARE = 1e-6


def is_saved(data: bytes) -> bool:
    """Whether these bytes are a file of XGBoost's own, JSON or UBJSON; a pickle never begins so."""
    return data.lstrip(codecs.BOM_UTF8 + b" \t\r\n").startswith(b"{")


def saved(data: bytes) -> Inert:
    """A stand-in for the Booster in a file of XGBoost's own. Raises `BadModel`."""
    model = _decoded(data.lstrip(codecs.BOM_UTF8 + b" \t\r\n"))
    if not isinstance(model, dict) or "learner" not in model:
        raise BadModel("it is JSON, but no model that XGBoost's save_model wrote")
    found = Inert()
    found.stands_for, found.state = BOOSTER, {"learner": model["learner"]}
    # What an XGBClassifier saved is read as it reads it; up to 1.7 its own parameters are in it, as JSON in a text.
    if told := model["learner"].get("attributes", {}).get("scikit_learn"):
        found.stands_for = ("xgboost.sklearn", "XGBClassifier")
        found.state["missing"] = msgspec.json.decode(told.replace("NaN", "null")).get("missing")
    return found


def ensemble(classifier: Inert, width: int, is_sparse: bool) -> Ensemble:
    """The trees of a Booster, an XGBClassifier or a file of XGBoost's; of a matrix of `width` features.

    Of a sparse one a feature that is absent is missing. Raises `BadModel`.
    """
    learner = _learner(classifier)
    parameters = learner["learner_model_param"]
    if int(parameters["num_class"]) > 1 or int(parameters.get("num_target", 1)) > 1:
        raise BadModel("it answers more than one yes/no question")
    if (name := learner["objective"]["name"]) not in LOGISTIC:
        advice = "train it with objective='binary:logistic'"
        raise BadModel(f"its objective is {name}, whose answer is no probability: {advice}")
    if (features := int(parameters["num_feature"])) != width:
        raise BadModel(f"it has {features:,} features, and its vectorizer {width:,}")
    missing = classifier.state.get("missing")
    return Ensemble(
        _trees(learner, stops_early=classifier.stands_for in CLASSIFIERS),
        is_logistic=True,
        start=_log_odds(parameters["base_score"]),
        is_strict=True,
        absent_is_missing=is_sparse,
        missing=math.nan if missing is None else float(missing),
    )


def _learner(classifier: Inert) -> dict[str, Any]:
    state = classifier.state
    if "learner" not in state:
        booster = state["_Booster"].state if classifier.stands_for in CLASSIFIERS else state
        state = _decoded(bytes(booster["handle"]))["Model"]
    learner: dict[str, Any] = state["learner"]
    return learner


def _trees(learner: dict[str, Any], stops_early: bool) -> Iterator[Tree]:
    """The trees, without those that came after the best iteration where a classifier stopped early."""
    booster = learner["gradient_booster"]
    if booster["name"] not in ("gbtree", "dart"):
        raise BadModel(f"its booster is {booster['name']}, and trees alone are read: gbtree and dart")
    # The weights of dart's trees are beside them, in later versions among them.
    model = booster.get("gbtree", booster)["model"]
    trees = model["trees"]
    weights = booster.get("weight_drop") or model.get("weight_drop") or [1.0] * len(trees)
    number = len(trees)
    if stops_early and (best := learner.get("attributes", {}).get("best_iteration")):
        number = max(0, int(best) + 1) * (int(model["gbtree_model_param"].get("num_parallel_tree", 1)) or 1)
    for tree, weight in [*zip(trees, weights, strict=True)][:number]:
        yield _tree(tree, weight)


def _decoded(data: bytes) -> Any:
    try:
        # A JSON object's first key is in quotes; UBJSON's begins with the mark of its length.
        if data[1:].lstrip()[:1] in (b'"', b"}"):
            return msgspec.json.decode(data.rstrip(b"\0"))
        return ubjson.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadModel(f"its XGBoost model cannot be read: {error}") from error


def _log_odds(base_score: str) -> float:
    """Of a share, a number in text; since 3.1 it is in brackets, and XGBoost keeps it from 0 and 1."""
    share = float(base_score.strip("[]"))
    if base_score.startswith("["):
        share = min(max(share, LEAST_SHARE), 1 - LEAST_SHARE)
    if not 0 < share < 1:
        raise BadModel(f"its base_score is {base_score}, which is no share between 0 and 1")
    return math.log(share / (1 - share))


def _tree(tree: dict[str, Any], weight: float) -> Tree:
    if any(tree.get("split_type") or ()):
        raise BadModel("it splits by categories of its own, which a vectorizer's columns are not")
    numbers = _single(tree["split_conditions"])  # thresholds, and the values of leaves
    left, right, feature = (tree[name] for name in ("left_children", "right_children", "split_indices"))
    values = [weight * number for number in numbers]
    return Tree(left, right, feature, numbers, tree["default_left"], values, tree["sum_hessian"])


def _single(numbers: Iterable[float]) -> tuple[float, ...]:
    """The nearest numbers of single precision, as XGBoost computes."""
    numbers = [*numbers]
    try:
        return struct.unpack(f"{len(numbers)}f", struct.pack(f"{len(numbers)}f", *numbers))
    except struct.error as error:
        raise BadModel("it has a tree with thresholds or values that are no numbers") from error
