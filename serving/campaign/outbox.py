"""What is known of each letter, kept on the disk: noted before and after it is sent."""

import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from serving.campaign import BadCampaign
from serving.campaign.letters import Person

# Bytes that a letter's note has for what the server says of it: what is known of a letter that it has taken needs no
# more of the disk than what was noted before, or a disk that is full could leave it unknown.
ROOM = 100

# Of a letter: refused for now, and for good, under way (later that is: unknown), and with the server; of what is known
# of somebody the last one counts.
STATES = WAITING, REFUSED, SENDING, SENT = "waiting", "refused", "sending", "sent"


class Noted(NamedTuple):
    """What became of a letter; `said` is the server's answer, or else the Message-ID."""

    email: str
    id: str
    probability: float
    state: str
    said: str


class Outbox:
    """What became of each letter: a SQLite file beside the plan, which one process at a time can have.

    Raises `BadCampaign` where it cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            # Each statement is on the disk when it returns.
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise self._cannot(error) from error
        self._run("PRAGMA locking_mode = EXCLUSIVE")
        # Its journal keeps its place on the disk: where a letter could be noted before, it can be noted after.
        self._run("PRAGMA journal_mode = PERSIST")
        columns = "email TEXT PRIMARY KEY, id TEXT, probability REAL, state TEXT, at TEXT, message_id TEXT, answer TEXT"
        self._run(f"CREATE TABLE IF NOT EXISTS letters ({columns})")
        self._run("UPDATE letters SET state = state")  # takes the lock until this process ends

    def letters(self) -> dict[str, Noted]:
        """What became of the letters, by address in lower case and by id: of several the furthest."""
        said = "iif(trim(answer) = '', message_id, answer)"
        found = [Noted(*row) for row in self._run(f"SELECT email, id, probability, state, {said} FROM letters")]
        found.sort(key=lambda each: STATES.index(each.state))
        return {f"id {each.id}": each for each in found} | {each.email: each for each in found}

    def begin(self, person: Person, message_id: str) -> str:
        """Note a letter that is about to be sent; gives the Message-ID of its first attempt."""
        again = "ON CONFLICT DO UPDATE SET state = excluded.state, at = excluded.at, answer = excluded.answer"
        insert = f"INSERT INTO letters VALUES (?, ?, ?, ?, datetime(), ?, ?) {again} RETURNING message_id"
        email, probability = person.email.lower(), person.probability
        return str(self._run(insert, email, person.id, probability, SENDING, message_id, " " * ROOM)[0][0])

    def end(self, person: Person, state: str, answer: str) -> None:
        """Note what became of it."""
        update = "UPDATE letters SET state = ?, at = datetime(), answer = ? WHERE email = ?"
        if state == SENT:
            answer = answer.encode()[:ROOM].decode(errors="ignore")
        self._run(update, state, answer, person.email.lower())

    def _run(self, statement: str, *values: Any) -> list[Any]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._cannot(error) from error

    def _cannot(self, error: sqlite3.Error) -> BadCampaign:
        if "locked" in str(error):
            return BadCampaign(f"{self.path} is in use: letters of this plan are being sent")
        return BadCampaign(f"{self.path} cannot be written, and without it nothing is sent: {error}")
