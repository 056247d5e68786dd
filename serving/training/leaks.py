"""Fields that tell the answer because they were filled in after it was known."""

import numpy as np
from sklearn.metrics import roc_auc_score

from serving.fields import LARGEST_NUMBER, MOST_VALUES
from serving.training.fitting import RANDOM_STATE
from serving.training.table import TrainingTable

# A field that alone tells the answer better than this is hardly known beforehand.
TELLS_ALL = 0.99


def tell_all(table: TrainingTable) -> list[str]:
    """The fields that alone tell the answer nearly perfectly, by their values or by being blank: a half of the rows
    that is drawn, told by what the others were."""
    target = np.array(table.target)
    first, second = np.array_split(np.random.default_rng(RANDOM_STATE).permutation(len(target)), 2)
    if len({*target[second].tolist()}) < 2:
        return []

    def alone(ranking: np.ndarray) -> float:
        return float(roc_auc_score(target[second], ranking[second]))

    def either_way(ranking: np.ndarray) -> float:
        return max(known := alone(ranking), 1 - known)

    found = []
    for field, values in zip(table.schema.fields, zip(*table.rows, strict=True), strict=True):
        told = 0.0
        if not field.is_category:
            numbers = [value if isinstance(value, int | float) else np.nan for value in values]
            told = either_way(np.nan_to_num(np.array(numbers, dtype=float), nan=-LARGEST_NUMBER))
        different = {*values}
        if field.is_category or len(different) <= MOST_VALUES:  # few numbers may be codes
            places = {value: place for place, value in enumerate(different)}
            column = np.array([places[value] for value in values])
            times, yes = (np.bincount(column[first], weights, len(places)) for weights in (None, target[first]))
            shares = np.where(times > 0, yes / np.maximum(times, 1), target[first].mean())
            told = max(told, alone(shares[column]))
        if field.blank is not None:
            # A text may have other values in the other half, such as the dates of those who have left.
            is_blank = np.array([value == field.blank or value != value for value in values])
            told = max(told, either_way(is_blank))
        if told > TELLS_ALL:
            found.append(field.name)
    return found
