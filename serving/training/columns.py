"""A table that nobody has described: what each of its columns is, and which of them teach something."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET

from serving.errors import MOST_SHOWN, BadTable
from serving.fields import CANONICAL_BLANKS, Constraints, Field, canonical, spelt_out
from serving.schema import BadSchema, Schema, Words, checked
from serving.tables.numbers import Cells, Conventions, Plain, with_point, without_thousands

# A text with more values, or with another one in more than half of the rows, would be learnt by heart.
MOST_TEXTS, MOST_DIFFERENT = 1000, 0.5

# A number may be a text in some rows, such as `unknown`: there are so many different texts at most, more different
# numbers than these, and texts in no more than half of the rows that are not blank. Else it is a category.
MOST_ODD, LEAST_NUMBERS = 20, 20

# Texts that a line names.
MOST_NAMED = 3

# The last word of what columns are called that name the records, or its end, as in customerid, but not the end of
# these; and what those are called that name the rows, by pandas and R too, or that do if they count them.
ID_WORDS = ("id", "key", "uuid", "guid", "number", "no", "nr", "nbr", "num", "phone", "ssn", "pk", "idno", "seqn")
ID_ENDS = ("id", "number", "nr", "num", "nummer")
NO_IDS = (
    *("paid", "bid", "mid", "grid", "acid", "fluid", "solid", "valid", "rapid", "lipid", "covid", "hybrid", "raid"),
    *("void", "roid", "humid", "squid", "plasmid", "pyramid", "kid", "rigid", "liquid", "druid", "platinum"),
)
ROW_NAMES = ("row", "index", "unnamed:_0", "rownames", "rowname", "rownumber", "row_number")
COUNTERS = ("obs", "case", "#", "...1", "column1", "level_0", "unnamed:_0.1")

_words = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])").split

# A date of numbers, with or without a time, in canonical spelling: as ISO 8601 writes it, 12/31/2024 or 31.12.24.
_date = re.compile(
    r"(?:\d{4}([-/.])(\d\d?)\1(\d\d?)|(\d\d?)([-/.])(\d\d?)\5(?:\d{4}|\d\d))(?:[t_,]+\d\d?:.*)?", re.ASCII
).fullmatch

# In canonical spelling, what may be a number and its unit.
_with_unit = re.compile(r"([+-]?[\d.,]+)(_*[^\W\d_][^\d]*)", re.ASCII).fullmatch

# What stands in a cell whose formula has failed.
SPREADSHEET_ERRORS = ("#n/a", "#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!")

# How a blank text counts, as in the course.
BLANK_TEXT = "NA"


class Column(NamedTuple):
    """What was found out about a column, in words too; `left_out` says why it is no field, where it is none."""

    title: str
    name: str
    kind: str
    values: str
    field: Field | None = None
    usual: str | int | float | None = None
    left_out: str = ""
    labels: Mapping[str, str] = {}


class Choices(NamedTuple):
    """What the user has said of columns, by their names: the id, those to leave out, and those to keep."""

    id: str | None = None
    drop: Collection[str] = ()
    keep: Collection[str] = ()


def names(header: Sequence[str]) -> list[str]:
    """The names of the columns, in the course's spelling. Raises `BadTable` where they are none."""
    found = [canonical(title) for title in header]
    for name, times in Counter(found).items():
        if times > 1 and name:
            spelt = " and ".join(title for title in header if canonical(title) == name)
            raise BadTable(f"{times} of its columns have the name {name}: {spelt}")
        if "=" in name:
            raise BadTable(f"the column {name} has an = in its name, which separates names from values; rename it")
    return found


def look(
    header: Sequence[str], columns: Sequence[Cells], conventions: Conventions, target: str, choices: Choices
) -> list[Column]:
    """What each column of a table is, but the target, where its numbers are written by these conventions.

    Raises `BadTable` where the columns have no usable names.
    """
    found = [
        _column(title, cells, conventions[place], choices)
        for place, (title, name, cells) in enumerate(zip(header, names(header), columns, strict=True))
        if name != target
    ]
    ids = [place for place, each in enumerate(found) if each.kind == "id"]
    for place in ids[1:]:
        title = found[place].title
        found[place] = found[place]._replace(kind="", left_out=f"another id (--id {title}, or --keep {title})")
    return found


