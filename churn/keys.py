"""Who may ask for predictions: the API keys, and whether a request carries one of them.

Keys are bytes: HTTP headers, the environment and the file can each hold any.
"""

import hashlib
import hmac
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from churn.problem import Problem
from churn.settings import Settings

OPEN = "No API key is configured: whoever reaches this service may ask it. CHURN_API_KEYS=KEY closes it."
NO_KEY_YET = (
    "This service requires an API key, and none is configured. Set one: eb setenv CHURN_API_KEYS=KEY on Elastic "
    "Beanstalk, elsewhere the environment variable CHURN_API_KEYS or a line in the file of CHURN_API_KEYS_FILE."
)
SEND_A_KEY = "Send your API key as the header X-API-Key, or as Authorization: Bearer."
WRONG_KEY = "The API key is not one of this service's."
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="churn-serving"'}

log = logging.getLogger(__name__)


class Keys:
    """The keys that open the service: those of the environment, and those that a file holds at the moment."""

    def __init__(self, keys: bytes = b"", file: Path | None = None):
        self._fixed = _digests(keys)
        self._file = file
        # The file's version and the keys that it held: one tuple, so that threads see both or neither.
        self._read: tuple[object, list[bytes]] = (None, [])

    def check(self, environ: Mapping[str, Any]) -> None:
        """Let a request with one of the keys pass, given its WSGI environment; others raise `Problem`.

        The problem is a 401 for a missing or wrong key, and a 503 where there is no key to send.
        """
        digests = self._fixed + self._of_file()
        if not digests:
            raise Problem(503, NO_KEY_YET)
        given = _given(environ)
        if given is None:
            raise Problem(401, SEND_A_KEY, headers=CHALLENGE)
        digest = hashlib.sha256(given).digest()
        # Digests, and all of them: time tells neither a key's bytes nor its length nor its place.
        if not sum(hmac.compare_digest(digest, each) for each in digests):
            raise Problem(401, WRONG_KEY, headers=CHALLENGE)

    def _of_file(self) -> list[bytes]:
        if self._file is None:
            return []
        known, digests = self._read
        # Looked at before it is read: a change in between shows up with the next request.
        version = _version(self._file)
        if version != known:
            try:
                digests = _digests(self._file.read_bytes())
            except OSError as error:
                # Closed, rather than open to keys that were taken away.
                log.warning("CHURN_API_KEYS_FILE, %s, cannot be read: %s", self._file, error.strerror)
                digests = []
            self._read = (version, digests)
        return digests


def configured(settings: Settings) -> Keys | None:
    """The keys that these settings name; None where the service is open to everybody."""
    keys = os.fsencode(settings.api_keys)
    file = settings.api_keys_file
    if _digests(keys) or file or settings.require_key:
        return Keys(keys, Path(file) if file else None)
    return None


def _digests(keys: bytes) -> list[bytes]:
    words = (word.strip() for word in re.split(rb"[,\r\n]", keys))
    return [hashlib.sha256(word).digest() for word in words if word]


def _version(file: Path) -> object:
    """What changes whenever the file does, for less than it costs to read it."""
    try:
        found = file.stat()
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino


def _given(environ: Mapping[str, Any]) -> bytes | None:
    """The key that a request carries."""
    key = environ.get("HTTP_X_API_KEY")
    if not key:
        # Not Werkzeug's request.authorization: it takes a key with = inside for a list of parameters.
        scheme, _, key = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
    # WSGI hands over a header's bytes as Latin-1 text.
    return str(key).encode("latin-1").strip() or None
