"""What a customer is: the one schema, its canonical spelling, and its errors.

The types of `Customer` are the only list of fields and values in this project: training,
serving and the documentation read them from here.
"""

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

# The largest whole number that all readers of JSON agree on (RFC 8259, section 6). It also
# keeps every sum that a model forms finite.
LARGEST_NUMBER = 2**53 - 1

# An answer names at most this many errors, so that its size has a bound.
MOST_ERRORS = 1000

# More characters than the name of a field or a value of a category has.
LONGEST_NAME = 1000

# An error names at most this many allowed values.
MOST_ALLOWED = 20

# Keys that a misspelling is looked for among, and how many of them are compared letter by letter.
MOST_CANDIDATES, MOST_COMPARED = 200, 10

# Keys that a record can have besides its fields: what a CRM adds, and not what fills memory.
MOST_OTHER_KEYS = 1000

# What a field allows: the values of a category, or a number in words.
Allowed = tuple[str | int, ...] | str

YesNo = Literal["yes", "no"]
PhoneOption = Literal["yes", "no", "no_phone_service"]
InternetOption = Literal["yes", "no", "no_internet_service"]
Months = Annotated[int, Meta(ge=0, le=LARGEST_NUMBER)]
CustomerId = str | int | None
Money = Annotated[float, Meta(ge=0, le=LARGEST_NUMBER)]


class Customer(Struct, frozen=True, gc=False):
    """A customer of the telecom company, in canonical spelling.

    `tenure` is in months, the two charges in the company's currency. `customerid` is not a
    field that the model sees: it only comes back with the answer.
    """

    gender: Literal["female", "male"]
    seniorcitizen: Literal[0, 1]
    partner: YesNo
    dependents: YesNo
    phoneservice: YesNo
    multiplelines: PhoneOption
    internetservice: Literal["dsl", "fiber_optic", "no"]
    onlinesecurity: InternetOption
    onlinebackup: InternetOption
    deviceprotection: InternetOption
    techsupport: InternetOption
    streamingtv: InternetOption
    streamingmovies: InternetOption
    contract: Literal["month-to-month", "one_year", "two_year"]
    paperlessbilling: YesNo
    paymentmethod: Literal["electronic_check", "mailed_check", "bank_transfer_(automatic)", "credit_card_(automatic)"]
    tenure: Months
    monthlycharges: Money
    totalcharges: Money
    customerid: CustomerId = None


class Field(NamedTuple):
    """One of the nineteen fields."""

    name: str
    type: Any
    allowed: Allowed

    @property
    def is_category(self) -> bool:
        return not isinstance(self.allowed, str)


def _fields() -> Iterator[Field]:
    for field in msgspec.structs.fields(Customer):
        if not field.required:
            continue
        allowed: Allowed
        match msgspec.inspect.type_info(field.type):
            case msgspec.inspect.LiteralType():
                allowed = get_args(field.type)
            case msgspec.inspect.IntType(ge=least, le=most):
                allowed = f"a whole number from {least} to {most}"
            case msgspec.inspect.FloatType(ge=least, le=most):
                allowed = f"a number from {least:.0f} to {most:.0f}"
        yield Field(field.name, field.type, allowed)


FIELDS = tuple(_fields())
FIELD_NAMES = frozenset(field.name for field in FIELDS)
CATEGORIES = [field for field in FIELDS if field.is_category]
NUMBERS = [field for field in FIELDS if not field.is_category]

# Of a customer's values as a row, the categories come first, and then the numbers.
END = len(CATEGORIES)
assert [*CATEGORIES, *NUMBERS] == [*FIELDS]

# A customer's values in the order of `FIELDS`, which others may follow, and those of many customers by column.
Row = Sequence[Any]
Columns = Sequence[Row]


def columns_of(rows: Sequence[Row]) -> Columns:
    """The columns of customers, one for each of `FIELDS`."""
    columns: Columns = [*zip(*rows, strict=True)]
    return columns[: len(FIELDS)] if rows else [() for _ in FIELDS]


