"""Where the parts of a table are, and where their scores belong: on disks or in object stores, by fsspec."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import OpenFile, get_compression, url_to_fs
from msgspec import Struct

from serving.errors import said

# What a table's name ends with, which its scores' name does not need; a Parquet file is known by it.
_of_parquet = re.compile(r"\.(parquet|parq|pq)$", re.IGNORECASE)
_of_others = re.compile(r"\.(csv|tsv|tab|txt|xlsx|xlsm)$", re.IGNORECASE)


class BadPlace(ValueError):
    """A table or a folder cannot be used; the message says which and why, in one line."""


class Part(Struct, frozen=True):
    """A file of a table: where it is and how it is packed; and the name that its scores get."""

    files: AbstractFileSystem
    path: str
    compression: str | None
    name: str

    @property
    def is_parquet(self) -> bool:
        """Whether it is a Parquet file, by its name."""
        return bool(_of_parquet.search(self.name))

    def open(self) -> OpenFile:
        """Its bytes, unpacked, once it is entered."""
        return OpenFile(self.files, self.path, "rb", self.compression)


class Output:
    """The folder for the scores, which is made where it is not there. Raises `BadPlace`.

    What is not finished has a hidden name, with this `run` in it.
    """

    def __init__(self, address: str, run: str):
        self.files, folder = _files_of(address)
        self.folder = folder.rstrip("/")
        self.run = run
        try:
            self.files.makedirs(self.folder, exist_ok=True)
            # Better one error now than one for each part.
            self.files.touch(trial := self.path(f".{run}"))
            self.names = {PurePosixPath(each).name for each in self.files.ls(self.folder, detail=False)}
            self.files.rm_file(trial)
        except Exception as error:  # each store has its own
            raise BadPlace(f"{address}: {said(error)}") from error

    def path(self, name: str) -> str:
        """Where a file of this name belongs."""
        return f"{self.folder}/{name}"

    def remove_unfinished(self) -> None:
        """Remove what this run did not finish, such as that of a worker which died."""
        self.files.invalidate_cache()
        for path in self.files.ls(self.folder, detail=False):
            if PurePosixPath(path).name.startswith(".") and self.run in path:
                self.files.rm_file(path)


def parts(addresses: Sequence[str], output: Output) -> list[Part]:
    """The files that addresses and patterns stand for, each once. Raises `BadPlace`."""
    found: dict[str, Part] = {}
    for address in addresses:
        for part in _matching(address):
            other = found.setdefault(part.name, part)
            if (other.files, other.path) != (part.files, part.path):
                both = f"{other.path} and {part.path}"
                raise BadPlace(f"{both} would both become {part.name}; score them into two folders, or rename one")
            if (part.files, part.path) == (output.files, output.path(part.name)):
                raise BadPlace(f"{part.path} would be replaced by its own scores; name another folder")
    return [*found.values()]


def _matching(address: str) -> list[Part]:
    files, path = _files_of(address)
    try:
        found: dict[str, Any] = {path: {"type": "file"}} if files.isfile(path) else files.glob(path, detail=True)
    except Exception as error:
        raise BadPlace(f"{address}: {said(error)}") from error
    paths = [each for each, about in found.items() if about["type"] == "file"]
    if not paths and found:
        raise BadPlace(f"{address} is a folder; name its files, such as {address.rstrip('/')}/*.csv")
    if not paths:
        raise BadPlace(f"{address}: there is no such file")
    return [Part(files, each, get_compression(each, "infer"), _name(each)) for each in sorted(paths)]


def _name(path: str) -> str:
    """What the scores of a file are called: as it is, as far as they are what it is."""
    name = PurePosixPath(path)
    plain = name.name if get_compression(path, "infer") is None else name.stem
    if _of_parquet.search(plain):
        return _of_parquet.sub(".parquet", plain)
    return _of_others.sub("", plain) + ".csv"


def _files_of(address: str) -> tuple[AbstractFileSystem, str]:
    try:
        files, path = url_to_fs(address)
        return files, path
    except (OSError, ValueError, ImportError) as error:  # the last names the package that the store needs
        raise BadPlace(f"{address}: {said(error)}") from error
