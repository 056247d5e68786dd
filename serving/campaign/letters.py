"""A plan and a template -> letters, one message each. Nothing is sent here."""

import re
from collections.abc import Iterable
from decimal import Decimal
from email.charset import QP, Charset
from email.header import Header
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime, formataddr, localtime
from itertools import zip_longest
from pathlib import Path
from urllib.parse import unquote

from msgspec import Struct

from serving.campaign import BadCampaign
from serving.campaign.plan import ATOM, COLUMNS, CONTROL, LABEL, LETTER, is_address, plain, value
from serving.errors import BadTable, TooMuch
from serving.fields import canonical
from serving.tables.reader import Table

# Mistakes that an error names.
MOST_NAMED = 5

# Seven bits, which every mail server takes.
UTF_8 = Charset("utf-8")
UTF_8.body_encoding = QP
# A link is never folded; RFC 5322, section 2.1.1, lets lines be so long.
LONGEST_LINE = 998
WRITTEN = compat32.clone(linesep="\r\n", max_line_length=LONGEST_LINE)

# A doubled brace, a field, or a brace that is neither.
_field = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
# What ends a line for somebody, or is no letter, as a byte that is no text: none of it stands in a header.
_ends_line = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]").search
_is_link = re.compile(r"(mailto:|https?://)[!-;=?-~]+").fullmatch
# Not from within a name on, but also behind signs that an atom may have and real names have not: email=zoe@example.com
_addresses = re.compile(rf"(?<![\w.'+-])(?=({ATOM}(?:\.{ATOM})*@(?:{LABEL}\.)+{LABEL}))").finditer
_ADDRESS = rf"{ATOM}(?:\.{ATOM})*@{LABEL}(?:\.{LABEL})*"
_sender = re.compile(rf'(?:"?(?P<name>[^<>"]*?)"?\s*<(?P<named>{_ADDRESS})>|(?P<bare>{_ADDRESS}))').fullmatch


class Person(Struct, frozen=True):
    """Someone in a plan: the number of the row, the plan's own columns, and all cells by canonical names of columns."""

    row: int
    id: str
    email: str
    probability: float
    group: str
    cells: dict[str, str]

    @property
    def rounding(self) -> float:
        """How much a program may have changed the probability by saving it: half of the last place that is written."""
        return 10.0 ** int(Decimal(self.cells["probability"].replace(",", ".")).as_tuple().exponent) / 2


def read(path: Path) -> list[Person]:
    """The people of the plan in a file, as it was saved, or edited since. Raises `BadCampaign` and `OSError`."""
    header, rows = _table(path)
    names = [*map(canonical, header)]
    if missing := [name for name in COLUMNS if names.count(name) != 1]:
        raise BadCampaign(f"{path} is no plan: it has not one column {', '.join(missing)}")
    people, wrong, seen = [], [], dict[tuple[str, str], int]()
    for number, cells in enumerate(rows, 2):
        named = zip_longest(names, cells[: len(names)], fillvalue="")  # blank ones at the end may not have been saved
        found = {name: plain(cell) if names.count(name) == 1 else "" for name, cell in named}
        if not any(found.values()):  # emptied, and not deleted
            continue
        try:
            person = Person(number, found["id"], found["email"], value(found["probability"]), found["group"], found)
            if len(cells) > len(header) or not 0 <= person.probability <= 1:
                raise ValueError
        except ValueError:
            wrong.append(f"row {number}: its cells are not those of the header, or its probability is none")
            continue
        people.append(person)
        for key in (("id", person.id), ("email", person.email.lower())):
            if (first := seen.setdefault(key, number)) != number:
                wrong.append(f"row {number}: it has the {key[0]} of row {first}")
        if person.group not in (LETTER, CONTROL):
            wrong.append(f"row {number}: its group is neither {LETTER} nor {CONTROL}")
        if not is_address(person.email):
            wrong.append(f"row {number}: {person.email!r} is not a usable address")
    _refuse(path, wrong or ([] if people else ["there is nobody in it"]))
    return people


def addresses(path: Path) -> set[str]:
    """All addresses, in lower case, that stand in a table or a list. Raises `BadCampaign` and `OSError`."""
    if not path.stat().st_size:
        return set()
    header, rows = _table(path)
    found: set[str] = set()
    wrong = []
    for cell in [*header, *(cell for row in rows for cell in row)]:
        text = f"{cell}\n{unquote(cell)}"  # it may be out of a link
        of_cell = {each[1].lower() for each in _addresses(text)}
        found |= of_cell | {each.lstrip("-_+'") for each in of_cell}
        if "@" in text and not of_cell:
            wrong.append(f"{cell!r} is no address")
    _refuse(path, wrong or ([] if found or not rows else ["there is no address in it"]))
    return found


