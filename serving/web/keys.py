"""Who may ask for predictions: the API keys, and whether a request carries one of them.

Keys are bytes: HTTP headers, the environment and the file can each hold any.
"""

import hashlib
import hmac
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.web.problem import Problem
from serving.web.settings import Settings

OPEN = "No API key is configured: whoever reaches this service may ask it. SERVING_API_KEYS=KEY closes it."
NO_KEY_YET = (
    "This service requires an API key, and none is configured. Set one: eb setenv SERVING_API_KEYS=KEY on Elastic "
    "Beanstalk, elsewhere the environment variable SERVING_API_KEYS or a line in the file of SERVING_API_KEYS_FILE."
)
SEND_A_KEY = "Send your API key as the header X-API-Key, or as Authorization: Bearer."
WRONG_KEY = "The API key is not one of this service's."
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="churn-serving"'}

log = logging.getLogger(__name__)


class KeyFile:
    """The keys that a file holds at the moment, one a line. To read it with each request takes some 20 us."""

    def __init__(self, path: Path):
        self._path = path
        self._is_readable = True

    def digests(self) -> list[bytes]:
        """The keys' digests; none while the file cannot be read, which closes the service to keys taken away."""
        try:
            lines = self._path.read_bytes().splitlines()
            self._is_readable = True
        except OSError as error:
            if self._is_readable:  # till now: it is said once
                log.warning("SERVING_API_KEYS_FILE, %s, cannot be read: %s", self._path, error.strerror)
            lines, self._is_readable = [], False
        return [_digest(line) for line in lines if line.strip()]


class Keys:
    """The keys that open the service: fixed ones, and those of a file."""

    def __init__(self, digests: list[bytes], file: KeyFile | None = None):
        self._fixed = digests
        self._file = file

    def check(self, environ: Mapping[str, Any]) -> None:
        """Let a request with one of the keys pass, given its WSGI environment; others raise `Problem`.

        The problem is a 401 for a missing or wrong key, and a 503 where there is no key to send.
        """
        digests = self._fixed + self._file.digests() if self._file else self._fixed
        if not digests:
            raise Problem(503, NO_KEY_YET)
        given = _given(environ)
        if given is None:
            raise Problem(401, SEND_A_KEY, headers=CHALLENGE)
        digest = _digest(given)
        # Digests, and all of them: time tells neither a key's bytes nor its length nor its place.
        if not sum(hmac.compare_digest(digest, each) for each in digests):
            raise Problem(401, WRONG_KEY, headers=CHALLENGE)

    def opens(self, environ: Mapping[str, Any]) -> bool:
        """Whether a request carries one of the keys."""
        try:
            self.check(environ)
        except Problem:
            return False
        return True


def configured(settings: Settings, also: str = "") -> Keys | None:
    """The keys that these settings name, and one more where there is one; None where everybody may ask."""
    keys = [*os.fsencode(settings.api_keys).split(b","), os.fsencode(also)]
    digests = [_digest(key) for key in keys if key.strip()]
    if digests or settings.api_keys or settings.api_keys_file or settings.require_key:
        return Keys(digests, KeyFile(Path(settings.api_keys_file)) if settings.api_keys_file else None)
    return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key.strip()).digest()


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
