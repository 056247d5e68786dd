"""A training table of any kind: its schema is the telecom company's, a file's, or what the table shows."""

import json
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from serving import schema as schemas
from serving.errors import BadTable
from serving.fields import CANONICAL_BLANKS, canonical
from serving.schema import BadSchema, Schema
from serving.tables.numbers import ROWS
from serving.training import columns, table, target, telecom
from serving.training.columns import Choices, Column
from serving.training.table import TextTable, TrainingTable

# The target where none is named, as in the course.
CHURN = "churn"

# Rows in which a header is looked for that is not in the first one.
MOST_LOOKED_AT = 10

# Characters of a column's name that a line shows.
WIDEST = 40


class Asked(Struct, frozen=True, kw_only=True):
    """What the user has said of a table; names of columns are in any spelling.

    target: the column that holds the answer
    positive: values of it that are a yes, or comparisons
    id: the column that is no field, but comes back
    drop, keep: columns to leave out, and to keep
    names: of the columns of a table that has no header
    threshold: the probability from which on the answer is yes
    schema: a file with the schema
    """

    target: str | None = None
    positive: tuple[str, ...] = ()
    id: str | None = None
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    threshold: float | None = None
    schema: Path | None = None


def read(path: Path, asked: Asked) -> tuple[TrainingTable, list[str]]:
    """The training table in a file, and what was found out about it, in lines.

    Raises `BadTable`, `BadSchema` for the schema's file, and `OSError`.
    """
    text = table.read(path, asked.names)
    is_usual = replace(asked, target=None, names=(), threshold=None) == Asked()
    if is_usual and canonical(asked.target or CHURN) == CHURN and telecom.is_like(text.header):
        found = telecom.of_text(text)
        others = [each for each in text.header if canonical(each) not in {*found.schema.names, CHURN, found.schema.id}]
        named = f"left out, since the telecom company has no such columns: {', '.join(others)}"
        said = [f"{named} (--keep {others[0]} trains on them too)"] if others else []
    else:
        found, said = _of_text(text, asked)
    if asked.threshold is not None:
        found = found._replace(schema=replace(found.schema, threshold=asked.threshold))
    return found, [f"{len(text.rows):,} rows", *said]


def _of_text(text: TextTable, asked: Asked) -> tuple[TrainingTable, list[str]]:
    given = _schema(asked.schema) if asked.schema else None
    answer = asked.target or (given.target if given else CHURN)
    if not asked.names:
        _require_header(text, answer)
    if not (asked.target or given) and CHURN not in columns.names(text.header):
        raise BadTable(f"it has no column {CHURN}: say which holds the answer with --target COLUMN{_could_be(text)}")
    place = table.place_of(text, answer)
    for other in (*([asked.id] if asked.id else []), *asked.drop, *asked.keep):
        if table.place_of(text, other) == place:
            raise BadTable(f"{other} is the target: it can be no id, and is neither kept nor left out")
    conventions = text.conventions()
    answers = target.answers(text, conventions, answer, asked.positive)
    blank = answers.count(None)
    said = [f"{blank:,} rows are left out: their {answer} is blank"] if blank else []
    if asked.positive and (blank := sum(canonical(row[place]) in CANONICAL_BLANKS for row in text.rows)):
        said.append(f"{blank:,} rows whose {answer} is blank are taken for a no, as all that is not --positive")
    if given:
        if asked.drop or asked.keep:
            raise BadTable("--drop and --keep do not go with --schema: take the field out of it, or put it in")
        if canonical(answer) in given.names:
            raise BadTable(f"its target {answer} is one of the fields of {asked.schema}")
        id_ = canonical(asked.id) if asked.id else given.id
        chosen = replace(given, id=id_, target=canonical(answer) if asked.target else given.target)
        return table.records(text, schemas.checked(chosen), answers), said
    answered = [row for row, each in enumerate(answers) if each is not None]
    text = text.only(answered)
    choices = Choices(
        canonical(asked.id) if asked.id else None, {*map(canonical, asked.drop)}, {*map(canonical, asked.keep)}
    )
    described = columns.look(text.header, text.columns(), conventions, canonical(answer), choices)
    schema = columns.schema(described, canonical(answer))
    return table.records(text, schema, [answers[row] for row in answered]), [*said, *_in_lines(described)]


def _require_header(text: TextTable, answer: str) -> None:
    """Raise `BadTable` where the header looks like a row, or a later row like the header, which names the answer."""
    is_named = canonical(answer) in map(canonical, text.header)
    for number, cells in zip(text.numbers[:MOST_LOOKED_AT], text.rows, strict=False):
        if not is_named and canonical(answer) in map(canonical, cells):
            raise BadTable(f"its header seems to be row {number}, which has {answer}: delete the rows above that")
    below = [[*filter(None, cells)] for cells in zip(*text.rows[1:ROWS], strict=True)]
    numeric = [place for place, cells in enumerate(below) if cells and columns.are_numbers(cells)]
    first = text.rows[0]
    if len(numeric) > 2 and all(_is_name(first[place]) for place in numeric):
        shown = ", ".join(first[place] for place in numeric[:3])
        raise BadTable(f"its row {text.numbers[0]} looks like a second header ({shown}): delete one of the two")
    if is_named:
        return
    numbers = [title for title in text.header if columns.are_numbers([title])]
    blanks = sum(not title.strip() for title in text.header)
    if numbers and 2 * (len(numbers) + blanks) >= len(text.header):
        shown = ", ".join(numbers[:3])
        raise BadTable(
            f"its first row has numbers where names should be ({shown}); name its columns with --columns a,b,c"
        )


def _is_name(cell: str) -> bool:
    return canonical(cell) not in CANONICAL_BLANKS and not columns.are_numbers([cell])


def _could_be(text: TextTable) -> str:
    two = [title for title, cells in zip(text.header, text.columns(), strict=True) if len({*cells} - {""}) == 2]
    return f" (it could be {', '.join(two)})" if two else ""


def _schema(path: Path) -> Schema:
    try:
        return schemas.from_json(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:  # JSON's, Unicode's and the schema's are
        raise BadSchema(f"{path}: {error}") from error


def _in_lines(found: list[Column]) -> list[str]:
    width = min(WIDEST, max(len(each.title) for each in found))
    return [
        f"{each.title:<{width}}  "
        + (f"left out: {each.left_out}" if each.left_out else f"{each.kind:<12}  {each.values}")
        for each in found
    ]
