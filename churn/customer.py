"""What a customer is: the one schema, its canonical spelling, and its errors.

The types of `Customer` are the only list of fields and values in this project: training,
serving and the documentation read them from here.
"""

import difflib
import functools
import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

# The largest whole number that all readers of JSON agree on (RFC 8259, section 6). It also
# keeps every sum that a model forms finite.
LARGEST_NUMBER = 2**53 - 1

# An answer names at most this many errors, so that its size has a bound.
MOST_ERRORS = 1000

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

# Tables are kept of what was worked out for a combination of categories: of each half of them
# there are some thousand combinations, of all together millions. A customer's values are taken
# apart by position for that.
HALF, END = len(CATEGORIES) // 2, len(CATEGORIES)
FIRST, SECOND = slice(HALF), slice(HALF, END)
TENURE, MONTHLYCHARGES, TOTALCHARGES = range(END, len(FIELDS))
assert [*CATEGORIES, *NUMBERS] == [*FIELDS], "the categories come first, and then the numbers"


class Combination:
    """The values of one half of the categories. Equal values share one object, which tables look up by its identity."""

    __slots__ = ("values",)

    def __init__(self, values: tuple[Any, ...]):
        self.values = values


class _Combinations(dict[tuple[Any, ...], Combination]):
    """The one object for each combination of values; they cannot outgrow the product of their categories' sizes."""

    def __missing__(self, values: tuple[Any, ...]) -> Combination:
        return self.setdefault(values, Combination(values))  # which another thread may have done meanwhile


first_halves, second_halves = _Combinations(), _Combinations()


class Batch(Struct, gc=False):
    """Customers by column, as the model and the metrics look at them: the categories in their combinations."""

    first: list[Combination]
    second: list[Combination]
    tenure: list[int]
    monthlycharges: list[float]
    totalcharges: list[float]

    @classmethod
    def of(cls, customers: Iterable[Customer]) -> "Batch":
        """The columns of these customers."""
        first, second, tenure, monthlycharges, totalcharges = [], [], [], [], []
        for values in map(astuple, customers):
            first.append(first_halves[values[FIRST]])
            second.append(second_halves[values[SECOND]])
            tenure.append(values[TENURE])
            monthlycharges.append(values[MONTHLYCHARGES])
            totalcharges.append(values[TOTALCHARGES])
        return cls(first, second, tenure, monthlycharges, totalcharges)

    def __len__(self) -> int:
        return len(self.first)

    def __iadd__(self, other: "Batch") -> "Batch":
        self.first += other.first
        self.second += other.second
        self.tenure += other.tenure
        self.monthlycharges += other.monthlycharges
        self.totalcharges += other.totalcharges
        return self

    def customers(self) -> Iterator[Customer]:
        """The customers, without their ids."""
        for first, second, *numbers in zip(*astuple(self), strict=True):
            yield Customer(*first.values, *second.values, *numbers)


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


class TooManyCustomers(ValueError):
    """An array has more customers than are taken at once; the message says how many are."""


class NotJSON(ValueError):
    """A text is not JSON."""


def canonical(text: str) -> str:
    """How the course's training table spells a name or a value: `One year` is `one_year`."""
    return text.strip().lower().replace(" ", "_")


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

# How the raw table spells the one key that nothing misses where it is overlooked.
RAW_ID = b"customerID"

_canonical_customers = msgspec.json.Decoder(Customer | list[Customer])
# Numbers too large for a float become infinite here, so that the field can be named.
_any_json = msgspec.json.Decoder(float_hook=float)


def from_json(text: bytes, most: int) -> Customer | list[Customer]:
    """The customer of a JSON object, or the customers of a JSON array of at most so many, in order.

    Both the canonical and the raw table's spelling are understood. Raises `NotJSON` where the
    text is not JSON, `InvalidCustomers` where it does not hold customers, and `TooManyCustomers`.
    """
    try:
        if not text.isascii():
            text.decode()  # msgspec does not look into the strings that it skips
        if RAW_ID[-1:] in text and RAW_ID in text:  # of which the first alone is found much faster
            return _from_any_json(text, most)
        customers: Customer | list[Customer] = _canonical_customers.decode(text)
    except msgspec.ValidationError:
        return _from_any_json(text, most)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(text, error) from error
    if isinstance(customers, list) and len(customers) > most:
        raise _too_many(most)
    return customers