def schema(found: Sequence[Column], target: str) -> Schema:
    """The schema of a table of which this was found out. Raises `BadTable` where there is nothing to learn from."""
    fields = tuple(each.field for each in found if each.field)
    if not fields:
        why = "; ".join(f"{each.title or 'a column'}: {each.left_out or 'the id'}" for each in found)
        raise BadTable(f"it has no column to learn from ({why})")
    labels = {value: label for each in found for value, label in each.labels.items() if label != spelt_out(value)}
    made = Schema(
        fields,
        target=target,
        id=next((each.name for each in found if each.kind == "id"), None),
        words=Words(labels=labels),
        example={each.name: each.usual for each in found if each.field},
    )
    try:
        return checked(made)
    except BadSchema as error:
        raise BadTable(f"no schema can be made of it: {error}") from error


def _column(title: str, cells: Cells, plain: Plain, choices: Choices) -> Column:
    name, title = canonical(title), title.strip()
    texts = Counter[str]()
    for cell, times in Counter(cells).items():
        texts[canonical(cell)] += times
    blanks = sum(texts.pop(blank, 0) for blank in CANONICAL_BLANKS)
    some = f"{len(texts):,} different" + (f", {blanks:,} blank" if blanks else "")

    def left_out(why: str) -> Column:
        return Column(title, name, "", some, left_out=why)

    if name in choices.drop:
        return left_out("--drop")
    if name == choices.id:
        return Column(title, name, "id", some)
    if not name:
        return left_out("it has no name")
    if not texts:
        return left_out("it is blank in every row")
    is_kept = name in choices.keep
    if len(texts) == 1 and not blanks:
        # No weight could be learnt for it, whoever wants it.
        return left_out(f"it is {_short(next(iter(texts)))} in every row")
    is_different = len(texts) > MOST_DIFFERENT * len(cells)
    if name in ROW_NAMES and is_different and not is_kept:
        return left_out(f"it names the rows (--id {title}, or --keep {title})")
    numbers, odd = _numbers(name, cells, plain)
    if not odd or _is_mostly_numbers(numbers, odd, len(cells) - blanks):
        is_whole = all(number.is_integer() for number in numbers)
        if name in COUNTERS and numbers == [*range(int(numbers[0]), int(numbers[0]) + len(cells))] and not is_kept:
            return left_out(f"it numbers the rows (--id {title}, or --keep {title})")
        if is_whole and is_different and _is_called_id(title) and not is_kept:
            return left_out(f"an id (--keep {title})") if choices.id else Column(title, name, "id", some)
        return _of_numbers(title, cells, numbers, odd, blanks)
    if 2 * sum(map(_is_date, texts)) > len(texts) and not is_kept:
        advice = "in columns of their own, its year and month can be learnt from"
        return left_out(f"dates: a later one would be no value that it knows; {advice} (--keep {title})")
    if (is_different or len(texts) > MOST_TEXTS) and not is_kept:
        if _is_called_id(title) and choices.id is None and len(texts) == len(cells):
            return Column(title, name, "id", some)
        units = f"; {advice}" if (advice := _units(texts)) else ""
        return left_out(f"{len(texts):,} texts in {len(cells):,} rows would be learnt by heart (--keep {title}){units}")
    if len(texts) > MOST_ODD and (advice := _units(texts)):
        some += f"; {advice}"
    return _of_texts(title, cells, texts, blanks, some)


