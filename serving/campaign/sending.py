"""Letters out over SMTP, each once."""

import re
import smtplib
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from email.utils import make_msgid
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from serving import reporting
from serving.campaign import FOLDER, BadCampaign
from serving.campaign.letters import WRITTEN, Letters, Person
from serving.campaign.outbox import REFUSED, SENDING, SENT, STATES, WAITING, Noted, Outbox
from serving.campaign.plan import CONTROL

# Seconds until those that were refused for now are tried again, or a server that is away; they grow.
PAUSES = (1, 5, 30, 120, 300)

# Seconds that a server may take for an answer (RFC 5321, section 4.5.3.2: minutes).
PATIENCE = 300

# Refusals for good, before anybody's letter was taken, that are the sender's matter and not those people's.
MOST_REFUSED = 3

# Seconds between two looks at whether to stop.
LOOK = 0.1

# How much a probability may differ from itself, beside what a program has rounded by saving it.
ROUNDED = 1e-6

# Letters that are named of each kind.
MOST_NAMED = 20

# Servers that no network is between.
LOCAL = ("localhost", "127.0.0.1", "::1")


class Server:
    """An SMTP server, by an address such as smtp://user@host:587 or smtps://host.

    With a user nothing is said in the clear; without one STARTTLS is used where a server elsewhere has it.
    """

    def __init__(self, address: str, password: str):
        try:
            url = urlsplit(address if "://" in address else f"smtp://{address}")
            self._host, self._port = url.hostname or "localhost", url.port or {"smtp": 25, "smtps": 465}[url.scheme]
        except (KeyError, ValueError) as error:
            raise BadCampaign("--smtp is neither smtp://[USER@]HOST:PORT nor smtps://[USER@]HOST:PORT") from error
        if url.password:
            raise BadCampaign("--smtp has a password in it, where others can see it: put it into SMTP_PASSWORD")
        self._is_tls, self._user, self._password = url.scheme == "smtps", unquote(url.username or ""), password
        if self._user and not (self._user + password).isascii():
            raise BadCampaign("the user in --smtp or the SMTP_PASSWORD has letters beyond ASCII, which cannot log in")
        self.name = f"the mail server {self._host}:{self._port}"

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
                    raise BadCampaign(f"{self.name} has no STARTTLS, and the password would go out in the clear")
            smtp.ehlo_or_helo_if_needed()
            if self._user:
                smtp.login(self._user, self._password)
            return smtp
        except ssl.SSLCertVerificationError as error:
            trusted = "SSL_CERT_FILE names whom to trust"
            raise BadCampaign(f"{self.name} has a certificate that is not trusted: {error} ({trusted})") from error
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError) as error:
            if isinstance(error, smtplib.SMTPAuthenticationError) and error.smtp_code // 100 == 4:
                raise
            said = _printable(str(error))
            raise BadCampaign(f"{self.name} does not take this user: {said} (SMTP_PASSWORD)") from error
        except UnicodeError as error:
            raise BadCampaign(f"{self.name} has no name that there can be") from error


