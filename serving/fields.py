"""A field of a record: what it allows, and what is meant by a value that was given for it."""

import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

# The largest whole number that all readers of JSON agree on (RFC 8259, section 6). It also
# keeps every sum that a model forms finite.
LARGEST_NUMBER = 2**53 - 1

# More characters than the name of a field or a value of a category has in a table.
LONGEST_NAME = 1000

# A category of more values may be one of ids: its values are not shown to everybody, and not counted one by one.
MOST_VALUES = 50

# A record's value: UNSET where it counts nothing, and None for a blank that is not filled yet.
Value = str | int | float | bool | UnsetType | None

# What a field allows: the values of a category, or a number in words.
Allowed = tuple[str | int, ...] | str

# What tables write for a blank, whatever the capitals; the course makes `_` of a space.
BLANKS = ("", "_", "NA", "N/A", "<NA>", "NaN", "null", "None", "?")

# Of a number that is blank: that it stays missing.
MISSING = "NaN"

# How tables write yes and no.
TRUTHS = (("yes", "no"), ("true", "false"), ("1", "0"))

_is_number = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE).fullmatch
_is_whole = re.compile(r"([+-]?\d+)\.00?", re.ASCII).fullmatch


def canonical(text: str) -> str:
    """How the course spells a name or a value: `One year` is `one_year`. What is too long to be one stays."""
    return text.strip().lower().replace(" ", "_") if len(text) <= LONGEST_NAME else text


def spelt_out(value: str) -> str:
    """A value in canonical spelling as people read it, with its capital and its spaces."""
    text = value.replace("_", " ")
    return text[:1].upper() + text[1:]


CANONICAL_BLANKS = frozenset(map(canonical, BLANKS))


def by_spelling(names: Iterable[str]) -> dict[str, str]:
    """The names by their canonical spelling, where it fits exactly one of them."""
    names = [*names]
    times = Counter(map(canonical, names))
    return {canonical(name): name for name in names if times[canonical(name)] == 1}


class Constraints(Struct, frozen=True, omit_defaults=True):
    """What a field's values are held to: those of a category are named; a number that was never negative is from 0."""

    required: bool = False
    enum: Annotated[tuple[str | int, ...], Meta(min_length=1)] | UnsetType = UNSET
    minimum: int | float | UnsetType = UNSET


