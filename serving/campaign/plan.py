"""The plan of a campaign: who is chosen, who of them is left alone for comparison, and what to expect.

The page in the browser makes the same plan (static/campaign.js): the two change together.
"""

import csv
import hashlib
import io
import math
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from serving import reporting, whole_file
from serving.campaign import FOLDER, BadCampaign
from serving.campaign.service import NoReasons, Served, Service
from serving.fields import canonical
from serving.schema import Schema
from serving.tables.formulas import inert, original
from serving.tables.reader import Table

# The plan's columns; the table's others that are no fields of the model follow them.
COLUMNS = ("id", "email", "probability", "reasons", "group")
LETTER, CONTROL = "discount", "control"

# What the service adds to a row, at its end: probability, decision, note and error.
ADDED = 4

# RFC 5321, sections 4.1.2 and 4.5.3.1: atoms, and a name with a dot, both of a bounded length. A bar may be in an atom
# too, but a spreadsheet may take what follows it for a cell.
ATOM, LABEL = r"[A-Za-z0-9!#$%&'*+/=?^_`{}~-]+", r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
is_address = re.compile(rf"(?=.{{1,64}}@)(?=.{{1,254}}$){ATOM}(\.{ATOM})*@({LABEL}\.)+{LABEL}").fullmatch

# Standard normal quantiles of 97.5 and 80 %: a difference of so many standard errors is told from chance four times of
# five (Fleiss, Levin and Paik, "Statistical Methods for Rates and Proportions", chapter 4).
QUANTILES = 1.96 + 0.84


class Asked(Struct, frozen=True, kw_only=True):
    """What marketing asks for: the most probable `budget`, those from `threshold` on, or those whose expected gain,
    `value` times the probability less `cost`, is positive. A share of them is the control group."""

    budget: int | None = None
    threshold: float | None = None
    value: float | None = None
    cost: float | None = None
    control: float = 0.1
    seed: int = 1
    email: str | None = None


class Made(Struct, frozen=True):
    """What is kept beside a plan, as JSON: what was asked, the id's column, and the model of that time."""

    asked: Asked
    id: str
    served: Served


class Row(NamedTuple):
    """A row that can be written to; `number` is as a spreadsheet counts without blank lines."""

    number: int
    id: str
    email: str
    probability: str
    value: float
    extras: list[str]


def plain(cell: str) -> str:
    """What stood in a cell before apostrophes kept it from being a formula, without blanks around it."""
    return original(cell.strip(" \t\r\n"))


def value(probability: str) -> float:
    """A probability as the table's own numbers are written, perhaps with a decimal comma."""
    return float(probability.replace(",", "."))


def make(service: Service, table: Path, asked: Asked, output: Path) -> list[str]:
    """Write the plan, and beside it its JSON and the rows that are left out; gives what to expect, in lines.

    Raises `BadCampaign`, and `OSError` where a file cannot be read or written.
    """
    if (sent := output.with_suffix(".sqlite")).exists():
        raise BadCampaign(f"{sent} tells of letters of {output} that were sent: name the new plan with --output")
    beside, listed = output.with_suffix(".json"), output.with_name(f"{output.stem}-left-out.csv")
    for each in (output, beside, listed):
        if each.exists() and each.samefile(table):
            raise BadCampaign(f"{each} is the table itself: name the plan with --output")
    made_beside(output)  # or it is not there, or it is not a plan's to replace
    served = service.served()
    with service.scored(table) as answer:
        of_id, of_email, extras = _columns(answer.header, served.schema, asked.email)
        rows, left_out = _usable(answer, of_id, of_email, extras)
    kinds = Counter(why.partition(":")[0].partition(" as row")[0] for *_, why in left_out)
    if not rows:
        _write(listed, [["row", "id", "why"], *left_out], answer)
        why = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items()) or "it has no rows"
        raise BadCampaign(f"nobody in the table can be written to ({why}): {listed} lists them")
    chosen = _chosen(rows, asked)
    by_hash = sorted(chosen, key=lambda row: hashlib.sha256(f"{asked.seed}:{row.id}".encode()).digest())
    control = {row.number for row in by_hash[: math.floor(asked.control * len(chosen) + 0.5)]}
    reasons = _reasons(service, table, chosen)
    cells = [[*COLUMNS, *(answer.header[place] for place in extras)]]
    for row in chosen:
        group = CONTROL if row.number in control else LETTER
        found = [inert(row.id), inert(row.email), row.probability, reasons.get(row.number, "")]
        cells.append([*found, group, *row.extras])
    made = Made(asked, answer.header[of_id].strip(), served)
    beside.unlink(missing_ok=True)  # so that it is never beside another plan
    _write(output, cells, answer)
    whole_file.write(beside, msgspec.json.format(msgspec.json.encode(made)))
    _write(listed, [["row", "id", "why"], *left_out], answer)
    said = expected(chosen, len(control), made)
    return reporting.lines(FOLDER / "expected.txt", **said, left_out=kinds, listed=listed, plan=output)


