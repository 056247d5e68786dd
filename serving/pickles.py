"""Model files read without running what is in them.

A pickle is a program: it names functions and calls them. Here each name is looked up in a list.
`inspect` calls nothing but the stand-ins below, whatever the file says; they keep the fitted
attributes of scikit-learn's objects, which is all that a linear model needs, so that neither
scikit-learn nor NumPy is imported and the version that wrote the file does not matter.
`load` makes the real objects, for the classifiers that cannot be scored without scikit-learn.
"""

import collections
import importlib
import io
import math
import pickle
import struct
from collections.abc import Callable
from typing import Any

# The name of a class or function: its module, and its name there.
Global = tuple[str, str]

VECTORIZER = ("sklearn.feature_extraction._dict_vectorizer", "DictVectorizer")

# What NumPy's, SciPy's and scikit-learn's objects are pickled with, besides the estimators.
HELPERS: frozenset[Global] = frozenset(
    {
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
        *(("numpy", name) for name in ("ndarray", "dtype", "bool", "bool_", "int32", "int64", "float32", "float64")),
        *(("numpy.random._pickle", f"__{kind}_ctor") for kind in ("bit_generator", "generator", "randomstate")),
        ("numpy.random._mt19937", "MT19937"),
        ("numpy.random._pcg64", "PCG64"),
        ("numpy.random.bit_generator", "SeedSequence"),
        ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
        ("scipy.sparse._csr", "csr_matrix"),
        ("sklearn._loss._loss", "CyHalfBinomialLoss"),
        ("sklearn._loss.link", "Interval"),
        ("sklearn._loss.link", "LogitLink"),
        ("sklearn._loss.loss", "HalfBinomialLoss"),
        ("sklearn.calibration", "_CalibratedClassifier"),
        ("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor"),
        ("sklearn.linear_model._sgd_fast", "Log"),
        ("sklearn.neural_network._stochastic_optimizers", "AdamOptimizer"),
        ("sklearn.neural_network._stochastic_optimizers", "SGDOptimizer"),
        ("sklearn.tree._tree", "Tree"),
        ("sklearn.utils", "Bunch"),
        ("sklearn.utils._bunch", "Bunch"),
    }
)

# Python's own that are no danger: containers.
CONTAINERS: dict[Global, Any] = {
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "slice"): slice,
    ("collections", "OrderedDict"): collections.OrderedDict,
}


class BadModel(ValueError):
    """A file is no model that can be served; the message says why."""


class Inert:
    """Stands for an object of a library: keeps its state, and does nothing."""

    stands_for: Global = ("", "")
    state: Any = {}  # noqa: RUF012 (replaced, never changed)

    def __init__(self, *args: object):
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    extend = append


# NumPy's codes for a kind and a size in bytes, as the struct module spells them.
FORMATS = {
    **{"b1": "?", "f4": "f", "f8": "d"},
    **{"i1": "b", "i2": "h", "i4": "i", "i8": "q"},
    **{"u1": "B", "u2": "H", "u4": "I", "u8": "Q"},
}


class Dtype:
    """Stands for numpy.dtype: reads an array's bytes."""

    def __init__(self, code: str, *_: object):
        self.code = code
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def values(self, data: Any, count: int) -> list[Any]:
        """So many values. Raises `ValueError` where the data have more or fewer, and `KeyError` for other types."""
        kind, size = self.code[:1], int(self.code[1:] or 0) * (4 if self.code.startswith("U") else 1)
        if len(data) != (count if kind == "O" else count * size) or (count and not size and kind != "O"):
            raise ValueError(f"{count:,} values of type {self.code} in {len(data):,} bytes")
        if kind == "O":
            return list(data)
        if kind == "U":
            encoding = "utf-32-be" if self.order == ">" else "utf-32-le"
            return [data[i : i + size].decode(encoding).rstrip("\0") for i in range(0, len(data), size)]
        return list(struct.unpack(f"{self.order}{count}{FORMATS[self.code]}", data))


class Array:
    """Stands for numpy.ndarray."""

    def __init__(self, *_: object):
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    @property
    def values(self) -> list[Any]:
        """The values in the order of the memory, of numbers, text and objects. Raises `ValueError` for others."""
        *_, shape, dtype, _fortran, data = self.state
        try:
            values: list[Any] = dtype.values(data, math.prod(shape))
            return values
        except (KeyError, struct.error) as error:
            raise ValueError(f"an array of {dtype.code} that cannot be read: {error}") from error


