"""What a record is: the schema, as data that comes with the model. It knows nothing of any table, model or the web.

As JSON it is a Frictionless Table Schema (https://specs.frictionlessdata.io/table-schema); what that standard has
no word for stands beside it under names of ours.
"""

import math
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct

from serving.fields import BLANKS, Constraints, Field, Value, by_spelling, canonical, spelt_out


class BadSchema(ValueError):
    """A schema cannot be used; the message says why."""


class Words(Struct, frozen=True, rename={"try_": "try"}):
    """What people call things; without words of its own a schema makes do with its target's name.

    `yes` and `no` are what a record comes to, and `positives` those that came to yes; `act` and `refrain` are what to
    do about it. `groups` are the form's parts by the field that each begins with, `try_` is the field whose values
    the form also has as buttons, and `labels` are words for values.
    """

    record: str = "record"
    records: str = "records"
    yes: str = ""
    no: str = ""
    positives: str = ""
    question: str = ""
    act: str = ""
    refrain: str = ""
    groups: dict[str, str] = {}
    try_: str = ""
    labels: dict[str, str] = {}


class Schema(Struct, frozen=True, dict=True, rename={"missing_values": "missingValues"}):
    """What a record is: its fields in order, the column that is its id, and what is asked about it.

    The answer is yes from a probability of `threshold` on. `example` is a record.
    """

    fields: tuple[Field, ...]
    target: str = "churn"
    id: str | None = None
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5
    words: Words = Words()
    example: dict[str, str | int | float | bool | None] = {}
    missing_values: tuple[str, ...] = ("",)

    @cached_property
    def names(self) -> dict[str, int]:
        """The place of each field by its name."""
        return {field.name: place for place, field in enumerate(self.fields)}

    @cached_property
    def spellings(self) -> dict[str, str]:
        """The names of fields and id by their canonical spelling."""
        return by_spelling([*self.names, *([self.id] if self.id else [])])

    @cached_property
    def blanks(self) -> list[tuple[int, str | int | float]]:
        """The places of fields that may be blank, and what a blank counts as."""
        return [
            (place, float(field.blank) if field.type == "number" or field.may_be_missing else field.blank)
            for place, field in enumerate(self.fields)
            if field.blank is not None
        ]

    @cached_property
    def bounded(self) -> list[tuple[int, Field, int | float, int | float]]:
        """The places of fields that take numbers of which the least or the greatest is known, the field, and these."""
        return [
            (
                place,
                field,
                -math.inf if field.least is None else field.least,
                math.inf if field.greatest is None else field.greatest,
            )
            for place, field in enumerate(self.fields)
            if not field.is_category and (field.least, field.greatest) != (None, None)
        ]

    def in_words(self, field: Field, value: Value) -> str:
        """A value as people read it: one that is in canonical spelling gets its capital and its spaces."""
        if value is None or value is UNSET or value != value:
            return "unknown"
        text = str(value)
        if value not in field.values:
            return f"{value:.12g}" if isinstance(value, float) else text
        if text in self.words.labels or text != canonical(text):
            return self.words.labels.get(text, text)
        return spelt_out(text)

    def told(self, name: str, value: Value) -> str:
        """A field and its value as people read them."""
        field = self.fields[self.names[name]]
        return f"{field.label}: {self.in_words(field, value)}"

    def meant(self, key: str) -> str:
        """The field or id that a key in another spelling stands for; else the key, in canonical spelling where that is
        no field's own name."""
        spelt = canonical(key)
        return self.spellings.get(spelt, key if spelt in self.names else spelt)

    @property
    def is_private(self) -> bool:
        """Whether some values may be ids."""
        return any(field.is_private for field in self.fields)

    @cached_property
    def spoken(self) -> Words:
        """Its words, with those that are made of the target's name."""
        target, words = self.target, self.words
        positives, question = f"{words.records} with {target}", f"How probable is {target}?"
        no, refrain = f"no {target}", f"No {target}"
        made = Words(words.record, words.records, target, no, positives, question, target, refrain)
        given = {name: value for name, value in msgspec.structs.asdict(words).items() if value}
        return msgspec.structs.replace(made, **given)

    def shown(self) -> "Schema":
        """The same without the values that may be ids, nor an example of them."""
        if not self.is_private:
            return self
        fields = tuple(_without_values(field) if field.is_private else field for field in self.fields)
        example = {field.name: self.example[field.name] for field in self.fields if not field.is_private}
        words = msgspec.structs.replace(self.words, labels={})
        return msgspec.structs.replace(self, fields=fields, example=example, words=words)


