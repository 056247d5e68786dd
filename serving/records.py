"""JSON -> customers, with limits on what it may cost to read."""

import codecs

import msgspec

from serving.customer import FIELDS, MOST_ERRORS, MOST_OTHER_KEYS, Customer, FieldError, InvalidCustomers, from_record
from serving.turns import in_turns

# How the raw table spells the one key that nothing misses where it is overlooked.
RAW_ID = b"customerID"

# Values that a text may have for each customer that it may have: read, each can take up to 200 bytes
# and 0.4 us, in which nobody else is answered. (Lists in lists are the most expensive.)
VALUES_A_RECORD = 50

# Misspellings are looked for in so many errors of an answer: comparing names takes time.
MOST_SUGGESTIONS = 20

# Bytes that are looked through at once.
PIECE = 65_536

_canonical_customers = msgspec.json.Decoder(Customer | list[Customer])
# Numbers too large for a float become infinite here, so that the field can be named.
_any_json = msgspec.json.Decoder(float_hook=float)


class NotJSON(ValueError):
    """A text is not JSON."""


class TooMuch(ValueError):
    """An array has more customers, or a text more values, than are taken at once; the message says how many are."""


def from_json(text: bytes, most: int) -> Customer | list[Customer]:
    """The customer of a JSON object, or the customers of a JSON array of at most so many, in order.

    Both the canonical and the raw table's spelling are understood. Raises `NotJSON` where the
    text is not JSON, `InvalidCustomers` where it does not hold customers, and `TooMuch`.
    """
    try:
        if not text.isascii():
            _require_utf8(text)  # msgspec does not look into the strings that it skips
        if RAW_ID[-1:] in text and RAW_ID in text:  # of which the first alone is found much faster
            return _from_any_json(text, most)
        customers: Customer | list[Customer] = _canonical_customers.decode(text)
    except msgspec.ValidationError:
        return _from_any_json(text, most)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_json(text, error) from error
    if isinstance(customers, list):
        _require_at_most(most, customers)
    return customers


def _require_utf8(text: bytes) -> None:
    # Piece by piece: one character can make the whole take four times the memory of its bytes.
    for _ in codecs.iterdecode((text[start : start + PIECE] for start in range(0, len(text), PIECE)), "utf-8"):
        pass


def _from_any_json(text: bytes, most: int) -> Customer | list[Customer]:
    # Counted before it is read. A comma or a bracket inside a text counts too, which does no harm.
    most_values = len(FIELDS) + MOST_OTHER_KEYS + VALUES_A_RECORD * most
    if text.count(b",") + text.count(b"[") + text.count(b"{") > most_values:
        raise TooMuch(
            f"A JSON body can have {most_values:,} values ({VALUES_A_RECORD} for each of SERVING_MAX_RECORDS); "
            "leave out keys that are no fields, or send a table (CSV)."
        )
    try:
        decoded = _any_json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _not_json(text, error) from error
    if not isinstance(decoded, list):
        return from_record(decoded)
    _require_at_most(most, decoded)
    customers: list[Customer] = []
    errors: list[FieldError] = []
    for index, record in enumerate(in_turns(decoded)):
        try:
            customers.append(from_record(record, index, misspellings=len(errors) < MOST_SUGGESTIONS))
        except InvalidCustomers as invalid:
            errors += invalid.errors
            if len(errors) > MOST_ERRORS:
                break
    if errors:
        raise InvalidCustomers(errors)
    return customers


def _require_at_most(most: int, records: list[object] | list[Customer]) -> None:
    if len(records) > most:
        raise TooMuch(f"An array can have {most:,} customers (SERVING_MAX_RECORDS); send more as a table (CSV).")


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