def _from_any_json(text: bytes, most: int) -> Customer | list[Customer]:
    # Looked at before it is read: what is read takes up to a hundred times the memory of its text.
    if text.count(b"{") > most and text.lstrip().startswith(b"["):
        raise _too_many(most)
    try:
        decoded = _any_json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(text, error) from error
    if not isinstance(decoded, list):
        return from_record(decoded)
    customers, errors = [], []
    for index, record in enumerate(decoded):
        try:
            customers.append(from_record(record, index))
        except InvalidCustomers as invalid:
            errors += invalid.errors
            if len(errors) > MOST_ERRORS:
                break
    if errors:
        raise InvalidCustomers(errors)
    return customers


def _too_many(most: int) -> TooManyCustomers:
    return TooManyCustomers(f"An array can have {most:,} customers (CHURN_MAX_CUSTOMERS); send more as a table (CSV).")


def _not_json(text: bytes, error: Exception) -> NotJSON:
    if isinstance(error, RecursionError):
        return NotJSON("it is nested too deeply")
    if not text.strip():
        return NotJSON("it is empty")
    if isinstance(error, UnicodeDecodeError):
        return NotJSON(f"it is not UTF-8: {error.reason} (byte {error.start})")
    reason = str(error).removeprefix("JSON is malformed: ")
    if b"NaN" in text or b"Infinity" in text:
        reason += "; JSON has no NaN and no Infinity"
    return NotJSON(reason)


def from_record(record: object, index: int = 0, *, numbers_as_text: bool = False) -> Customer:
    """The customer that a decoded JSON object, or a row of a table, stands for.

    `index` is the customer's place, for the errors. With `numbers_as_text`, as in a CSV, text
    is read as a number where one belongs, and blank total charges are 0, as in the course: a
    customer without a first bill yet. Raises `InvalidCustomers` with every error.
    """
    if not isinstance(record, dict):
        message = f"a customer is a JSON object with {len(FIELDS)} fields, not {_shown(record)}"
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
        raise InvalidCustomers(list(_errors(given, values, index, strict=not numbers_as_text))) from None


def _readable(value: object) -> object:
    """A decoded value as the schema reads it."""
    return canonical(value) if isinstance(value, str) else _whole(value)


def _whole(value: object) -> object:
    """A whole number as such: to JSON 24.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _errors(given: dict[str, object], values: dict[str, object], index: int, strict: bool) -> Iterator[FieldError]:
    """Every error of one customer: `given` as it came, `values` as the schema reads them."""
    for field in FIELDS:
        if field.name not in values:
            yield _missing(field, given, index)
        elif not _fits(values[field.name], field.type, strict):
            yield _wrong(field, given[field.name], index)
    if not _fits(values["customerid"], CustomerId, strict):
        message = f"{_shown(given['customerid'])} cannot be an id"
        yield FieldError(index=index, field="customerid", message=message, allowed="text or a whole number")


def _fits(value: object, type: Any, strict: bool) -> bool:
    try:
        msgspec.convert(value, type, strict=strict)
    except msgspec.ValidationError:
        return False
    return True


def _wrong(field: Field, value: object, index: int) -> FieldError:
    if field.is_category:
        message = f"{_shown(value)} is not one of the allowed values"
    else:
        message = f"{_shown(value)} is not {field.allowed}"
    return FieldError(index=index, field=field.name, message=message, allowed=field.allowed)


def _missing(field: Field, given: dict[str, object], index: int) -> FieldError:
    misspelt = closest(field.name, given)
    message = f'it is missing; is "{misspelt}" a misspelling of it?' if misspelt else "it is missing"
    return FieldError(index=index, field=field.name, message=message, allowed=field.allowed)


def closest(name: str, keys: Iterable[str]) -> str | None:
    """The key that a field's name was probably meant by, if there is one."""
    # Bounded, since comparing names takes time.
    unknown = [key for key in keys if key not in FIELD_NAMES and len(key) <= 3 * len(name)]
    return _closest(name, frozenset(unknown[:40]))


@functools.lru_cache(maxsize=1024)
def _closest(name: str, candidates: frozenset[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, sorted(candidates), n=1)), None)


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