class FieldError(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is wrong with one field of one customer.

    `index` is the customer's place in the array (0 for a single customer); `field` is left
    out where the customer is no JSON object at all.
    """

    index: int
    field: str | None = None
    message: str
    allowed: Allowed | None = None


class InvalidCustomers(ValueError):
    """Some customers break the schema; `errors` has every error of each of them (up to `MOST_ERRORS`).

    `who` is invalid, where it is not as many customers as there are errors of.
    """

    def __init__(self, errors: list[FieldError], who: str | None = None):
        self.errors = errors[:MOST_ERRORS]
        customers = len({error.index for error in self.errors})
        who = who or ("One customer is" if customers == 1 else f"{customers} customers are")
        or_more = "or more " if len(errors) > MOST_ERRORS else ""
        counted = "error" if len(self.errors) == 1 else f"{len(self.errors)} {or_more}errors"
        super().__init__(f"{who} invalid: see the {counted}.")


def canonical(text: str) -> str:
    """How the course's training table spells a name or a value: `One year` is `one_year`.

    What is too long to be one stays as it is.
    """
    return text.strip().lower().replace(" ", "_") if len(text) <= LONGEST_NAME else text


def features(customer: Customer) -> dict[str, str | float]:
    """The nineteen fields as a dictionary, as DictVectorizer takes them."""
    return {field.name: getattr(customer, field.name) for field in FIELDS}


# Total charges that are not there yet: the raw table's space, and what the course makes of it.
BLANK = ("", "_")

# The customer that the course asks about; its model gives her a probability of 0.339.
SEED_CUSTOMER = Customer(
    gender="female",
    seniorcitizen=0,
    partner="yes",
    dependents="no",
    phoneservice="no",
    multiplelines="no_phone_service",
    internetservice="dsl",
    onlinesecurity="no",
    onlinebackup="yes",
    deviceprotection="no",
    techsupport="no",
    streamingtv="no",
    streamingmovies="no",
    contract="month-to-month",
    paperlessbilling="yes",
    paymentmethod="electronic_check",
    tenure=24,
    monthlycharges=29.85,
    totalcharges=24 * 29.85,
)


def from_record(
    record: object, index: int = 0, *, numbers_as_text: bool = False, misspellings: bool = True
) -> Customer:
    """The customer that a decoded JSON object, or a row of a table, stands for.

    `index` is the customer's place, for the errors. With `numbers_as_text`, as in a CSV, text
    is read as a number where one belongs, and blank total charges are 0, as in the course: a
    customer without a first bill yet. Raises `InvalidCustomers` with every error; with
    `misspellings` they say which key a missing field may have been meant by.
    """
    if not isinstance(record, dict):
        message = f"a customer is a JSON object with {len(FIELDS)} fields, not {_shown(record)}"
        raise InvalidCustomers([FieldError(index=index, message=message)])
    if len(record) > len(FIELDS) + MOST_OTHER_KEYS:
        message = f"it has {len(record):,} keys, and can have {MOST_OTHER_KEYS:,} besides its {len(FIELDS)} fields"
        raise InvalidCustomers([FieldError(index=index, message=message)])
    # A key in canonical spelling wins over other spellings of it.
    given = {canonical(key): value for key, value in record.items()} | record
    values = {name: _readable(given[name]) for name in FIELD_NAMES if name in given}
    values["customerid"] = _whole(given.get("customerid"))
    if numbers_as_text and values.get("totalcharges") in BLANK:
        values["totalcharges"] = "0"
    try:
        return msgspec.convert(values, Customer, strict=not numbers_as_text)
    except msgspec.ValidationError:
        errors = _errors(given, values, index, strict=not numbers_as_text, misspellings=misspellings)
        raise InvalidCustomers(list(errors)) from None


def _readable(value: object) -> object:
    """A decoded value as the schema reads it; a text that is too long for any field is read as nothing."""
    if isinstance(value, str):
        return canonical(value) if len(value) <= LONGEST_NAME else None
    return _whole(value)


def _whole(value: object) -> object:
    """A whole number as such: to JSON 24.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _errors(
    given: dict[str, object], values: dict[str, object], index: int, strict: bool, misspellings: bool
) -> Iterator[FieldError]:
    """Every error of one customer: `given` as it came, `values` as the schema reads them."""
    for field in FIELDS:
        if field.name not in values:
            misspelt = closest(field.name, given) if misspellings else None
            message = f'it is missing; is "{misspelt}" a misspelling of it?' if misspelt else "it is missing"
            yield error_of(field, message, index)
        elif not _fits(values[field.name], field.type, strict):
            is_not = "one of the allowed values" if field.is_category else field.allowed
            yield error_of(field, f"{_shown(given[field.name])} is not {is_not}", index)
    if not _fits(values["customerid"], CustomerId, strict):
        message = f"{_shown(given['customerid'])} cannot be an id"
        yield FieldError(index=index, field="customerid", message=message, allowed="text or a whole number")


def error_of(field: Field, message: str, index: int = 0) -> FieldError:
    """An error of a field, with what it allows: of many values the first, and how many there are."""
    allowed = field.allowed
    if field.is_category and len(allowed) > MOST_ALLOWED:
        message += f" (the first {MOST_ALLOWED} of {len(allowed):,} allowed values are named)"
        allowed = allowed[:MOST_ALLOWED]
    return FieldError(index=index, field=field.name, message=message, allowed=allowed)


def _fits(value: object, type: Any, strict: bool) -> bool:
    try:
        msgspec.convert(value, type, strict=strict)
    except msgspec.ValidationError:
        return False
    return True


def closest(name: str, keys: Iterable[str]) -> str | None:
    """The key that a field's name was probably meant by, if there is one."""
    unknown = [key for key in islice(keys, MOST_CANDIDATES) if key not in FIELD_NAMES and len(key) <= 3 * len(name)]
    # Comparing takes time: only with those that have most letters in common.
    letters = Counter(name)
    unknown.sort(key=lambda key: (Counter[str](key) - letters).total() + (letters - Counter[str](key)).total())
    return next(iter(difflib.get_close_matches(name, unknown[:MOST_COMPARED], n=1)), None)


def _shown(value: object) -> str:
    """A JSON value as an error message shows it: short, and in JSON's words."""
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            return "the text " + json.dumps(value if len(value) <= 40 else value[:39] + "…", ensure_ascii=False)
        case float() if value in (float("inf"), float("-inf")):
            return "a number too large to read"
        case _:
            shown = json.dumps(value)
            return shown if len(shown) <= 40 else shown[:39] + "…"