def made_beside(plan: Path) -> Made | None:
    """What a plan was made with, where that is beside it. Raises `BadCampaign` where something else is."""
    beside = plan.with_suffix(".json")
    try:
        return msgspec.json.decode(beside.read_bytes(), type=Made) if beside.exists() else None
    except msgspec.DecodeError as error:
        raise BadCampaign(f"{beside} is not what plan has written ({error}): give one of them another name") from error


def _columns(header: list[str], schema: Schema, email: str | None) -> tuple[int, int, list[int]]:
    """The places of the id, of the address, and of what goes along: what is no field, nor what the model is about."""
    names = [canonical(name) for name in header[:-ADDED]]
    fitting = [at for at, name in enumerate(names) if ("mail" in name if email is None else name == canonical(email))]
    if not fitting:
        no_column = "has no column of addresses: name it with --email COLUMN"
        lacks = no_column if email is None else f"lacks the column {email!r}"
        raise BadCampaign(f"the table {lacks} (it has {', '.join(header[:-ADDED])})")
    of_email = fitting[0]
    of_id = next((names.index(each) for each in (canonical(schema.id or ""), "id") if each and each in names), of_email)
    known = {*map(canonical, schema.names), canonical(schema.target), *COLUMNS}
    return of_id, of_email, [at for at, name in enumerate(names) if name not in known and at not in (of_id, of_email)]


def _usable(answer: Table, of_id: int, of_email: int, extras: list[int]) -> tuple[list[Row], list[list[str]]]:
    """The rows that can be written to, and of the others the number, the id, and why they are left out."""
    rows, left_out, known = [], [], dict[tuple[str, str], int]()
    for number, (cells, _) in enumerate(answer.rows(), 2):
        email, (probability, _, _, error) = plain(cells[of_email]), cells[-ADDED:]
        id_ = email if of_id == of_email else cells[of_id].strip(" \t\r\n")
        keys = [("address", email.lower())] if of_id == of_email else [("id", id_), ("address", email.lower())]
        why = f"invalid: {error}" if error else "" if email else "no address"
        why = why or ("" if is_address(email) else f"not a usable address: {email}") or ("" if id_ else "no id")
        why = why or next((f"the same {key[0]} as row {known[key]}" for key in keys if key in known), "")
        if why:
            left_out.append([str(number), inert(id_), inert(why)])
        else:
            known.update(dict.fromkeys(keys, number))
            rows.append(Row(number, id_, email, probability, value(probability), [cells[place] for place in extras]))
    return rows, left_out


def _chosen(rows: list[Row], asked: Asked) -> list[Row]:
    """Who gets a letter or is in the control group, the most probable first."""
    ordered = sorted(rows, key=lambda row: -row.value)
    if asked.budget is not None:
        found = ordered[: asked.budget]
    elif asked.threshold is not None:
        found = [row for row in ordered if row.value >= asked.threshold]
    else:
        found = [row for row in ordered if row.value * (asked.value or 0) > (asked.cost or 0)]
    if not found:
        raise BadCampaign(f"nobody is chosen: the largest probability is {ordered[0].probability}")
    return found


def _reasons(service: Service, table: Path, chosen: list[Row]) -> dict[int, str]:
    numbers = {row.number for row in chosen}
    try:
        with service.scored(table, explain_from=chosen[-1].value) as answer:
            return {number: cells[-3] for number, (cells, _) in enumerate(answer.rows(), 2) if number in numbers}
    except NoReasons:
        return {}


def expected(chosen: list[Row], control: int, made: Made) -> dict[str, object]:
    """What a plan comes to, by the model's figures of the nearest lower threshold."""
    probabilities, letters, asked = [row.value for row in chosen], len(chosen) - control, made.asked
    of_test = made.served.training.thresholds if made.served.training else []
    lower = [choice for choice in of_test if choice.threshold <= probabilities[-1]]
    mean = sum(probabilities) / len(chosen)
    return {
        "words": made.served.schema.spoken,
        "asked": asked,
        "letters": letters,
        "control": control,
        "least": probabilities[-1],
        "tested": lower[-1] if lower and lower[-1].chosen else None,
        "gain": letters * (mean * (asked.value or 0) - (asked.cost or 0)),
        "tellable": QUANTILES * math.sqrt(mean * (1 - mean) * (1 / letters + 1 / control))
        if letters and control
        else 1,
    }


def _write(path: Path, rows: list[list[str]], like: Table) -> None:
    """Write a CSV with the delimiter of another table, in UTF-8; with a mark where that was not plain UTF-8."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=like.dialect.delimiter).writerows(rows)
    is_plain = like.dialect.encoding == "utf-8" and not like.dialect.has_mark
    whole_file.write(path, text.getvalue().encode("utf-8" if is_plain else "utf-8-sig"))
