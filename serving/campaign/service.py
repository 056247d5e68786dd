"""The service, as its callers see it: what it serves, and a table that it scores."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import msgspec
import requests
from msgspec import Struct

from serving import spool
from serving.campaign import BadCampaign
from serving.errors import BadTable
from serving.model.figures import TrainingFigures
from serving.schema import Schema
from serving.tables.reader import Table

# Seconds until a connection is there, for an answer, and for a table to be scored.
CONNECTED, ANSWERED, SCORED = 10, 60, 3600

# Bytes that are read at once; characters of a scored row: its errors can be many times as long as the row was.
BLOCK, LONGEST = 65_536, 10_000_000


class Served(Struct):
    """What /model tells; `training` is None for a model that another script trained."""

    sha256: str
    schema: Schema
    training: TrainingFigures | None


class NoReasons(BadCampaign):
    """The model cannot say why."""


class Service:
    """The service at an address: a bare host, its root or its /predict. The methods raise `BadCampaign`."""

    def __init__(self, address: str, api_key: str | None = None):
        try:
            url = urlsplit(address if "://" in address else f"http://{address}")
            has_host = (url.hostname or "").encode("idna")  # or it raises
            is_one = url.port != 0 and has_host and not url.username and url.scheme in ("http", "https")
        except ValueError as error:
            raise BadCampaign(f"--url {address} is no address: {error}") from error
        if not is_one:
            raise BadCampaign("--url is not HOST:PORT or http(s)://HOST:PORT (a key is given by --api-key)")
        self._url = f"{url.scheme}://{url.netloc}{url.path.rstrip('/').removesuffix('/predict').rstrip('/')}"
        self._model: str | None = None  # what the answers so far were of, as X-Model tells
        if not (api_key or "").strip().isprintable():
            raise BadCampaign("the API key has more than one line")
        # As the bytes that were typed: requests would send text as Latin-1.
        self._key: dict[str, str | bytes] = {"X-API-Key": os.fsencode(api_key).strip()} if api_key else {}

    def served(self) -> Served:
        """What the service serves."""
        try:
            with self._answer("GET", "/model") as answer:
                return msgspec.json.decode(answer.content, type=Served)
        except msgspec.DecodeError as error:
            raise BadCampaign(f"{self._url} answered, and not as this service does: {error}") from error

    @contextmanager
    def scored(self, path: Path, explain_from: float | None = None) -> Iterator[Table]:
        """A table with its scores, and with the reasons in words of rows of at least a probability."""
        query = "" if explain_from is None else f"?explain=words&from={explain_from!r}"
        with path.open("rb") as table, spool.file() as kept:
            with self._answer("POST", f"/predict{query}", table) as answer:
                kept.writelines(answer.iter_content(BLOCK))
            kept.seek(0)
            try:
                with Table(kept, lambda name: name in ("note", "error"), LONGEST) as found:
                    if found.header[-2:] != ["note", "error"]:
                        raise BadTable("it has no column for errors")
                    yield found
            except (ValueError, IndexError) as error:  # here, or where its rows are read
                raise BadCampaign(f"{self._url} answered with no scored table: {error}") from error

    @contextmanager
    def _answer(self, method: str, path: str, body: IO[bytes] | None = None) -> Iterator[requests.Response]:
        headers, patience = {**self._key, "Content-Type": "text/csv"}, (CONNECTED, SCORED if body else ANSWERED)
        asked: dict[str, Any] = {"data": body, "headers": headers, "stream": True, "timeout": patience}
        asked["allow_redirects"] = False  # a table and a key are for nobody else
        try:
            with requests.request(method, self._url + path, **asked) as answer:
                if answer.status_code != 200:
                    raise self._refused(answer)
                before, self._model = self._model, answer.headers.get("X-Model", self._model)
                if before not in (None, self._model):
                    raise BadCampaign(f"{self._url} has another model than a moment ago: plan again")
                yield answer
        except requests.RequestException as error:
            why = type(error).__name__ if isinstance(error, requests.exceptions.InvalidHeader) else error
            raise BadCampaign(f"{self._url} cannot be reached (does the service run?): {why}") from error

    def _refused(self, answer: requests.Response) -> BadCampaign:
        said = f"{self._url} answered {answer.status_code}"
        try:
            problem = answer.json()
            errors = [f"{each['field']}: {each['message']}" for each in problem.get("errors", ())]
            said = "; ".join([f"{said}: {problem['detail']}", *errors])
        except (ValueError, TypeError, KeyError, AttributeError):
            return BadCampaign(f"{said}, and not as this service does")
        if answer.status_code == 401:
            said += " (--api-key, or SERVING_API_KEY)"
        return NoReasons(said) if answer.status_code == 422 and not errors else BadCampaign(said)
