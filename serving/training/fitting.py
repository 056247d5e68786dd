"""The course's procedure: split, cross-validate, fit, evaluate."""

import hashlib
import platform
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score, roc_curve
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from serving import distribution
from serving.errors import BadTable
from serving.model.figures import AUC, Choice, Decile, Probabilities, TrainingFigures
from serving.training.scale import Scale
from serving.training.table import TrainingTable

# The course's figures.
TEST_SHARE = 0.2
FOLDS = 5
RANDOM_STATE = 1

# From more features on the matrix is sparse, and the fit another one: Newton's method solves for all features at once.
MANY_FEATURES = 300

# What there is to choose from. The trees are such that they are neither large nor learn a table by heart; a forest of
# these has at most 33 MB.
Kind = Literal["logistic", "tree", "forest", "boosting"]
TREES: dict[Kind, Any] = {
    "tree": DecisionTreeClassifier(max_depth=6, min_samples_leaf=20, random_state=RANDOM_STATE),
    "forest": RandomForestClassifier(200, max_depth=10, min_samples_leaf=5, random_state=RANDOM_STATE),
    "boosting": HistGradientBoostingClassifier(
        learning_rate=0.1, max_iter=100, max_leaf_nodes=8, early_stopping=False, random_state=RANDOM_STATE
    ),
}

# Numbers of the whole matrix that boosting takes, which has no use for a sparse one.
MOST_NUMBERS = 100_000_000

# What the figures are given for.
DECILES = 10
THRESHOLDS = [round(0.05 * step, 2) for step in range(1, 20)]


class Part(NamedTuple):
    """Records as a vectorizer's matrix, which can be sparse, and for each whether the answer was yes."""

    matrix: Any
    target: np.ndarray

    def rows(self, rows: np.ndarray) -> "Part":
        return Part(self.matrix[rows], self.target[rows])


class Training(NamedTuple):
    """A table split as in the course: the vectorizer has seen the training part alone, and so has the scale."""

    vectorizer: DictVectorizer
    train: Part
    test: Part
    scale: Scale


def prepare(table: TrainingTable, kind: Kind = "logistic") -> Training:
    """Split a table and turn it into numbers for a kind of model.

    Raises `BadTable` where it has too few rows, or too many or missing values for that kind.
    """
    if len(table.rows) < 2 * FOLDS:
        raise BadTable(f"it has {len(table.rows)} rows: too few to train on")
    missing = [field.name for field in table.schema.fields if field.may_be_missing]
    if kind == "logistic" and missing:
        named = ", ".join(missing)
        raise BadTable(f"a logistic regression knows no missing values, as {named} may have; take --model boosting")
    train, test = _split(np.array(table.target))
    vectorizer = DictVectorizer(sparse=False)
    # With all texts that may stand for a number: one that counted nothing would count as a number of 0.
    texts = [{field.name: text} for field in table.schema.fields for text in field.categories]
    vectorizer.fit([*table.records(train), *texts])
    features = len(vectorizer.feature_names_)
    if kind == "boosting" and features * len(table.rows) > MOST_NUMBERS:
        many = f"{len(table.rows):,} rows of {features:,} features"
        raise BadTable(f"it has {many}: too many for boosting; take --model forest, or leave out columns with --drop")
    vectorizer.set_params(sparse=features > MANY_FEATURES and kind != "boosting")
    fitted, tested = (
        Part(vectorizer.transform(table.records(rows)), np.array(table.target)[rows]) for rows in (train, test)
    )
    scale = Scale.none(features) if table.as_they_are else Scale.of(table.schema, vectorizer, fitted.matrix)
    return Training(vectorizer, fitted, tested, scale)


def _split(target: np.ndarray) -> tuple[list[int], list[int]]:
    """The rows of the training and of the test part: by chance alone, as in the course, where both get both answers,
    and else with the same share of them. Raises `BadTable` where one answer is too rare for that."""
    split = partial(train_test_split, range(len(target)), test_size=TEST_SHARE, random_state=RANDOM_STATE)
    few, answer = min((int(target.sum()), "yes"), (int((~target).sum()), "no"))
    train, test = split()
    if few > FOLDS and not _are_enough(target[train], target[test]):
        train, test = split(stratify=target)
    if not _are_enough(target[train], target[test]):
        raise BadTable(f"{few:,} of its rows are a {answer}: too few for {FOLDS} folds and a test part")
    return train, test


def _are_enough(train: np.ndarray, test: np.ndarray) -> bool:
    """Whether there are enough of both answers in both parts."""
    return _has_both(test) and min(np.bincount(train, minlength=2)) >= FOLDS


