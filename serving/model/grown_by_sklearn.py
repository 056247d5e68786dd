"""Trees, forests and boosted trees as scikit-learn 0.24 and later pickled them. No scikit-learn, no NumPy."""

import math
from typing import Any

from serving.model.stand_ins import Array, BadModel, Global, Inert
from serving.model.trees import Codes, Ensemble, Tree

TREES = {("sklearn.tree._classes", name) for name in ("DecisionTreeClassifier", "ExtraTreeClassifier")}
FORESTS = {("sklearn.ensemble._forest", name) for name in ("RandomForestClassifier", "ExtraTreesClassifier")}
GRADIENT = ("sklearn.ensemble._gb", "GradientBoostingClassifier")
HISTOGRAM = ("sklearn.ensemble._hist_gradient_boosting.gradient_boosting", "HistGradientBoostingClassifier")
CLASSES = {*TREES, *FORESTS, GRADIENT, HISTOGRAM}

# The losses of 1.4 to 1.6.
LOSSES = tuple(f"{how}Cy{loss}Loss" for loss in ("HalfBinomial", "Exponential") for how in ("", "__pyx_unpickle_"))

# What else their pickles name, besides the helpers of all: what they consist of, and how they were trained.
_HISTOGRAM = "sklearn.ensemble._hist_gradient_boosting"
PARTS: set[Global] = {
    *CLASSES,
    ("sklearn.tree._classes", "DecisionTreeRegressor"),
    ("sklearn.tree._classes", "ExtraTreeRegressor"),
    ("sklearn.dummy", "DummyClassifier"),
    *(("sklearn.ensemble._gb_losses", name) for name in ("BinomialDeviance", "ExponentialLoss")),
    ("sklearn._loss.loss", "ExponentialLoss"),
    ("sklearn._loss.link", "HalfLogitLink"),
    (f"{_HISTOGRAM}.loss", "BinaryCrossEntropy"),
    (f"{_HISTOGRAM}.binning", "_BinMapper"),
    *(("_loss", name) for name in LOSSES),
    *(("sklearn._loss._loss", name) for name in LOSSES),
    ("sklearn.preprocessing._label", "LabelEncoder"),
}
# And for splits by category.
PARTS_OF_CATEGORIES: set[Global] = {
    ("functools", "partial"),
    ("sklearn.utils.validation", "check_array"),
    ("sklearn.preprocessing._encoders", "OrdinalEncoder"),
    ("sklearn.preprocessing._function_transformer", "FunctionTransformer"),
    ("sklearn.compose._column_transformer", "ColumnTransformer"),
    ("sklearn.compose._column_transformer", "_RemainderColsList"),
}

# The first version of scikit-learn in which each takes missing values (its changelogs); gradient boosting takes none.
MISSING_SINCE = {
    "DecisionTreeClassifier": (1, 3),
    "RandomForestClassifier": (1, 4),
    "ExtraTreeClassifier": (1, 6),
    "ExtraTreesClassifier": (1, 6),
}

# How far from 0 and 1 gradient boosting keeps the share that it begins with: float32's epsilon
# (sklearn.ensemble._gb, _init_raw_predictions).
EPSILON = 2.0**-23


class Categories:
    """The categories of a feature by their numbers in the trees."""

    def __init__(self, by_number: dict[int, float]):
        self.by_number = by_number
        self.known = frozenset(by_number.values())


def ensemble(classifier: Inert, width: int) -> Ensemble | None:
    """The trees of a classifier of `width` features; None where there is more to it. Raises `BadModel`."""
    state = classifier.state
    if state.get("n_features_in_", width) != width:
        raise BadModel(f"it has {state['n_features_in_']:,} features, and its vectorizer {width:,}")
    if classifier.stands_for in TREES:
        return _shares(classifier, [state], width)
    if classifier.stands_for in FORESTS:
        return _shares(classifier, [each.state for each in state["estimators_"]], width)
    if classifier.stands_for == GRADIENT:
        return _gradient(state, width)
    return _histogram(state, width)


def _shares(classifier: Inert, states: list[dict[str, Any]], width: int) -> Ensemble:
    """The mean over trees of the share of yes in a leaf; up to 1.3 leaves have counts, later shares."""
    trees = (_tree_of_shares(state["tree_"], width) for state in states)
    return Ensemble(trees, is_logistic=False, divisor=len(states), knows_missing=_knows_missing(classifier))


def _tree_of_shares(tree: Inert, width: int) -> Tree:
    found = _tree(tree, width)
    no, yes = found.value[::2], found.value[1::2]
    if len(found.value) != 2 * len(found.left) or min(found.value) < 0:
        raise BadModel("it has a tree of other than two classes, or with shares that are none")
    return found._replace(value=[each / (each + other) if each else 0.0 for each, other in zip(yes, no, strict=True)])


def _gradient(state: dict[str, Any], width: int) -> Ensemble | None:
    start = _start(state["init_"])
    if start is None or state["loss"] not in ("log_loss", "deviance", "exponential"):
        return None
    # The exponential loss is of half the log-odds.
    divisor = 0.5 if state["loss"] == "exponential" else 1.0
    states = [each.state for each in state["estimators_"].values]
    trees = (_scaled(each["tree_"], width, state["learning_rate"]) for each in states)
    return Ensemble(trees, True, start * divisor, divisor, knows_missing=False)