class Field(Struct, frozen=True, omit_defaults=True, dict=True):
    """One field of a record.

    Of type `string` it is a category, and of type `integer` with an `enum` too; other integers and `number` are
    numbers; `any` takes numbers and the texts of `categories`. `blank` is what a blank counts as, where there may be
    one, and of a number `MISSING` where the model knows missing values; with `booleans`, true and false are 1 and 0.
    `least`, `greatest` and `deciles` are of the table that the model learnt from.
    """

    name: str
    type: Literal["string", "integer", "number", "any"]
    title: str = ""
    constraints: Constraints = Constraints()
    categories: tuple[str, ...] = ()
    blank: str | int | float | None = None
    booleans: bool = False
    least: int | float | None = None
    greatest: int | float | None = None
    deciles: tuple[int | float, ...] = ()

    @property
    def label(self) -> str:
        """What people call it."""
        return self.title or self.name

    @cached_property
    def values(self) -> tuple[str | int, ...]:
        """The values that it allows, besides numbers."""
        return self.categories or self.constraints.enum or ()

    @cached_property
    def is_category(self) -> bool:
        """Whether nothing else than its values is allowed."""
        return bool(self.values) and self.type != "any"

    @property
    def is_number(self) -> bool:
        """Whether only numbers are allowed, and any of them."""
        return not self.values

    @property
    def may_be_missing(self) -> bool:
        """Whether a blank stays missing."""
        return self.blank == MISSING and self.is_number

    @property
    def is_private(self) -> bool:
        """Whether its values may be ids."""
        return len(self.values) > MOST_VALUES

    @cached_property
    def minimum(self) -> int | float:
        """The least number that is allowed."""
        least = self.constraints.minimum
        return -LARGEST_NUMBER if least is UNSET else (least or 0)  # and not -0.0

    @cached_property
    def allowed(self) -> Allowed:
        """What is allowed, as an error says it."""
        return self.values or self.numbers

    @cached_property
    def numbers(self) -> str:
        """The numbers that are allowed, in words."""
        kind = "a whole number" if self.type == "integer" else "a number"
        return f"{kind} from {self.minimum} to {LARGEST_NUMBER}"

    @cached_property
    def texts(self) -> dict[str, str | int]:
        """Its values by how a table writes them."""
        return {str(value): value for value in self.values}

    @cached_property
    def spellings(self) -> dict[str, str]:
        """Its values, as texts, by their canonical spelling."""
        return by_spelling(self.texts)

    @cached_property
    def truths(self) -> dict[str, str | int]:
        """Where its two values are a yes and a no, which of them each such word stands for."""
        spelt = {canonical(text): value for text, value in self.texts.items()}
        if not any(spelt.keys() == {*pair} for pair in TRUTHS):
            return {}
        both = [next(value for word, value in spelt.items() if word in side) for side in zip(*TRUTHS, strict=True)]
        return {word: value for pair in TRUTHS for word, value in zip(pair, both, strict=True)}

    def decoded(self, usual: bool = False) -> Any:
        """The type that its values in JSON are decoded as; with `usual` those that the training table held."""
        least: float
        greatest: float
        least, greatest = self.minimum, LARGEST_NUMBER
        if usual:
            least = least if self.least is None else max(least, self.least)
            greatest = greatest if self.greatest is None else min(greatest, self.greatest)
        if self.type == "integer":
            least, greatest = math.ceil(least), math.floor(greatest)
        number: Any = int if self.type == "integer" else float
        parts: list[Any] = [Literal[self.values]] if self.values else []
        if not self.is_category:
            parts.append(Annotated[number, Meta(ge=least, le=greatest)])
        found = parts[0] if len(parts) == 1 else parts[0] | parts[1]
        if self.booleans:
            found = found | bool
        return found if self.blank is None else found | None

    def read(self, given: object, from_text: bool = False) -> Value:
        """The value that is meant by what was given, decoded from JSON or, with `from_text`, a table's text.

        Raises `ValueError` where that is none.
        """
        if isinstance(given, str):
            if self.type == "integer" and not from_text:
                raise ValueError
            if (found := self.texts.get(given)) is not None:
                return found
            spelt = canonical(given)
            if from_text and self.type != "string" and (number := self.number_of(spelt)) is not None:
                return self.read(number)
            if spelt in self.spellings:
                return self.texts[self.spellings[spelt]]
            if from_text:
                return self._read_otherwise(spelt)
        elif given is None:
            if self.blank is not None:
                return None
        elif isinstance(given, bool):
            if self.booleans:
                return given
            if self.spellings.keys() - CANONICAL_BLANKS == {"true", "false"}:
                return self.texts[self.spellings["true" if given else "false"]]
        elif isinstance(given, int | float):
            whole = int(given) if isinstance(given, float) and given.is_integer() else given
            if self.is_category:
                if whole in self.values:
                    return whole
            elif self.minimum <= given <= LARGEST_NUMBER and (self.type != "integer" or isinstance(whole, int)):
                return whole if self.type == "integer" else float(given)
        raise ValueError

    def _read_otherwise(self, spelt: str) -> Value:
        """The value of a table's text that is none of the field's own: another yes or no, 1.0 for 1, or a blank."""
        whole = _is_whole(spelt)
        spelt = whole[1] if whole else spelt
        if spelt in self.truths:
            return self.truths[spelt]
        if whole and spelt in self.texts:
            return self.texts[spelt]
        if spelt in CANONICAL_BLANKS:
            return self.read(None)
        raise ValueError

    def number_of(self, text: str) -> float | bool | None:
        """The number that a text in canonical spelling is; None where it is none."""
        if self.booleans and text in ("true", "false"):
            return text == "true"
        return float(text) if _is_number(text) else None
