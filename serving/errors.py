"""What is wrong with records, field by field, and with tables, in words."""

import difflib
import json
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from msgspec import Struct

from serving.fields import Allowed, Field
from serving.schema import Schema

# An answer names at most this many errors, so that its size has a bound.
MOST_ERRORS = 1000

# An error names at most this many allowed values.
MOST_ALLOWED = 20

# Keys that a misspelling is looked for among, and how many of them are compared letter by letter.
MOST_CANDIDATES, MOST_COMPARED = 200, 10

# Misspellings are looked for in so many errors of an answer: comparing names takes time.
MOST_SUGGESTIONS = 20

# Characters of a given value that an error shows.
MOST_SHOWN = 40


def said(error: BaseException) -> str:
    """An exception's message, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


def of_file(error: OSError) -> str:
    """What keeps a file from being read or written, with its name where the error has one."""
    return f"{error.filename}: {error.strerror}" if error.filename else said(error)


class BadTable(ValueError):
    """A table cannot be used; the message says where and why, in one line."""


class TooMuch(ValueError):
    """An array has more records, a text more values, or a workbook more bytes than are taken at once; the message says
    how many are."""


class FieldError(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is wrong with one field of one record.

    `index` is the record's place in the array (0 for a single one); `field` is left out where the record is no JSON
    object at all.
    """

    index: int
    field: str | None = None
    message: str
    allowed: Allowed | None = None


class InvalidRecords(ValueError):
    """Some records break the schema; `errors` has every error of each of them (up to `MOST_ERRORS`).

    `who` is invalid, where it is not as many records as there are errors of.
    """

    def __init__(self, errors: list[FieldError], schema: Schema, who: str | None = None):
        self.errors = errors[:MOST_ERRORS]
        self.number = len({error.index for error in self.errors})
        words = schema.words
        who = who or (f"One {words.record} is" if self.number == 1 else f"{self.number} {words.records} are")
        or_more = "or more " if len(errors) > MOST_ERRORS else ""
        counted = "error" if len(self.errors) == 1 else f"{len(self.errors)} {or_more}errors"
        super().__init__(f"{who} invalid: see the {counted}.")


def error_of(field: Field, message: str, index: int = 0) -> FieldError:
    """An error of a field, with what it allows: of many values the first, and how many there are."""
    allowed = field.allowed
    if len(field.values) > MOST_ALLOWED:
        message += f" (the first {MOST_ALLOWED} of {len(allowed):,} allowed values are named)"
        allowed = allowed[:MOST_ALLOWED]
    return FieldError(index=index, field=field.name, message=message, allowed=allowed)


def wrong(field: Field, given: object, index: int) -> FieldError:
    """The error of a value that the field does not allow."""
    is_not = "one of the allowed values" if field.is_category else field.allowed
    if field.type == "any":
        is_not = f"{field.numbers} and not one of the allowed values"
    return error_of(field, f"{shown(given)} is not {is_not}", index)


def missing(field: Field, message: str, misspelt: str | None, index: int = 0) -> FieldError:
    """The error of a field that is not there."""
    return error_of(field, f'{message}; is "{misspelt}" a misspelling of it?' if misspelt else message, index)


def closest(name: str, keys: Iterable[str], schema: Schema) -> str | None:
    """The key that a field's name was probably meant by, if there is one."""
    known = schema.names
    candidates = (key for key in keys if key not in known and len(key) <= 3 * len(name))
    unknown = [*islice(candidates, MOST_CANDIDATES)]
    # Comparing takes time: only with those that have most letters in common.
    letters = Counter(name)
    unknown.sort(key=lambda key: (Counter[str](key) - letters).total() + (letters - Counter[str](key)).total())
    return next(iter(difflib.get_close_matches(name, unknown[:MOST_COMPARED], n=1)), None)


def shown(value: object) -> str:
    """A JSON value as an error message shows it: short, and in JSON's words."""
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            cut = value if len(value) <= MOST_SHOWN else value[: MOST_SHOWN - 3] + "..."
            return "the text " + json.dumps(cut, ensure_ascii=False)
        case float() if value in (float("inf"), float("-inf")):
            return "a number too large to read"
        case _:
            found = json.dumps(value)
            return found if len(found) <= MOST_SHOWN else found[: MOST_SHOWN - 3] + "..."
