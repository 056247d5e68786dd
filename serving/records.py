"""Records -> columns of values: JSON decoded and held to the schema, blanks filled, unusual values noted."""

import codecs
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import astuple

from serving import errors
from serving.distribution import in_order
from serving.errors import MOST_ERRORS, MOST_SUGGESTIONS, FieldError, InvalidRecords, TooMuch
from serving.fields import LARGEST_NUMBER, Field, Value, canonical
from serving.schema import Schema
from serving.turns import in_turns

# Values that a text may have for each record that it may have: read, each can take up to 200 bytes and 0.4 us, in
# which nobody else is answered. (Lists in lists are the most expensive.)
VALUES_A_RECORD = 50

# Keys that a record can have besides its fields: what a CRM adds, and not what fills memory.
MOST_OTHER_KEYS = 1000

# Bytes that are looked through at once, and for an id in another spelling at all.
PIECE = 65_536

# Makes the canonical spelling of what is ASCII.
CANONICAL = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ ", b"abcdefghijklmnopqrstuvwxyz_")

# How records arrive.
Form = Literal["object", "array", "csv"]
FORMS: tuple[Form, ...] = ("object", "array", "csv")

Id = str | int | None
Columns = list[Sequence[Any]]
# By a record's place, the fields whose values are unusual.
Unusual = dict[int, list[str]]
# By the name of a field, how many of its values were blank and have been filled.
Blanks = dict[str, int]

# Numbers too large for a float become infinite here, so that the field can be named.
_any_json = msgspec.json.Decoder(float_hook=float)


def of_places(columns: Columns, places: Sequence[int]) -> Columns:
    """The columns of the records in these places."""
    return [[column[place] for place in places] for column in columns]


class NotJSON(ValueError):
    """A text is not JSON."""


class Absent(NamedTuple):
    """What a lenient reader takes for a number: where there is none, and where there is a blank."""

    number: float
    blank: float


ZERO = Absent(0.0, 0.0)


class Records(Struct, gc=False):
    """Records by column, in the order of the schema's fields, without blanks.

    `ids` are there where the schema has an id and the records came as JSON. `ordered` are the numbers of some fields,
    by the field's name, in order and without what is missing: whoever counts them need not do that again.
    """

    form: Form
    columns: Columns
    unusual: Unusual
    blanks: Blanks
    ids: Sequence[Id] = ()
    ordered: dict[str, list[float]] = {}

    def __len__(self) -> int:
        return len(self.columns[0])


