"""Stand-ins for the objects in a model file: they keep what scikit-learn's, NumPy's and XGBoost's were pickled with.

So none of the libraries is imported, and the version that wrote the file does not matter.
"""

import collections
import math
import struct
import sys
from collections.abc import Callable, Iterable
from typing import IO, Any

# The name of a class or function: its module, and its name there.
Global = tuple[str, str]


class BadModel(ValueError):
    """A file is no model that can be served; the message says why."""


# Python's own that are no danger: containers.
CONTAINERS: dict[Global, Any] = {
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "slice"): slice,
    ("builtins", "bytearray"): bytearray,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
}


class Inert:
    """Stands for an object of a library: keeps what it is made of, and does nothing."""

    stands_for: Global = ("", "")
    state: Any = {}  # noqa: RUF012 (replaced, never changed)
    arguments: tuple[Any, ...]
    items: list[Any]

    def __new__(cls, *args: object, **_: object) -> "Inert":
        self = object.__new__(cls)
        self.arguments, self.items = args, []
        return self

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        self.items += key, value

    def append(self, item: object) -> None:
        self.items.append(item)

    def extend(self, items: list[object]) -> None:
        self.items += items


def names(objects: Iterable[Any]) -> set[Global]:
    """What stand-ins stand for, those inside of these objects too."""
    found: set[Global] = set()
    seen: set[int] = set()
    waiting = [*objects]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str | bytes | int | float | None) or id(each) in seen:
            continue
        seen.add(id(each))
        match each:
            case Inert():
                found.add(each.stands_for)
                waiting += each.arguments, each.state, each.items
            case type() if issubclass(each, Inert):
                found.add(each.stands_for)
            case Array():
                waiting += each.state
            case dict():
                waiting += [*each.keys(), *each.values()]
            case list() | tuple() | set() | frozenset():
                waiting += each
    return found


# NumPy's codes for a kind and a size in bytes, as the struct module spells them.
FORMATS = {
    **{"b1": "?", "f2": "e", "f4": "f", "f8": "d"},
    **{"i1": "b", "i2": "h", "i4": "i", "i8": "q"},
    **{"u1": "B", "u2": "H", "u4": "I", "u8": "Q"},
}


# The order of bytes of this machine.
NATIVE = "<" if sys.byteorder == "little" else ">"


class Dtype:
    """Stands for numpy.dtype: reads an array's bytes. One of records has `fields`: a dtype and an offset by name."""

    def __init__(self, code: str, *_: object):
        self.code = code
        self.order = "<"
        self.fields: dict[str, tuple[Dtype, int]] = {}

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"
        self.fields = state[4] or {}

    @property
    def size(self) -> int:
        """The bytes of a value."""
        return int(self.code[1:] or 0) * (4 if self.code.startswith("U") else 1)

    def column(self, data: bytes, count: int, name: str) -> list[Any]:
        """The values of so many records under this name. Raises `KeyError` and `ValueError`."""
        dtype, offset = self.fields[name]
        kind, size = FORMATS[dtype.code], dtype.size
        if len(data) != count * self.size or not count:
            raise ValueError(f"{count:,} records in {len(data):,} bytes")
        if dtype.order == NATIVE and not offset % size and not self.size % size:  # ten times as fast
            view: Any = memoryview(data)
            found: list[Any] = view.cast(kind)[offset // size :: self.size // size].tolist()
            return found
        layout = f"{dtype.order}{offset}x{kind}{self.size - offset - size}x"
        return [value for (value,) in struct.iter_unpack(layout, data)]

    def values(self, data: Any, count: int) -> list[Any]:
        """So many values. Raises `ValueError` where the data have more or fewer, and `KeyError` for other types."""
        kind, size = self.code[:1], self.size
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
    def shape(self) -> tuple[int, ...]:
        """How many values in each direction."""
        shape: tuple[int, ...] = self.state[-4]
        return shape

    @property
    def values(self) -> list[Any]:
        """The values in the order of the memory, of numbers, text and objects. Raises `ValueError` for others."""
        *_, shape, dtype, _fortran, data = self.state
        try:
            values: list[Any] = dtype.values(data, math.prod(shape))
            return values
        except (KeyError, struct.error) as error:
            raise ValueError(f"an array of {dtype.code} that cannot be read: {error}") from error

    def columns(self, *names: str) -> list[list[Any]]:
        """The columns of an array of records that have these names. Raises `ValueError` where it has none such."""
        *_, shape, dtype, _fortran, data = self.state
        try:
            return [dtype.column(data, math.prod(shape), name) for name in names]
        except (KeyError, struct.error) as error:
            raise ValueError(f"records that cannot be read: {error}") from error

    def has(self, name: str) -> bool:
        """Whether it is an array of records that have such a column."""
        return name in self.state[-3].fields


class JoblibArray(Array):
    """Stands for joblib's wrapper of an array, whose bytes follow it in the file."""

    stream: IO[bytes]
    unpickle: Callable[[], Any]

    def __setstate__(self, state: dict[str, Any]) -> None:  # type: ignore[override]
        shape, dtype = state["shape"], state["dtype"]
        if dtype.code[:1] == "O":  # then it is another pickle
            super().__setstate__(self.unpickle().state)
            return
        super().__setstate__((shape, dtype, False, bytes_after(self.stream, state, dtype.size)))


def bytes_after(stream: IO[bytes], state: dict[str, Any], size: int) -> bytes:
    """The bytes of joblib's array that follow its wrapper's state in a file, each of its values so many."""
    if state.get("numpy_array_alignment_bytes"):
        stream.read(stream.read(1)[0])
    return stream.read(math.prod(state["shape"]) * size)


def _frombuffer(data: Any, dtype: Dtype, shape: tuple[int, ...], order: str) -> Array:
    array = Array()
    array.__setstate__((shape, dtype, order, bytes(data)))
    return array


def _scalar(dtype: Dtype, data: bytes) -> Any:
    try:
        return dtype.values(data, 1)[0]
    except KeyError:  # such as a date: nothing that a model is read from
        return Inert(dtype, data)


def latin_1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the pickle protocols of Python 2."""
    if encoding != "latin1":
        raise BadModel(f"it wants to encode text as {encoding}")
    return text.encode("latin-1")


def _bytes(*content: Any) -> bytes:
    """How bytes are made in pickle protocols 0 to 2."""
    if content and not isinstance(content[0], list | tuple | bytes):
        raise BadModel("it makes bytes of something else")
    return bytes(*content)


def _new(cls: type[Inert], *_: object) -> Inert:
    """How objects are made in pickle protocols 0 and 1."""
    return cls()


# Stand for numpy.float64, which is the type of most vectorizers' numbers, and numpy.float32.
FLOAT64, FLOAT32 = type("float64", (), {}), type("float32", (), {})

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
    ("numpy", "float32"): FLOAT32,
    ("builtins", "float"): FLOAT64,
    **{("builtins", kind): type(kind, (), {}) for kind in ("int", "bool")},
    ("_codecs", "encode"): latin_1,
    ("builtins", "bytes"): _bytes,
    ("copyreg", "_reconstructor"): _new,
    ("builtins", "object"): Inert,
}