def _folds(target: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each fold the rows to fit to, and those to validate with, of answers; divided as `_split` does."""
    folds = [*KFold(n_splits=FOLDS, shuffle=True, random_state=RANDOM_STATE).split(target)]
    if all(_has_both(*map(target.__getitem__, rows)) for rows in folds):
        return folds
    return [*StratifiedKFold(n_splits=FOLDS, shuffle=True, random_state=RANDOM_STATE).split(target, target)]


def _has_both(*parts: np.ndarray) -> bool:
    return all(len({*answers.tolist()}) == 2 for answers in parts)


# What is fitted: a classifier of scikit-learn.
Classifier = Any
Fit = Callable[[Part], Classifier]


def learner(kind: Kind, C: float, scale: Scale) -> Fit:
    """What fits a model of this kind to a part of the records; `C` and `scale` are a logistic regression's."""
    return partial(fit_logistic, C=C, scale=scale) if kind == "logistic" else partial(fit_trees, kind=kind)


def cross_validate(train: Part, fit: Fit) -> Iterator[float]:
    """The AUC of each fold, as it is done.

    The folds share the vectorizer of the whole training part: a category that only the
    validation fold has is a column of zeros in training, and gets a weight of zero.
    """
    for fitted, validation in _folds(train.target):
        yield auc(fit(train.rows(fitted)), train.rows(validation))


def fit_trees(part: Part, kind: Kind) -> Classifier:
    """A tree, a forest or boosted trees; the same for the same records, however many cores there are.

    (scikit-learn's boosting adds up in the order in which its threads are done.)
    """
    model = clone(TREES[kind])
    if kind == "forest":
        return model.set_params(n_jobs=-1).fit(part.matrix, part.target).set_params(n_jobs=None)
    with threadpool_limits(limits=1):
        return model.fit(part.matrix, part.target)


def fit_logistic(part: Part, C: float, scale: Scale) -> LogisticRegression:
    """A logistic regression with inverse regularization strength `C`, at its optimum.

    It is penalised for the weights of scaled features, and has those of the features themselves. Newton's method gets
    there in some ten steps for a few columns; the course's solver, lbfgs, stops before it unless the columns are scaled
    first, as they are where there are many.
    """
    if isinstance(part.matrix, np.ndarray):
        model = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    else:
        model = LogisticRegression(C=C, solver="lbfgs", tol=1e-6, max_iter=10_000)
    model.fit(scale.scaled(part.matrix), part.target)
    model.coef_, model.intercept_ = scale.of_features(model.coef_, model.intercept_)
    return model


def auc(model: Classifier, part: Part) -> float:
    """The area under the ROC curve of the model's probabilities for these records."""
    return float(roc_auc_score(part.target, model.predict_proba(part.matrix)[:, 1]))


def evaluate(
    table: TrainingTable, training: Training, model: Classifier, C: float | None, folds: list[float]
) -> TrainingFigures:
    """All that the model file tells of its training; `folds` are the AUCs of the cross-validation."""
    test, probabilities = training.test, model.predict_proba(training.test.matrix)[:, 1]
    by_probability = np.argsort(probabilities, kind="stable")
    false_positives, true_positives, _ = roc_curve(test.target, probabilities)
    example = training.vectorizer.transform([table.schema.example])
    averages = zip(
        training.vectorizer.feature_names_, np.asarray(training.train.matrix.mean(axis=0)).ravel().tolist(), strict=True
    )
    columns = [*zip(*table.rows, strict=True)]
    edges = {
        field.name: distribution.tenths(numbers)
        for field, column in zip(table.schema.fields, columns, strict=True)
        if distribution.has_numbers(field)
        and (numbers := [value for value in distribution.numbers_in(field, column) if value == value])
    }
    return TrainingFigures(
        rows=len(table.rows),
        training_rows=len(training.train.target),
        test_rows=len(test.target),
        test_positives=int(test.target.sum()),
        positive_rate=statistics.mean(table.target),
        C=C,
        auc=AUC(folds, statistics.mean(folds), statistics.pstdev(folds), auc(model, test)),
        log_loss=float(log_loss(test.target, probabilities)),
        calibration=[
            Decile(len(rows), float(probabilities[rows].mean()), float(test.target[rows].mean()))
            for rows in np.array_split(by_probability, min(DECILES, len(by_probability)))
        ],
        roc=list(zip(false_positives.tolist(), true_positives.tolist(), strict=True)),
        thresholds=[choice(threshold, probabilities, test.target) for threshold in THRESHOLDS],
        # What is missing in some records has no average.
        averages={feature: average for feature, average in averages if average == average},
        example_probability=float(model.predict_proba(example)[0, 1]),
        versions={"python": platform.python_version(), "scikit-learn": sklearn.__version__, "numpy": np.__version__},
        table_sha256=fingerprint(table),
        shares={
            field.name: distribution.shares(field, edges.get(field.name, ()), column)
            for field, column in zip(table.schema.fields, columns, strict=True)
        },
        edges=edges,
        probabilities=distributed(probabilities),
    )


def distributed(probabilities: np.ndarray) -> Probabilities:
    """How probabilities are distributed over tenths.

    A bin ends between two probabilities and not at one of them, which many records may have and which another program
    computes a last digit higher.
    """
    rounded = np.round(probabilities, 9)
    different = [*np.unique(rounded).tolist(), 1.0]
    edges = [_between(each, different[different.index(each) + 1]) for each in distribution.tenths(rounded.tolist())]
    times = distribution.number_times(edges, probabilities.tolist())
    return Probabilities(edges, [each / len(probabilities) for each in times])


def _between(low: float, high: float) -> float:
    """A number between two others, with as few digits as that takes, since people read it."""
    middle = (low + high) / 2
    return next((short for digits in range(3, 17) if low < (short := round(middle, digits)) < high), middle)


def choice(threshold: float, probabilities: np.ndarray, target: np.ndarray) -> Choice:
    """What choosing all records from this probability on would have meant."""
    chosen = probabilities >= threshold
    positives = int(target[chosen].sum())
    return Choice(threshold, int(chosen.sum()), positives, int(chosen.sum()) - positives)


def fingerprint(table: TrainingTable) -> str:
    """The SHA-256 of a table's records and their target, in order."""
    digest = hashlib.sha256()
    for row, target in zip(table.rows, table.target, strict=True):
        digest.update(msgspec.json.encode([*row, target]) + b"\n")
    return digest.hexdigest()