class JSONReader:
    """Reads JSON texts that hold records of a schema.

    The schema's own spelling is the fastest. A `lenient` reader takes what is missing or not allowed as counting
    nothing, as a DictVectorizer does, and notes it as unusual.
    """

    def __init__(self, schema: Schema, lenient: bool = False, absent: Absent = ZERO):
        self._schema = schema
        self._lenient = lenient
        self._absent = absent
        # A record that comes alone is usual, most of the time: then nothing has to be looked for, which saves 1 us.
        self._decode_usual, self._decode = _decoder(schema, usual=True), _decoder(schema)
        self._id = canonical(schema.id or "").encode()
        self._quoted_id = re.compile(rb'"_*' + re.escape(self._id) + rb'_*"').search

    def __call__(self, text: bytes, most: int) -> Records:
        """The record of a JSON object, or the records of an array of at most so many, in order.

        Raises `NotJSON`, `InvalidRecords` where the text does not hold records, and `TooMuch`.
        """
        is_usual = True
        try:
            if not text.isascii():
                _require_utf8(text)  # msgspec does not look into the strings that it skips
            try:
                decoded = self._decode_usual(text)
            except msgspec.ValidationError:
                is_usual = False
                decoded = self._decode(text)
        except msgspec.ValidationError:
            return self._from_any_json(text, most)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(text, error) from error
        form, decoded = self._of_form(decoded, most)
        records = self._by_column(form, map(astuple, decoded), {}, is_usual)
        if None in records.ids and (records.ids[0] is not None or self._may_name_id(text)):
            return self._from_any_json(text, most)
        return records

    def _by_column(
        self, form: Form, rows: Iterable[Sequence[Any]], ignored: Unusual, is_usual: bool = False
    ) -> Records:
        """The records of rows of values, each with its id at the end where the schema has one."""
        schema = self._schema
        columns: Columns = [*zip(*rows, strict=True)] or [()] * (len(schema.fields) + bool(schema.id))
        ids = columns.pop() if schema.id else ()
        records = Records(form, columns, ignored, fill(schema, columns), ids)
        if not is_usual:
            note_unusual(schema, records)
        return records

    def _may_name_id(self, text: bytes) -> bool:
        """Whether the id may be there in another spelling, since nothing misses it where it is overlooked."""
        spelt = text[:PIECE].translate(CANONICAL)
        return not self._id.isascii() or (self._id in spelt and bool(self._quoted_id(spelt)))

    def _from_any_json(self, text: bytes, most: int) -> Records:
        # Counted before it is read. A comma or a bracket inside a text counts too, which does no harm.
        most_values = len(self._schema.fields) + MOST_OTHER_KEYS + VALUES_A_RECORD * most
        if text.count(b",") + text.count(b"[") + text.count(b"{") > most_values:
            raise TooMuch(
                f"A JSON body can have {most_values:,} values ({VALUES_A_RECORD} for each of SERVING_MAX_RECORDS); "
                "leave out keys that are no fields, or send a table (CSV)."
            )
        try:
            decoded = _any_json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _not_json(text, error) from error
        form, decoded = self._of_form(decoded, most)
        rows: list[list[Value]] = []
        found: list[FieldError] = []
        ignored: Unusual = {}
        for index, record in enumerate(in_turns(decoded)):
            row, wrong = self._row(record, index, MOST_SUGGESTIONS - len(found))
            if self._lenient and row:
                if names := [error.field for error in wrong if error.field in self._schema.names]:
                    ignored[index] = names
                wrong = [error for error in wrong if error.field not in self._schema.names]
            found += wrong
            if len(found) > MOST_ERRORS:
                break
            rows.append(row)
        if found:
            raise InvalidRecords(found, self._schema)
        return self._by_column(form, rows, ignored)

    def _row(self, record: object, index: int, suggestions: int) -> tuple[list[Any], list[FieldError]]:
        """The values of a decoded object, its id too, and what is wrong; no values where it is none at all."""
        schema = self._schema
        if not isinstance(record, dict):
            message = f"each {schema.words.record} is a JSON object with {len(schema.fields)} fields, not "
            return [], [FieldError(index=index, message=message + errors.shown(record))]
        if len(record) > len(schema.fields) + MOST_OTHER_KEYS:
            besides = f"and can have {MOST_OTHER_KEYS:,} besides its {len(schema.fields)} fields"
            return [], [FieldError(index=index, message=f"it has {len(record):,} keys, {besides}")]
        # A key in the schema's own spelling wins over other spellings of it.
        given = {schema.meant(key): value for key, value in record.items()} | record
        row: list[Any] = []
        wrong: list[FieldError] = []
        for field in schema.fields:
            try:
                row.append(field.read(given[field.name]))
                continue
            except KeyError:
                is_searched = len(wrong) < suggestions and not self._lenient
                misspelt = errors.closest(field.name, given, schema) if is_searched else None
                wrong.append(errors.missing(field, "it is missing", misspelt, index))
            except ValueError:
                wrong.append(errors.wrong(field, given[field.name], index))
            row.append(nothing(field, given.get(field.name, UNSET), self._absent))
        if not schema.id:
            return row, wrong
        id_ = given.get(schema.id)
        id_ = int(id_) if isinstance(id_, float) and id_.is_integer() else id_
        if not isinstance(id_, str | int | None) or isinstance(id_, bool):
            message = f"{errors.shown(id_)} cannot be an id"
            wrong.append(FieldError(index=index, field=schema.id, message=message, allowed="text or a whole number"))
        return [*row, id_], wrong

    def _of_form(self, decoded: Any, most: int) -> tuple[Form, list[Any]]:
        """How they came, and what are to be records. Raises `TooMuch`."""
        if not isinstance(decoded, list):
            return "object", [decoded]
        if len(decoded) > most:
            many = f"{most:,} {self._schema.words.records}"
            raise TooMuch(f"An array can have {many} (SERVING_MAX_RECORDS); send more as a table (CSV).")
        return "array", decoded


