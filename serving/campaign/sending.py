"""Letters out over SMTP, each once: what becomes of a letter is noted before and after it is sent."""

import smtplib
import sqlite3
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from serving import reporting
from serving.campaign import FOLDER, BadCampaign
from serving.campaign.letters import Letters, Person

# Seconds until those that were refused for now are tried again, or a server that is away; they grow.
PAUSES = (1, 5, 30, 120, 300)

# Seconds that a server may take for an answer (RFC 5321, section 4.5.3.2: minutes).
PATIENCE = 300

# Servers that no network is between.
LOCAL = ("localhost", "127.0.0.1", "::1")

# Letters that are named of each kind.
MOST_NAMED = 20

# Of a letter: under way (later that is: unknown), with the server, refused for now, and refused for good.
SENDING, SENT, WAITING, REFUSED = "sending", "sent", "waiting", "refused"


class Outbox:
    """What became of each letter: a SQLite file beside the plan, which one process at a time can have.

    Raises `BadCampaign` where it cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        # Each statement is on the disk when it returns.
        self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
        self._run("PRAGMA locking_mode = EXCLUSIVE")
        # Its journal keeps its place on the disk: where a letter could be noted before, it can be noted after.
        self._run("PRAGMA journal_mode = PERSIST")
        columns = "email TEXT PRIMARY KEY, state TEXT, at TEXT, message_id TEXT, answer TEXT"
        self._run(f"CREATE TABLE IF NOT EXISTS letters ({columns})")
        self._run("UPDATE letters SET state = state")  # takes the lock until this process ends

    def letters(self, state: str) -> dict[str, str]:
        """The letters in a state: of each address in lower case what the server said, or else the Message-ID."""
        said = "iif(answer = '', message_id, answer)"
        return dict(self._run(f"SELECT email, {said} FROM letters WFOLDER state = ? ORDER BY email", state))

    def begin(self, email: str, message_id: str) -> str:
        """Note a letter that is about to be sent; gives the Message-ID of its first attempt."""
        again = "ON CONFLICT DO UPDATE SET state = excluded.state, at = excluded.at, answer = ''"
        insert = f"INSERT INTO letters VALUES (?, ?, datetime(), ?, '') {again} RETURNING message_id"
        return str(self._run(insert, email.lower(), SENDING, message_id)[0][0])

    def end(self, email: str, state: str, answer: str) -> None:
        """Note what became of it."""
        update = "UPDATE letters SET state = ?, at = datetime(), answer = ? WFOLDER email = ?"
        self._run(update, state, answer, email.lower())

    def _run(self, statement: str, *values: str) -> list[Any]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise BadCampaign(f"{self.path} is in use: letters of this plan are being sent") from error
            raise BadCampaign(f"{self.path} cannot be written, and without it nothing is sent: {error}") from error


class Server:
    """An SMTP server, by an address such as smtp://user@host:587 or smtps://host.

    With a user nothing is said in the clear; without one STARTTLS is used where a server elsewhere has it.
    """

    def __init__(self, address: str, password: str):
        url = urlsplit(address if "://" in address else f"smtp://{address}")
        try:
            self._host, self._port = url.hostname or "localhost", url.port or {"smtp": 25, "smtps": 465}[url.scheme]
        except (KeyError, ValueError) as error:
            raise BadCampaign(f"--smtp {address} is neither smtp://HOST:PORT nor smtps://HOST:PORT") from error
        self._is_tls, self._user, self._password = url.scheme == "smtps", unquote(url.username or ""), password
        self._name = f"the mail server {self._host}:{self._port}"

    def connect(self) -> smtplib.SMTP:
        """A session. Raises `BadCampaign`, and `OSError` where the server cannot be reached now."""
        context = ssl.create_default_context()
        try:
            if self._is_tls:
                smtp: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=PATIENCE, context=context)
            else:
                smtp = smtplib.SMTP(self._host, self._port, timeout=PATIENCE)
                smtp.ehlo_or_helo_if_needed()
                if smtp.has_extn("starttls") and (self._user or self._host not in LOCAL):
                    smtp.starttls(context=context)
                elif self._user:
                    raise BadCampaign(f"{self._name} has no STARTTLS, and the password would go out in the clear")
            smtp.ehlo_or_helo_if_needed()
            if self._user:
                smtp.login(self._user, self._password)
            return smtp
        except ssl.SSLCertVerificationError as error:
            trusted = "SSL_CERT_FILE names whom to trust"
            raise BadCampaign(f"{self._name} has a certificate that is not trusted: {error} ({trusted})") from error
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError) as error:
            raise BadCampaign(f"{self._name} does not take this user: {error} (SMTP_PASSWORD)") from error


class Sending:
    """Sends letters, at most `rate` a second, until `stop` is set; `told` hears what became of each.

    Raises `BadCampaign` where no letter can be sent.
    """

    def __init__(
        self, letters: Letters, outbox: Outbox, server: Server, rate: float, stop: Event, told: Callable[[str], Any]
    ):
        self._letters, self._outbox, self._server, self._stop, self._told = letters, outbox, server, stop, told
        self._pause, self._due = 1 / rate, time.monotonic()
        self._smtp: smtplib.SMTP | None = None
        self._was_connected = self._has_sent = False

    def run(self, people: list[Person]) -> None:
        """Send each their letter; those that are refused for now again, after pauses that grow."""
        pauses = iter(PAUSES)
        while people:
            left = self._one_round(people)
            pauses = iter(PAUSES) if len(left) < len(people) else pauses
            people = left
            if people and ((pause := next(pauses, None)) is None or self._stop.wait(pause)):
                break
        if self._smtp:
            self._smtp.close()

    def _one_round(self, people: list[Person]) -> list[Person]:
        """Those who are left for another round."""
        later: list[Person] = []
        for place, person in enumerate(people):
            if self._stop.wait(max(0.0, self._due - time.monotonic())) or not (smtp := self._connected()):
                return later + people[place:]
            self._due = max(self._due, time.monotonic() - self._pause) + self._pause
            letter = self._letters.to(person)
            letter["Message-ID"] = self._outbox.begin(person["email"], make_msgid(domain=self._letters.domain))
            state, answer = self._hand_over(smtp, letter, person["email"])
            if state != SENDING:
                self._outbox.end(person["email"], state, answer)
            if state == WAITING:
                later.append(person)
                if answer.startswith("5") and not self._has_sent:
                    raise BadCampaign(f"the mail server takes no letters from {self._letters.sender}: {answer}")
            self._has_sent |= state == SENT
            self._told(state)
        return later

    def _connected(self) -> smtplib.SMTP | None:
        """A session, or None where the server is away for now."""
        try:
            self._smtp = self._smtp or self._server.connect()
            self._was_connected = True
        except OSError as error:  # of which smtplib's are
            if not self._was_connected:
                raise BadCampaign(f"the mail server cannot be reached (--smtp): {error}") from error
        return self._smtp

    def _hand_over(self, smtp: smtplib.SMTP, letter: EmailMessage, to: str) -> tuple[str, str]:
        """The letter's state, and what the server said."""
        is_at_them = is_on_its_way = False
        try:
            code, said = smtp.mail(self._letters.sender)
            if is_at_them := code // 100 == 2:
                code, said = smtp.rcpt(to)
            if is_on_its_way := code // 100 == 2:
                code, said = smtp.data(letter.as_bytes())
        except smtplib.SMTPDataError as error:
            code, said = error.smtp_code, str(error.smtp_error).encode()
        except OSError as error:
            self._smtp = None
            return SENDING if is_on_its_way else WAITING, str(error)
        if code // 100 != 2:
            with suppress(OSError):
                smtp.rset()
        if code == 421:  # it closes the connection
            self._smtp = None
        # A sender who is not let in (RFC 3463: 5.7) is no fault of the one who is written to.
        is_for_good = code >= 500 and is_at_them and not said.startswith(b"5.7.")
        state = SENT if code // 100 == 2 else REFUSED if is_for_good else WAITING
        return state, f"{code} {said.decode(errors='replace')}"


def send(
    plan: Path, letters: Letters, people: list[Person], server: Server, rate: float, retry_unknown: bool, stop: Event
) -> tuple[list[str], bool]:
    """Send people's letters, those that were not sent yet; gives what became of all of them, in lines, and whether
    nothing is left to be done. Raises `BadCampaign`."""
    outbox = Outbox(plan.with_suffix(".sqlite"))
    done = {*outbox.letters(SENT), *outbox.letters(REFUSED), *({} if retry_unknown else outbox.letters(SENDING))}
    todo = [person for person in people if person["email"].lower() not in done]
    with tqdm(total=len(people), initial=len(people) - len(todo), unit=" letters", disable=None) as bar:
        Sending(letters, outbox, server, rate, stop, lambda state: bar.update(state != WAITING)).run(todo)
    found = {state: outbox.letters(state) for state in (SENT, SENDING, REFUSED, WAITING)}
    done = {*found[SENT], *found[SENDING], *found[REFUSED]}
    left = sum(person["email"].lower() not in done for person in people)
    said = reporting.lines(FOLDER / "sent.txt", **found, left=left, people=people, most=MOST_NAMED, outbox=outbox.path)
    return said, not left and not found[SENDING]