def _without_values(field: Field) -> Field:
    more = f"{field.label} ({len(field.values):,} values, shown to holders of a key)"
    constraints = Constraints(field.constraints.required)
    return msgspec.structs.replace(field, title=more, categories=(), constraints=constraints, blank=None)


def from_features(features: Iterable[str], separator: str) -> Schema:
    """The schema that a DictVectorizer's feature names tell.

    The first separator splits a field's name from one of its values; a bare name is a number; both are a field that
    takes either.
    """
    values: dict[str, list[str]] = {}
    numbers = set()
    for feature in features:
        if not isinstance(feature, str):
            raise BadSchema(f"the vectorizer has the feature {feature!r}, whose name is no text")
        name, split, value = feature.partition(separator)
        values.setdefault(name, []).extend([value] if split else [])
        if not split:
            numbers.add(name)
    fields = []
    for name, texts in values.items():
        if name not in numbers:
            fields.append(Field(name, "string", constraints=Constraints(required=True, enum=tuple(texts))))
        else:
            kind: Literal["any", "number"] = "any" if texts else "number"
            constraints = Constraints(required=True)
            fields.append(Field(name, kind, constraints=constraints, categories=tuple(texts), booleans=True))
    return checked(Schema(tuple(fields)))


def from_json(decoded: Any) -> Schema:
    """The schema of a decoded JSON object. Raises `BadSchema`."""
    try:
        return checked(msgspec.convert(decoded, Schema))
    except msgspec.ValidationError as error:
        raise BadSchema(str(error)) from error


def checked(schema: Schema) -> Schema:
    """The same schema, with an example where it has none. Raises `BadSchema` where it contradicts itself."""
    ours = ("unusual", "reasons", "reasons_unit")
    keys = [f"{schema.target}_probability", schema.target, *ours, *([schema.id] if schema.id else [])]
    if (
        len({*keys}) < len(keys)
        or not all(key and key.isprintable() for key in keys)
        or any(set('"\\') & {*key} for key in keys)
    ):
        raise BadSchema(f"an answer cannot have the keys {', '.join(map(ascii, keys))}: choose another target or id")
    if not schema.fields:
        raise BadSchema("it has no fields")
    for name, times in Counter([*(field.name for field in schema.fields), schema.id]).items():
        if times > 1:
            raise BadSchema(f"it has two fields called {name!r}")
    for field in schema.fields:
        try:
            _check(field)
        except ValueError as error:
            raise BadSchema(f"the field {field.name!r} {error}") from error
    example = {field.name: schema.example.get(field.name) for field in schema.fields}
    if not schema.example:
        example = {field.name: _ordinary(field) for field in schema.fields}
    for field in schema.fields:
        try:
            field.read(example[field.name])
        except ValueError as error:
            raise BadSchema(f"the field {field.name!r} is not in the example, or has a wrong value there") from error
    return msgspec.structs.replace(schema, example=example, missing_values=BLANKS)


def _check(field: Field) -> None:
    kinds = {"string": str, "integer": int, "any": str}
    if not all(type(value) is kinds.get(field.type) for value in field.values):
        raise ValueError("allows values that are not of its type")
    if len({*field.values}) < len(field.values) or (field.categories and field.type != "any"):
        raise ValueError("allows a value twice, or has categories without being of the type any")
    if not field.values and field.type not in ("integer", "number"):
        raise ValueError(f"is of the type {field.type} and names no values: a category has an enum")
    numbers = [each for each in (field.least, *field.deciles, field.greatest) if each is not None]
    if not all(map(math.isfinite, [*numbers, field.minimum])) or numbers != sorted(numbers):
        raise ValueError("has bounds or deciles that are not in order")
    try:
        field.read(_ordinary(field) if field.blank is None or field.may_be_missing else field.blank)
    except ValueError as error:
        raise ValueError("has a blank that is not one of its values") from error


def _ordinary(field: Field) -> str | int | float:
    """A value for an example: the median, where it is known."""
    if field.values:
        return field.values[0]
    return field.deciles[len(field.deciles) // 2] if field.deciles else max(field.minimum, 0)