def _frombuffer(data: Any, dtype: Dtype, shape: tuple[int, ...], order: str) -> Array:
    array = Array()
    array.__setstate__((shape, dtype, order, bytes(data)))
    return array


def _scalar(dtype: Dtype, data: bytes) -> Any:
    return dtype.values(data, 1)[0]


def _latin_1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the pickle protocols of Python 2."""
    if encoding != "latin1":
        raise BadModel(f"it wants to encode text as {encoding}")
    return text.encode("latin-1")


def _new(cls: type[Inert], *_: object) -> Inert:
    """How objects are made in pickle protocols 0 and 1."""
    return cls()


# Stands for numpy.float64, which is the type of a vectorizer's numbers.
FLOAT64 = type("float64", (), {})

STAND_INS: dict[Global, Any] = {
    **CONTAINERS,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
    ("numpy", "float64"): FLOAT64,
    ("_codecs", "encode"): _latin_1,
    ("copyreg", "_reconstructor"): _new,
    ("builtins", "object"): Inert,
}


# Pickle protocols 0 to 2 write the names that Python 2 had.
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class _Unpickler(pickle.Unpickler):
    """An unpickler that asks `find` for every name."""

    def __init__(self, data: bytes, find: Callable[[str, str], Any]):
        super().__init__(io.BytesIO(data))
        self._find = find

    def find_class(self, module: str, name: str) -> Any:
        return self._find(PYTHON_2.get(module, module), name)


def _read(data: bytes, find: Callable[[str, str], Any]) -> tuple[Any, Any]:
    if not data:
        raise BadModel("it is empty")
    try:
        match _Unpickler(data, find).load():
            case (vectorizer, classifier):
                return vectorizer, classifier
    except (BadModel, MemoryError):
        raise
    except EOFError as error:
        raise BadModel("it is cut off") from error
    except Exception as error:  # a broken pickle can raise anything
        raise BadModel(f"it is not a pickle, or a broken one: {error}") from error
    raise BadModel("it is not a pair of a DictVectorizer and a classifier")


def inspect(data: bytes) -> tuple[Inert, Inert, set[Global]]:
    """The vectorizer and the classifier of a pickle, as stand-ins, and all that it names of libraries.

    Raises `BadModel` for a name outside scikit-learn, NumPy and SciPy, and where there is no such pair.
    """
    named: set[Global] = set()

    def find(module: str, name: str) -> Any:
        if (module, name) in STAND_INS:
            return STAND_INS[module, name]
        if module.split(".", 1)[0] not in ("numpy", "scipy", "sklearn"):
            raise _refusal(module, name)
        named.add((module, name))
        return type(name, (Inert,), {"stands_for": (module, name)})

    vectorizer, classifier = _read(data, find)
    if not (isinstance(vectorizer, Inert) and isinstance(classifier, Inert) and vectorizer.stands_for == VECTORIZER):
        raise BadModel("it is not a pair of a DictVectorizer and a classifier")
    return vectorizer, classifier, named


def require_helpers(named: set[Global]) -> None:
    """Raise `BadModel` where one of the names is none of the `HELPERS`."""
    for module, name in sorted(named - HELPERS):
        raise _refusal(module, name)


def load(data: bytes, named: set[Global]) -> tuple[Any, Any]:
    """The real vectorizer and classifier of a pickle in which `inspect` found these names.

    Imports scikit-learn. Raises `BadModel` for a name that is neither one of its estimators nor
    one of the `HELPERS`, before anything is called.
    """
    from sklearn.base import BaseEstimator  # noqa: PLC0415 (it takes a second, and a linear model does without)

    def find(module: str, name: str) -> Any:
        if (module, name) in CONTAINERS:
            return CONTAINERS[module, name]
        known = (module, name) in HELPERS
        if known or module.split(".", 1)[0] == "sklearn":
            try:
                found = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise BadModel(f"it names {module}.{name}, which is not installed") from error
            if known or (isinstance(found, type) and issubclass(found, BaseEstimator)):
                return found
        raise _refusal(module, name)

    for module, name in sorted(named):
        find(module, name)
    return _read(data, find)


def _refusal(module: str, name: str) -> BadModel:
    return BadModel(
        f"it names {module}.{name}, which is not among the classes that models are read with; nothing was run"
    )
