"""Pickles read without running what is in them, joblib's too.

A pickle is a program: it names functions and calls them. Here each name is looked up in a list. `inspect` calls
nothing but stand-ins, whatever the file says; they keep fitted attributes, which is all that a linear model needs.
`load` makes the real objects, for the classifiers that cannot be scored without scikit-learn.
"""

import bz2
import importlib
import io
import lzma
import pickle
import zlib
from collections.abc import Callable, Set
from typing import IO, Any

from serving.model.stand_ins import CONTAINERS, STAND_INS, BadModel, Global, Inert, JoblibArray, bytes_after, latin_1

# What NumPy's, SciPy's and scikit-learn's objects are pickled with, besides the estimators.
HELPERS: frozenset[Global] = frozenset(
    {
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
        *(("numpy", name) for name in ("ndarray", "dtype", "bool", "bool_", "float32", "float64")),
        *(("numpy.random._pickle", f"__{kind}_ctor") for kind in ("bit_generator", "generator", "randomstate")),
        ("numpy.random._mt19937", "MT19937"),
        ("numpy.random._pcg64", "PCG64"),
        ("numpy.random.bit_generator", "SeedSequence"),
        ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
        ("scipy.sparse._csr", "csr_matrix"),
        *((module, "CyHalfBinomialLoss") for module in ("_loss", "sklearn._loss._loss")),
        ("sklearn._loss.link", "Interval"),
        ("sklearn._loss.link", "LogitLink"),
        ("sklearn._loss.loss", "HalfBinomialLoss"),
        ("sklearn.calibration", "_CalibratedClassifier"),
        ("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor"),
        *(("sklearn.linear_model._sgd_fast", name) for name in ("Log", "ModifiedHuber", "Hinge")),
        *(("numpy", f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
        ("numpy", "float16"),
        *(("sklearn.metrics._scorer", f"_{kind}Scorer") for kind in ("", "Proba", "Predict", "Threshold")),
        *(("sklearn.metrics._classification", f"{name}_score") for name in ("accuracy", "f1", "precision", "recall")),
        *(("sklearn.metrics._ranking", f"{name}_score") for name in ("roc_auc", "average_precision")),
        *(("sklearn.model_selection._split", f"{name}KFold") for name in ("", "Stratified", "Repeated", "Group")),
        *(("sklearn.model_selection._split", f"{name}ShuffleSplit") for name in ("", "Stratified", "Group")),
        ("sklearn.model_selection._split", "RepeatedStratifiedKFold"),
        ("sklearn.model_selection._split", "LeaveOneOut"),
        ("sklearn.neural_network._stochastic_optimizers", "AdamOptimizer"),
        ("sklearn.neural_network._stochastic_optimizers", "SGDOptimizer"),
        ("sklearn.tree._tree", "Tree"),
        ("sklearn.utils", "Bunch"),
        ("sklearn.utils._bunch", "Bunch"),
    }
)

# Pickle protocols 0 to 2 write the names that Python 2 had.
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
PYTHON_2_INT = ("__builtin__", "long")

JOBLIB_ARRAY = ("joblib.numpy_pickle", "NumpyArrayWrapper")

# Bytes that a compressed file may become.
MOST_UNPACKED = 300_000_000

# How compressed files begin, and what unpacks them, as joblib writes them.
COMPRESSED: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    b"\x78": zlib.decompressobj,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lzma.LZMADecompressor,
    b"\x5d\x00\x00": lzma.LZMADecompressor,
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that asks `find` for every name."""

    def __init__(self, stream: IO[bytes], find: Callable[[str, str], Any], joblib_array: type):
        super().__init__(stream)
        self._find = find
        self._joblib_array = joblib_array

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == JOBLIB_ARRAY:
            return self._joblib_array
        if (module, name) == PYTHON_2_INT:
            module, name = "builtins", "int"
        return self._find(PYTHON_2.get(module, module), name)


def _read(data: bytes, find: Callable[[str, str], Any], array: Callable[[IO[bytes], Callable[[], Any]], type]) -> Any:
    """What a pickle holds, or each of several in one file.

    `array` makes the class of joblib's arrays, of the stream and what reads a pickle in it.
    """
    if not data:
        raise BadModel("it is empty")
    try:
        unpacked = _unpacked(data)
        stream = io.BytesIO(unpacked)

        def load() -> Any:
            return _Unpickler(stream, find, joblib_array).load()

        # joblib's own loader would read an array of objects with plain pickle.
        joblib_array = array(stream, load)
        found = [load()]
        while unpacked.startswith(pickle.PROTO, stream.tell()):
            found.append(load())
        return found[0] if len(found) == 1 else found
    except (BadModel, MemoryError):
        raise
    except EOFError as error:
        raise BadModel("it is cut off") from error
    except Exception as error:  # a broken pickle can raise anything
        raise BadModel(f"it is not a pickle, or a broken one: {error}") from error


def _unpacked(data: bytes) -> bytes:
    for start, decompressor in COMPRESSED.items():
        if data.startswith(start):
            unpacking = decompressor()
            unpacked: bytes = unpacking.decompress(data, MOST_UNPACKED)
            if not unpacking.eof:
                raise BadModel(f"it is cut off, or unpacks to more than {MOST_UNPACKED:,} bytes")
            return unpacked
    return data


def inspect(data: bytes) -> Any:
    """What a pickle holds, with stand-ins for all that it names. Raises `BadModel`."""

    def find(module: str, name: str) -> Any:
        return STAND_INS.get((module, name)) or _stand_in(module, name)

    def array(stream: IO[bytes], unpickle: Callable[[], Any]) -> type:
        return type("NumpyArrayWrapper", (JoblibArray,), {"stream": stream, "unpickle": staticmethod(unpickle)})

    return _read(data, find, array)


def _stand_in(module: str, name: str) -> type[Inert]:
    return type(name, (Inert,), {"stands_for": (module, name)})


def require_helpers(named: set[Global], parts: Set[Global] = frozenset()) -> None:
    """Raise `BadModel` where one of the names is none of the `HELPERS`, nor of these parts of a model.

    What a model was measured with during its training is none of its parts, and can be anything that the libraries have
    for that.
    """
    for module, name in sorted(named - HELPERS - parts):
        if not module.startswith(("sklearn.metrics.", "xgboost.callback")):
            raise _refusal(module, name)


def _reconstructor(cls: type, base: type, state: object) -> Any:
    """What copyreg has for objects without a constructor of their own."""
    if base is not object or state is not None:
        raise BadModel(f"it makes a {cls.__name__} of another type")
    return object.__new__(cls)


# Python's own that a real model is made with.
HARMLESS: dict[Global, Any] = {
    **CONTAINERS,
    **{("builtins", kind.__name__): kind for kind in (object, float, int, bool)},
    ("copyreg", "_reconstructor"): _reconstructor,
    ("_codecs", "encode"): latin_1,
}


def load(data: bytes, named: set[Global]) -> Any:
    """The real objects of a pickle whose model is made of what has these names; stand-ins for others.

    Imports scikit-learn. Raises `BadModel` for one of the names that is neither one of its estimators nor one of the
    `HELPERS`, before anything is called.
    """
    from sklearn.base import BaseEstimator  # noqa: PLC0415 (it takes a second, and a linear model does without)

    inside = {*named, *STAND_INS}

    def find(module: str, name: str) -> Any:
        if (module, name) in HARMLESS:
            return HARMLESS[module, name]
        known = (module, name) in HELPERS
        if not known and (module, name) not in inside:
            return _stand_in(module, name)  # beside the model
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
    return _read(data, find, _real_joblib_array)


def _real_joblib_array(stream: IO[bytes], unpickle: Callable[[], Any]) -> type:
    import numpy as np  # noqa: PLC0415 (a linear model does without)

    class NumpyArrayWrapper(np.ndarray):
        """An array that becomes what joblib wrote when it gets its wrapper's state."""

        def __new__(cls, *_: object) -> Any:
            return super().__new__(cls, (0,))

        def __setstate__(self, state: Any) -> None:
            shape, dtype = state["shape"], state["dtype"]
            if dtype.hasobject:
                values: Any = unpickle().ravel(state["order"]).tolist()
            else:
                values = bytes_after(stream, state, dtype.itemsize)
            super().__setstate__((1, shape, dtype, state["order"] == "F", values))

    return NumpyArrayWrapper


def _refusal(module: str, name: str) -> BadModel:
    if module == "__main__":
        return BadModel(
            f"it names {module}.{name}, which only the script has that trained it: take it off the model before it is "
            "pickled (of XGBoost, model.save_model('model.json') leaves it out)"
        )
    return BadModel(
        f"it names {module}.{name}, which is not among the classes that models are read with; nothing was run"
    )
