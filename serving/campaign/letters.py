"""A plan and a template -> letters, one message each. Nothing is sent here."""

import re
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime, parseaddr
from pathlib import Path

from serving.campaign import BadCampaign
from serving.campaign.plan import COLUMNS, CONTROL, LETTER, is_address, plain, value
from serving.errors import BadTable
from serving.fields import canonical
from serving.tables.reader import Table

# Mistakes that an error names.
MOST_NAMED = 5

# Seven bits, which every mail server takes.
PLAIN = SMTP.clone(cte_type="7bit")

# Someone in a plan: the cells by their columns' names in canonical spelling, and the row as a spreadsheet counts.
Person = dict[str, str]
ROW = "row of the plan"

# A doubled brace, a field, or a brace that is neither.
_field = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
_is_link = re.compile(r"(mailto:|https?://)[!-~]+").fullmatch


def read(path: Path) -> list[Person]:
    """The people of the plan in a file, as it was saved, or edited since. Raises `BadCampaign` and `OSError`."""
    try:
        with path.open("rb") as file, Table(file) as table:
            header = [*map(canonical, table.header)]
            rows = [[*map(plain, cells)] for cells, _ in table.rows()]
    except BadTable as error:
        raise BadCampaign(f"{path}: {error}") from error
    if missing := [name for name in COLUMNS if name not in header]:
        raise BadCampaign(f"{path} is no plan: it lacks the column {', '.join(missing)}")
    people, wrong, seen = [], [], dict[tuple[str, str], int]()
    for number, cells in enumerate(rows, 2):
        person = dict(zip(header, cells, strict=False), **{ROW: str(number)})
        people.append(person)
        try:
            if len(cells) != len(header) or not 0 <= value(person["probability"]) <= 1:
                raise ValueError
            for key in (("id", person["id"]), ("email", person["email"].lower())):
                if (first := seen.setdefault(key, number)) != number:
                    wrong.append(f"row {number}: it has the {key[0]} of row {first}")
            if person["group"] not in (LETTER, CONTROL):
                wrong.append(f"row {number}: its group is neither {LETTER} nor {CONTROL}")
            if not is_address(person["email"]):
                wrong.append(f"row {number}: {person['email']!r} is not a usable address")
        except ValueError:
            wrong.append(f"row {number}: its cells are not those of the header, or its probability is none")
    _refuse(path, wrong or ([] if people else ["there is nobody in it"]))
    return people


def addresses(path: Path) -> set[str]:
    """The addresses, in lower case, that stand anywhere in a table or a list. Raises `BadCampaign` and `OSError`."""
    if not path.stat().st_size:
        return set()
    try:
        with path.open("rb") as file, Table(file) as table:
            cells = [*table.header, *(cell for cells, _ in table.rows() for cell in cells)]
    except BadTable as error:
        raise BadCampaign(f"{path}: {error}") from error
    found = {parseaddr(plain(cell))[1].lower() for cell in cells if "@" in cell}
    if not found:
        raise BadCampaign(f"{path}: there is no address in it")
    return found


class Letters:
    """The letters of a template to some people: its first line is the subject, and columns of the plan are in braces.

    Raises `BadCampaign` where one of them cannot be made, and `OSError` where the template cannot be read.
    """

    def __init__(self, template: Path, people: list[Person], sender: str, discount: str, unsubscribe: str | None):
        try:
            head, _, body = template.read_text("utf-8-sig").partition("\n")
            name, address = parseaddr(sender if sender.isprintable() else "")
            self._from = Address(name, addr_spec=address)
        except UnicodeDecodeError as error:
            raise BadCampaign(f"{template} is not in UTF-8: {error}") from error
        except (ValueError, IndexError, MessageError) as error:
            raise BadCampaign(f"--from {sender!r} is no address") from error
        if not head.lower().startswith("subject:"):
            raise BadCampaign(f"{template}: its first line must be the subject, such as 'Subject: 25 % off for you'")
        if unsubscribe and not _is_link(unsubscribe):
            raise BadCampaign(f"--unsubscribe {unsubscribe!r} is neither mailto:ADDRESS nor https://…")
        self.sender, self.domain = self._from.addr_spec, self._from.domain
        self._subject, self._body = head[len("subject:") :].strip(), body.lstrip("\n")
        self._discount, self._unsubscribe = {"discount": discount}, unsubscribe
        wrong = []
        for person in people:
            try:
                self.to(person)
            except ValueError as error:
                wrong.append(f"row {person[ROW]} of the plan: {error}")
        _refuse(template, wrong)

    def to(self, person: Person) -> EmailMessage:
        """The letter to one of them, still without a Message-ID."""
        letter, values = EmailMessage(PLAIN), self._discount | person
        subject = _filled(self._subject, values)
        if not subject.isprintable():
            raise ValueError(f"its subject would have a line break or the like: {subject!r}")
        letter["From"], letter["To"], letter["Subject"] = self._from, person["email"], subject
        letter["Date"] = format_datetime(localtime())
        if self._unsubscribe:
            letter["List-Unsubscribe"] = f"<{self._unsubscribe}>"
        letter.set_content(_filled(self._body, values))
        return letter

    def save(self, people: list[Person], folder: Path) -> None:
        """Write the letters to some people as files, in place of those that are there. Raises `OSError`."""
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.eml"):
            old.unlink()
        for person in people:
            (folder / f"{person[ROW]}.eml").write_bytes(self.to(person).as_bytes())


def _filled(text: str, values: Person) -> str:
    """A text with its fields filled in. Raises `ValueError` for one that is not there or blank, and a lone brace."""

    def filling(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None:
            raise ValueError(f"a single {found[0]} begins or ends no field (written twice, it is itself)")
        if canonical(found[1]) not in values:
            raise ValueError(f"{found[0]} is none of its columns: {', '.join(values)}")
        if not (cell := values[canonical(found[1])]):
            raise ValueError(f"{found[0]} is blank there")
        return cell

    return _field.sub(filling, text)


def _refuse(path: Path, wrong: list[str]) -> None:
    if wrong:
        more = f"; and {len(wrong) - MOST_NAMED:,} more" if len(wrong) > MOST_NAMED else ""
        raise BadCampaign(f"{path}: {'; '.join(wrong[:MOST_NAMED])}{more}")