def _scaled(tree: Inert, width: int, learning_rate: float) -> Tree:
    found = _tree(tree, width)
    return found._replace(value=[learning_rate * value for value in found.value])


def _start(init: Any) -> float | None:
    """The log-odds that boosting begins with; None where another model gives them."""
    if init == "zero":
        return 0.0
    if not isinstance(init, Inert) or init.stands_for[1] != "DummyClassifier" or init.state["strategy"] != "prior":
        return None
    share = min(max(init.state["class_prior_"].values[1], EPSILON), 1 - EPSILON)
    return math.log(share / (1 - share))


def _tree(tree: Inert, width: int) -> Tree:
    """A tree, with all that its nodes have for values. Raises `BadModel`."""
    nodes, values = tree.state["nodes"], tree.state["values"].values
    if tree.arguments[0] != width:
        raise BadModel("it has a tree for other features than its own")
    if tree.state["node_count"] != nodes.shape[0]:
        raise BadModel(f"it has a tree of {tree.state['node_count']:,} nodes, of which {nodes.shape[0]:,} are there")
    names = ("left_child", "right_child", "feature", "threshold", "weighted_n_node_samples")
    left, right, feature, threshold, cover = nodes.columns(*names)
    missing_left = nodes.columns("missing_go_to_left")[0] if nodes.has("missing_go_to_left") else (False,) * len(left)
    return Tree(left, right, feature, threshold, missing_left, values, cover)


def _knows_missing(classifier: Inert) -> bool:
    """Whether the scikit-learn that wrote a classifier takes missing values for it."""
    major, minor = map(int, str(classifier.state.get("_sklearn_version", "0.0")).split(".")[:2])
    return (major, minor) >= MISSING_SINCE[classifier.stands_for[1]]


def _histogram(state: dict[str, Any], width: int) -> Ensemble:
    places, categories = _categories(state, width)
    trees = (_predictor(predictor.state, places, categories) for [predictor] in state["_predictors"])
    start = state["_baseline_prediction"]
    [start] = start.values if isinstance(start, Array) else [start]
    return Ensemble(trees, True, start, is_single=False)


def _predictor(state: dict[str, Any], places: dict[int, int], categories: dict[int, Categories]) -> Tree:
    nodes = state["nodes"]
    names = ("feature_idx", "num_threshold", "missing_go_to_left", "value", "count", "left", "right", "is_leaf")
    feature, threshold, missing_left, value, cover, left, right, is_leaf = nodes.columns(*names)
    splits: list[float | Codes] = [*threshold]
    sets = state["raw_left_cat_bitsets"].values
    for node, (is_category, place) in enumerate(zip(*nodes.columns("is_categorical", "bitset_idx"), strict=True)):
        if is_category and not is_leaf[node]:
            splits[node] = _codes(sets, place, categories.get(feature[node]))
    return Tree(
        left=[-1 if leaf else child for leaf, child in zip(is_leaf, left, strict=True)],
        right=right,
        feature=[places.get(each, -1) for each in feature],
        split=splits,
        missing_left=missing_left,
        value=value,
        cover=cover,
    )


def _categories(state: dict[str, Any], width: int) -> tuple[dict[int, int], dict[int, Categories]]:
    """The feature that each column of the trees is, and the categories of a column by their numbers in the trees."""
    mapper, encoder = state["_bin_mapper"].state, state.get("_preprocessor")
    is_category = state.get("is_categorical_")
    flags = [bool(each) for each in is_category.values] if is_category else [False] * width
    if len(flags) != width:
        raise BadModel(f"it has {width:,} features, and trees for {len(flags):,}")
    theirs = [feature for feature, flag in enumerate(flags) if flag]
    if not encoder:  # up to 1.3 a category's number is its value
        known = {feature: mapper["bin_thresholds_"][feature].values for feature in theirs}
        found = {feature: Categories({int(each): each for each in values}) for feature, values in known.items()}
        return dict(enumerate(range(width))), found
    # Later they are put before the numbers, and numbered through.
    [encoder] = [step for name, step, _ in encoder.state["transformers_"] if name == "encoder"]
    values = [each.values for each in encoder.state["categories_"]]
    if len(values) != len(theirs):
        raise BadModel(f"it has categories for {len(values)} features, and {len(theirs)} features of that kind")
    order = [*theirs, *(feature for feature, flag in enumerate(flags) if not flag)]
    return dict(enumerate(order)), {column: Categories(dict(enumerate(each))) for column, each in enumerate(values)}


def _codes(words: list[int], place: int, categories: Categories | None) -> Codes:
    """The split by the set of category numbers at this place: of each 256, the bits of eight words."""
    words = words[8 * place : 8 * place + 8]
    if categories is None or len(words) != 8:
        raise BadModel("it has a tree that splits by categories that it does not have")
    left = (value for number, value in categories.by_number.items() if words[number // 32] >> number % 32 & 1)
    return Codes(frozenset(left), categories.known)
