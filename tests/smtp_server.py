"""An SMTP server of the tests' own, in a process of its own: `python smtp_server.py PORT FOLDER [OPTION …]`.

Each message that it takes is a file in the folder before it says so. Addresses say what happens to them:
`later2@…` is refused for now twice, `never@…` for good. Options: `starttls=CERT`, `tls=CERT` (key in the same file),
`user=NAME:PASSWORD`, `closed` (no sender may come in).
"""

import os
import signal
import ssl
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope


class Handler:
    def __init__(self, folder: Path, is_closed: bool):
        self._folder, self._is_closed = folder, is_closed
        self._asked: Counter[str] = Counter()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802
        self._asked[address] += 1
        if self._is_closed:
            return "554 5.7.1 Relay access denied"
        if address.startswith("never"):
            return "550 5.1.1 No such user here"
        if address.startswith("later") and self._asked[address] <= int(address[len("later")]):
            return "451 4.7.1 Greylisted, come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        name = f"{time.time_ns()}-{uuid.uuid4().hex}"
        content = f"X-To: {envelope.rcpt_tos[0]}\r\nX-From: {envelope.mail_from}\r\n".encode() + envelope.content
        # Whole or not at all, also when this process is killed.
        (self._folder.parent / name).write_bytes(content)
        (self._folder.parent / name).rename(self._folder / name)
        return "250 2.0.0 Ok: queued"


def main() -> None:
    port, folder, *options = sys.argv[1:]
    given = dict(option.partition("=")[::2] for option in options)
    more: dict[str, Any] = {}
    for option, key in (("starttls", "tls_context"), ("tls", "ssl_context")):
        if option in given:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(given[option])
            more[key] = context
    if "user" in given:
        name, _, password = given["user"].partition(":")

        def known(server: Any, session: Any, envelope: Any, mechanism: str, login: Any) -> AuthResult:
            is_known = (login.login, login.password) == (name.encode(), password.encode())
            return AuthResult(success=is_known, handled=False)

        more |= {"authenticator": known, "auth_required": True, "auth_require_tls": "starttls" in given}
    handler = Handler(Path(folder), "closed" in given)
    Controller(handler, hostname="127.0.0.1", port=int(port), **more).start()
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
    os._exit(0)


if __name__ == "__main__":
    main()