def nothing(field: Field, given: object, absent: Absent) -> Value:
    """What a value that is not allowed counts as: nothing, or itself where it is a number that can be summed.

    Nothing was given where it is UNSET, and a blank where it is None.
    """
    if not field.is_category and isinstance(given, int | float) and abs(given) <= LARGEST_NUMBER:
        return float(given)
    if field.is_number:
        return absent.blank if given is None else absent.number
    # DictVectorizer makes a blank a number.
    return absent.blank if field.type == "any" and given is None and math.isnan(absent.blank) else UNSET


def fill(schema: Schema, columns: Columns) -> Blanks:
    """Fill the blanks in columns as training did, in place; gives how many there were."""
    blanks: Blanks = {}
    for place, blank in schema.blanks:
        if None in (column := columns[place]):
            blanks[schema.fields[place].name] = column.count(None)
            columns[place] = [blank if value is None else value for value in column]
    return blanks


def note_unusual(schema: Schema, records: Records) -> None:
    """Note what else is unusual in records: numbers that the training table did not hold."""
    for place, field, least, greatest in schema.bounded:
        column = records.columns[place]
        if field.is_number:
            ordered = records.ordered[field.name] = in_order(column)
            if not ordered or (ordered[0] >= least and ordered[-1] <= greatest):
                continue
            beyond = [at for at, value in enumerate(column) if value < least or value > greatest]
        else:
            numbers = ((at, value) for at, value in enumerate(column) if isinstance(value, int | float))
            beyond = [at for at, value in numbers if not least <= value <= greatest]
        for index in beyond:
            if column[index] != field.blank and field.name not in (names := records.unusual.setdefault(index, [])):
                names.append(field.name)


def _decoder(schema: Schema, usual: bool = False) -> Callable[[bytes], Any]:
    """A decoder of an object or an array of them; each becomes a Struct of its fields in order, and its id.

    With `usual` it is of one object, whose numbers are such as the training table held.
    """
    fields: list[tuple[Any, ...]] = [(f"f{place}", field.decoded(usual)) for place, field in enumerate(schema.fields)]
    names = {f"f{place}": field.name for place, field in enumerate(schema.fields)}
    if schema.id:
        fields.append(("id_", Id, None))
        names["id_"] = schema.id
    try:
        record = msgspec.defstruct("Record", fields, rename=names, frozen=True, gc=False)
        return msgspec.json.Decoder(record if usual else record | list[record]).decode  # type: ignore[valid-type]
    except ValueError:  # it takes no names with quotes, backslashes or control characters
        return _unknown


def _unknown(text: bytes) -> Any:  # noqa: ARG001 (as a decoder's)
    raise msgspec.ValidationError


def _require_utf8(text: bytes) -> None:
    # Piece by piece: one character can make the whole take four times the memory of its bytes.
    for _ in codecs.iterdecode((text[start : start + PIECE] for start in range(0, len(text), PIECE)), "utf-8"):
        pass


def _not_json(text: bytes, error: Exception) -> NotJSON:
    if isinstance(error, RecursionError):
        return NotJSON("it is nested too deeply")
    if not text.strip():
        return NotJSON("it is empty")
    if isinstance(error, UnicodeDecodeError):
        return NotJSON(f"it is not UTF-8: {error.reason}")
    reason = str(error).removeprefix("JSON is malformed: ")
    if b"NaN" in text or b"Infinity" in text:
        reason += "; JSON has no NaN and no Infinity"
    return NotJSON(reason)
