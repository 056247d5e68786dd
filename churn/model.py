"""The model file: written, read, and asked for probabilities."""

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

from churn.customer import Customer, features

# A customer counts as leaving from this probability on.
THRESHOLD = 0.5


def write(pair: tuple[Any, Any], path: Path) -> None:
    """Write the pair of vectorizer and classifier as a pickle.

    It appears under its name once it is complete, so a failure leaves an older file as it was.
    Raises `OSError`.
    """
    unfinished = path.parent / f".{path.name}.{os.getpid()}"
    try:
        with unfinished.open("xb") as file:
            pickle.dump(pair, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


class Model:
    """A classifier and its vectorizer, scored by scikit-learn."""

    def __init__(self, vectorizer: Any, classifier: Any):
        self._vectorizer = vectorizer
        self._classifier = classifier

    def probability(self, customer: Customer) -> float:
        """How probable it is that this customer leaves, in [0, 1]."""
        return self.probabilities([customer])[0]

    def probabilities(self, customers: list[Customer]) -> list[float]:
        """The same for several customers, in order."""
        if not customers:
            return []
        matrix = self._vectorizer.transform([features(customer) for customer in customers])
        probabilities: list[float] = self._classifier.predict_proba(matrix)[:, 1].tolist()
        return probabilities


def read(path: Path) -> Model:
    """The model of a file that `write` made. Only for files you trust: a pickle can run any code."""
    with path.open("rb") as file:
        return Model(*pickle.load(file))
