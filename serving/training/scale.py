"""Numbers made comparable for a logistic regression's fit, and its weights given back for the numbers themselves."""

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.feature_extraction import DictVectorizer

from serving.model import packing
from serving.schema import Schema

# A number that is farther from 0, by its mean in standard deviations, is centred: it is nearly a second intercept, and
# costs the solver the digits of the distance's square, here 2 of its 16, and of seconds since 1970 within a day 10.
MOST_DISTANCE = 10


class Scale(NamedTuple):
    """For each feature what is subtracted from it where it is there, and what it is divided by then.

    `texts` has a 1 in the row of a text and the column of the number that it stands for.
    """

    centre: np.ndarray
    deviation: np.ndarray
    texts: sparse.csr_array

    @classmethod
    def none(cls, features: int) -> "Scale":
        """What changes none of so many features."""
        return cls(np.zeros(features), np.ones(features), sparse.csr_array((features, features)))

    @classmethod
    def of(cls, schema: Schema, vectorizer: DictVectorizer, matrix: Any) -> "Scale":
        """Of a vectorizer's features, as they are in a matrix of it.

        Numbers are divided by their standard deviations, or what varies little would hardly count: its weight would
        have to be larger than the penalty lets it. A number that is far from 0 is centred.
        """
        places, features = vectorizer.vocabulary_, len(vectorizer.feature_names_)
        fields = [field for field in schema.fields if not field.is_category and field.name in places]
        numbers = [places[field.name] for field in fields]
        texts = sparse.lil_array((features, features))
        for field in fields:
            for text in {*packing.features(field, "=")} - {field.name}:
                texts[places[text], places[field.name]] = 1
        scale = cls.none(features)._replace(texts=texts.tocsr())
        columns, instead = matrix[:, numbers], matrix @ scale.texts[:, numbers]
        if vectorizer.sparse:
            columns, instead = columns.toarray(), instead.toarray()
        columns = np.where(instead, np.nan, columns)
        means = np.nanmean(columns, axis=0)
        # Rounding gives what is the same in every row a deviation too.
        varies = np.nanmax(columns, axis=0) > np.nanmin(columns, axis=0)
        deviations = np.where(varies, np.nanstd(columns, axis=0), 0)
        scale.centre[numbers] = np.where(abs(means) > MOST_DISTANCE * deviations, means, 0)
        scale.deviation[numbers] = np.where(deviations > 0, deviations, 1)
        return scale

    def scaled(self, matrix: Any) -> Any:
        """A matrix for the fit; a sparse one stays sparse."""
        if not self.centre.any() and (self.deviation == 1).all():
            return matrix
        is_dense = isinstance(matrix, np.ndarray)
        if self.centre.any():
            centre: Any = self.centre
            if not is_dense:  # a column that is so far from 0 has hardly a zero
                centre = sparse.csr_matrix(np.ones((matrix.shape[0], 1))) @ sparse.csr_matrix(centre)
            matrix = matrix - centre + matrix @ self._centre_of_texts
        return matrix / self.deviation if is_dense else matrix.multiply(1 / self.deviation).tocsr()

    def of_features(self, weights: np.ndarray, intercept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A fit's weights and intercept for the features themselves, which give the same sums."""
        weights = weights / self.deviation
        return weights + (self._centre_of_texts @ weights.T).T, intercept - weights @ self.centre

    @property
    def _centre_of_texts(self) -> sparse.csr_array:
        """By text, what is added again to the number that it stands for, which is not there to be centred."""
        return self.texts * self.centre