class Letters:
    """The letters of a template: its first line is the subject, and columns of the plan, or of `more`, are in braces.

    Raises `BadCampaign` where it cannot be used, and `OSError` where it cannot be read.
    """

    def __init__(self, template: Path, sender: str, more: dict[str, str], unsubscribe: str | None = None):
        try:
            head, _, body = template.read_text("utf-8-sig").partition("\n")
        except UnicodeDecodeError as error:
            raise BadCampaign(f"{template} is not in UTF-8: {error}") from error
        if not (found := _sender(sender.strip())) or _ends_line(sender):
            raise BadCampaign(f"--from {sender!r} is neither ADDRESS nor 'NAME <ADDRESS>'")
        if not head.lower().startswith("subject:"):
            raise BadCampaign(f"{template}: its first line must be the subject, such as 'Subject: 25 % off for you'")
        if unsubscribe and not _is_link(unsubscribe):
            raise BadCampaign(f"--unsubscribe {unsubscribe!r} is neither mailto:ADDRESS nor https://…")
        self.sender = found["named"] or found["bare"]
        self.domain = self.sender.rpartition("@")[2]
        self._from = formataddr((found["name"] or "", self.sender))
        self._template, self._subject, self._body = template, head[len("subject:") :].strip(), body.lstrip("\n")
        if not self._subject or not self._body.strip():
            raise BadCampaign(f"{template} has no subject, or no text after it")
        self._more, self._unsubscribe = more, unsubscribe

    def check(self, people: Iterable[Person]) -> None:
        """Raise `BadCampaign` where one of these people's letters cannot be made."""
        wrong = []
        for person in people:
            try:
                self.to(person)
            except ValueError as error:
                wrong.append(f"row {person.row} of the plan: {error}")
        _refuse(self._template, wrong)

    def to(self, person: Person, message_id: str = "") -> MIMEText:
        """The letter to one of them. Raises `ValueError` where it cannot be made."""
        values = person.cells | self._more
        subject, body = _filled(self._subject, values), _filled(self._body, values)
        if _ends_line(subject):
            raise ValueError(f"its subject would have a line break or the like: {subject!r}")
        if "\0" in body:
            raise ValueError("its text would have a zero byte")
        letter = MIMEText(body, "plain", UTF_8)  # type: ignore[arg-type]  # a Charset is taken too
        letter["From"], letter["To"] = self._from, person.email
        letter["Subject"] = Header(subject, None if subject.isascii() else "utf-8", header_name="Subject").encode()
        letter["Date"] = format_datetime(localtime())
        if message_id:
            letter["Message-ID"] = message_id
        if self._unsubscribe:
            letter["List-Unsubscribe"] = f"<{self._unsubscribe}>"
        for header, text in letter.items():
            if max(map(len, f"{header}: {text}".splitlines())) > LONGEST_LINE:
                raise ValueError(f"its {header} is too long for a line of a letter ({LONGEST_LINE} characters)")
        return letter

    def save(self, people: Iterable[Person], folder: Path) -> None:
        """Write the letters to some people as files, in place of those that are there. Raises `OSError`."""
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.eml"):
            old.unlink()
        for person in people:
            (folder / f"{person.row}.eml").write_bytes(self.to(person).as_bytes(policy=WRITTEN))


def _filled(text: str, values: dict[str, str]) -> str:
    """A text with its fields filled in. Raises `ValueError` for one that is not there or blank, and a lone brace."""

    def filling(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None:
            raise ValueError(f"a single {found[0]} begins or ends no field (written twice, it is itself)")
        if canonical(found[1]) not in values:
            raise ValueError(f"{found[0]} is none of its columns: {', '.join(values)}")
        if not (cell := values[canonical(found[1])]):
            raise ValueError(f"{found[0]} is blank there, or two columns have the name")
        return cell

    return _field.sub(filling, text)


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open("rb") as file, Table(file) as table:
            return table.header, [cells for cells, _ in table.rows()]
    except (BadTable, TooMuch) as error:
        raise BadCampaign(f"{path}: {error}") from error


def _refuse(path: Path, wrong: list[str]) -> None:
    if wrong:
        more = f"; and {len(wrong) - MOST_NAMED:,} more" if len(wrong) > MOST_NAMED else ""
        raise BadCampaign(f"{path}: {'; '.join(wrong[:MOST_NAMED])}{more}")