class Stop:
    """What a signal's handler asks for. `threading.Event` is not for that: who waits has its lock at times, and the
    handler, which has interrupted just that thread, would wait for it forever."""

    is_asked = False

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until it is asked for; gives whether it is."""
        until = time.monotonic() + seconds
        while not self.is_asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, LOOK))
        return self.is_asked


class Sending:
    """Sends letters over a server, at most `rate` a second, until `stop` is asked for.

    Raises `BadCampaign` where the server is not there from the beginning.
    """

    def __init__(self, letters: Letters, server: Server, rate: float, stop: Stop):
        self._letters, self._server, self._stop = letters, server, stop
        self._pause, self._due = 1 / rate, time.monotonic()
        self._refused, self._has_sent = 0, False
        try:
            self._smtp: smtplib.SMTP | None = server.connect()
        except OSError as error:  # of which smtplib's are
            raise BadCampaign(f"{server.name} cannot be reached (--smtp): {_printable(str(error))}") from error

    def run(self, people: Sequence[Person], outbox: Outbox, told: Callable[[str], Any]) -> None:
        """Send each their letter, those who are refused for now again, after pauses that grow; `told` hears of each.

        Raises `BadCampaign` where no letter can be sent.
        """
        pauses = iter(PAUSES)
        self._has_sent = any(each.state == SENT for each in outbox.letters().values())
        try:
            while people:
                before, people = len(people), self._one_round(people, outbox, told)
                pauses = iter(PAUSES) if len(people) < before else pauses
                if people and ((pause := next(pauses, None)) is None or self._stop.wait(pause)):
                    return
        finally:
            if self._smtp:
                with suppress(OSError):
                    self._smtp.quit()

    def _one_round(self, people: Sequence[Person], outbox: Outbox, told: Callable[[str], Any]) -> list[Person]:
        """Those who are left for another round."""
        later: list[Person] = []
        for place, person in enumerate(people):
            if self._stop.wait(max(0.0, self._due - time.monotonic())) or not (smtp := self._session()):
                return [*later, *people[place:]]
            self._due = max(self._due, time.monotonic() - self._pause) + self._pause
            message_id = outbox.begin(person, make_msgid(domain=self._letters.domain))
            state, answer = self._hand_over(smtp, person, message_id)
            if state != SENDING:
                outbox.end(person, state, answer)
            if state == WAITING:
                later.append(person)
            told(state)
            self._has_sent |= state == SENT
            self._refused += state == REFUSED
            if self._refused == MOST_REFUSED and not self._has_sent:
                said = f"the mail server has refused the first {MOST_REFUSED} letters, the last one with: {answer}"
                raise BadCampaign(f"{said}; no more are tried (--retry-refused sends them again)")
        return later

    def _session(self) -> smtplib.SMTP | None:
        """A session in which the sender was taken, or None where that is not to be had now.

        Raises `BadCampaign` where it never is.
        """
        try:
            self._smtp = self._smtp or self._server.connect()
            code, said = self._smtp.mail(self._letters.sender)
        except OSError:
            self._smtp = None
            return None
        if code // 100 == 5:
            raise BadCampaign(
                f"{self._server.name} takes no letters from {self._letters.sender}: {_answer(code, said)}"
            )
        if code // 100 != 2:
            self._smtp = None
        return self._smtp

    def _hand_over(self, smtp: smtplib.SMTP, person: Person, message_id: str) -> tuple[str, str]:
        """The state of a letter whose sender was taken, and what the server said."""
        is_on_its_way = False
        try:
            code, said = smtp.rcpt(person.email)
            if code // 100 == 2:
                code, said = smtp.docmd("DATA")
                if is_on_its_way := code // 100 == 3:
                    # A line that begins with a dot gets another one (RFC 5321, section 4.5.2).
                    letter = re.sub(rb"(?m)^\.", b"..", self._letters.to(person, message_id).as_bytes(policy=WRITTEN))
                    smtp.send(letter.removesuffix(b"\r\n") + b"\r\n.\r\n")
                    code, said = smtp.getreply()
        except OSError as error:
            self._smtp = None
            return SENDING if is_on_its_way else WAITING, _printable(str(error))
        states = {4: WAITING, 5: REFUSED, **({2: SENT} if is_on_its_way else {})}
        state = states.get(code // 100, SENDING if is_on_its_way else WAITING)
        if code == 421 or code // 100 not in states:  # it has closed the connection, or nobody knows what it is about
            self._smtp = None
        elif state != SENT:
            with suppress(OSError):
                smtp.rset()
        return state, _answer(code, said)


def _answer(code: int, said: bytes) -> str:
    return f"{code} {_printable(said.decode(errors='replace'))}"


def _printable(text: str) -> str:
    """What a server said, on one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def send(
    plan: Path, people: Sequence[Person], chosen: Sequence[Person], sending: Sending, again: Collection[str]
) -> bool:
    """Send letters to those of a plan's people who are chosen, but none that has been sent or has a state that is not
    in `again`; print what became of all of them.

    Gives whether nothing is left to be done. Raises `BadCampaign` where it cannot begin, or comes to an early end.
    """
    outbox = Outbox(plan.with_suffix(".sqlite"))
    noted = outbox.letters()
    for person in people:
        found = _noted(noted, person)
        differs = found and abs(found.probability - person.probability) > ROUNDED + person.rounding
        if found and (differs or person.group == CONTROL):
            said = f"{outbox.path} tells of a letter to {found.email} that was sent by another plan than {plan}"
            said += f" (its probability was {found.probability}): go on with that one"
            raise BadCampaign(f"{said}; under another name, this one writes to all of its people again")
    todo = [each for each in chosen if _is_to_be_sent(each, _noted(noted, each), again)]
    try:
        with tqdm(total=len(chosen), initial=len(chosen) - len(todo), unit=" letters", disable=None) as bar:
            sending.run(todo, outbox, lambda state: bar.update(state != WAITING))
    finally:
        noted = outbox.letters()
        known = [*filter(None, (_noted(noted, person) for person in chosen))]
        by_state = {state: [each for each in known if each.state == state] for state in STATES}
        left = len(chosen) - len(known) + len(by_state[WAITING])
        more = {"left": left, "number": len(chosen), "most": MOST_NAMED, "outbox": outbox.path.name}
        print(*reporting.lines(FOLDER / "sent.txt", **by_state, **more), sep="\n", flush=True)
    return not left and not by_state[SENDING]


def _is_to_be_sent(person: Person, found: Noted | None, again: Collection[str]) -> bool:
    """Whether there is something to do: nothing was sent, or it was refused, and the address has been corrected."""
    if not found or found.state in (WAITING, *again):
        return True
    return found.state == REFUSED and found.email != person.email.lower()


def _noted(noted: dict[str, Noted], person: Person) -> Noted | None:
    """What is known of somebody's letter: by the address or, where that was changed since, by the id."""
    found = filter(None, map(noted.get, (person.email.lower(), f"id {person.id}")))
    return max(found, key=lambda each: STATES.index(each.state), default=None)
