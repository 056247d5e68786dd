"""How the service says no: RFC 9457 problem details."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from serving.errors import FieldError

MEDIA_TYPE = "application/problem+json"


class ProblemDetails(Struct):
    """A problem: `title` and `status` tell its kind, `detail` says in words what happened.

    `errors` says what is wrong with which record, and `request_id` finds the request in the log.
    The type stays RFC 9457's `about:blank`: the status says which kind of problem it is.
    """

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str
    request_id: str | UnsetType = UNSET
    errors: Sequence[FieldError] | UnsetType = UNSET


class Problem(Exception):
    """An answer other than success; its message is the problem's `detail`; `headers` go with it."""

    def __init__(
        self, status: int, detail: str, errors: Sequence[FieldError] = (), *, headers: Mapping[str, str] | None = None
    ):
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers
        super().__init__(detail)

    def json(self, request_id: str) -> bytes:
        """The problem as a JSON object, with the id of the request; see `ProblemDetails`."""
        title, errors = HTTPStatus(self.status).phrase, self.errors or UNSET
        return msgspec.json.encode(
            ProblemDetails("about:blank", title, self.status, self.detail, request_id, errors=errors)
        )