def _of_numbers(title: str, cells: Cells, numbers: list[float], odd: list[str], blanks: int) -> Column:
    """A column of numbers, and of texts that may stand for one. Raises `BadTable` where one of these is a mistake."""
    for text in odd:
        if mistake := _mistake(text):
            why = f"the column {title} has numbers, and {_short(text)}, {mistake}"
            raise BadTable(f"{why}: correct it, or leave the column out (--drop {title})")
    name, is_whole = canonical(title), not odd and all(number.is_integer() for number in numbers)
    constraints = Constraints(required=not blanks, minimum=0 if min(numbers) >= 0 else UNSET)
    kind = "whole number" if is_whole else "number"
    if odd:
        kind, texts, blank = "number, text", (*odd, *[BLANK_TEXT] * bool(blanks)), BLANK_TEXT if blanks else None
        field = Field(name, "any", title=title, constraints=constraints, categories=texts, blank=blank)
    else:
        if {*numbers} == {0, 1}:
            kind, constraints = "two values", Constraints(required=not blanks, enum=(0, 1))
        type_: Literal["integer", "number"] = "integer" if is_whole else "number"
        field = Field(name, type_, title=title, constraints=constraints, blank=0 if blanks else None)
    shown = f"{min(numbers):g} to {max(numbers):g}"
    shown += f", or {', '.join([*map(_short, odd[:MOST_NAMED]), *['…'] * (len(odd) > MOST_NAMED)])}" if odd else ""
    shown += f", {blanks:,} blank" if blanks else ""
    usual = sorted(numbers)[len(numbers) // 2]
    return Column(title, name, kind, shown, field, int(usual) if is_whole else usual, labels=_labels(cells, odd))


def _of_texts(title: str, cells: Cells, texts: Counter[str], blanks: int, some: str) -> Column:
    """A column of texts, by how often each is there."""
    name, values = canonical(title), tuple(sorted(texts)) + (BLANK_TEXT,) * bool(blanks)
    field = Field(
        name,
        "string",
        title=title,
        constraints=Constraints(required=not blanks, enum=values),
        blank=BLANK_TEXT if blanks else None,
    )
    kind = "category" if len(values) > 2 else "two values"
    return Column(title, name, kind, some, field, usual=texts.most_common(1)[0][0], labels=_labels(cells, texts))


def are_numbers(texts: Cells) -> bool:
    """Whether all of these texts are numbers, in one way of writing them; blanks are none."""
    return any(len(_numbers("", texts, plain)[0]) == len(texts) for plain in (without_thousands, with_point))


def _numbers(name: str, cells: Cells, plain: Plain) -> tuple[list[float], list[str]]:
    """The numbers in a column, and in order what else is in it, in canonical spelling, without its blanks; no numbers
    where there is too much else."""
    probe = Field(name, "number", blank=0)
    decode = msgspec.json.Decoder(probe.decoded()).decode

    def number(cell: str) -> Any:
        try:
            return decode(plain(cell))  # which is the fastest, of most
        except msgspec.DecodeError:
            return probe.read(plain(cell), from_text=True)

    read: dict[str, Any] = {}
    odd: set[str] = set()
    for cell in {*cells}:
        try:
            read[cell] = number(cell)
        except ValueError:
            odd.add(canonical(cell))
            if len(odd) > MOST_ODD:
                return [], sorted(odd)
    return [float(value) for cell in cells if (value := read.get(cell)) is not None], sorted(odd)


def _is_mostly_numbers(numbers: list[float], odd: list[str], given: int) -> bool:
    """Whether a column that is not blank in so many rows, with these numbers and other texts, is one of numbers."""
    return len(odd) <= MOST_ODD and len({*numbers}) > LEAST_NUMBERS and 2 * len(numbers) >= given


def _mistake(text: str) -> str:
    """What is wrong with a text among numbers, where it was to be one of them."""
    if are_numbers([text]):
        return "a number that is written otherwise than the column's first ones"
    if text in SPREADSHEET_ERRORS:
        return "a formula that has failed"
    return "a formula whose value was not saved" if text.startswith("=") else ""


def _short(text: str) -> str:
    """A text in a line."""
    return " ".join(text.split())[:MOST_SHOWN]


def _is_date(text: str) -> bool:
    if not (found := _date(text)):
        return False
    low, high = sorted(int(each) for each in (found[2] or found[4], found[3] or found[6]))
    return 1 <= low <= 12 and high <= 31


def _units(texts: Collection[str]) -> str:
    """What to do about texts, if most of them are numbers with the same unit."""
    numbers: dict[str, list[str]] = {}
    for number, unit in (found.groups() for found in map(_with_unit, texts) if found):
        numbers.setdefault(unit, []).append(number)
    unit = max(numbers, key=lambda unit: len(numbers[unit]), default="")
    if not unit or 2 * len(numbers[unit]) <= len(texts) or not are_numbers(numbers[unit]):
        return ""
    return f"without the unit, {_short(min(numbers[unit]) + unit)} would be a number"


def _labels(cells: Cells, texts: Collection[str]) -> dict[str, str]:
    """How the table writes texts in canonical spelling."""
    return {canonical(cell): cell.strip() for cell in {*cells} if canonical(cell) in texts}


def _is_called_id(title: str) -> bool:
    """Whether a column's name says so: ID, SK_ID_CURR, customerid and account no do, paid and number_of_rooms not."""
    words = [word.lower() for word in _words(title) if word]
    if "id" in words:
        return True
    return any(word in ID_WORDS or (word.endswith(ID_ENDS) and not word.endswith(NO_IDS)) for word in words[-1:])
