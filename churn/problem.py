"""How the service says no: RFC 9457 problem details."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec

from churn.customer import FieldError

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer other than success; its message is the problem's `detail`.

    `errors` says what is wrong with which customer; `headers` go with the answer. The type stays
    RFC 9457's `about:blank`: the status says which kind of problem it is.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        headers: Mapping[str, str] | None = None,
    ):
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers
        super().__init__(detail)

    def json(self) -> bytes:
        """The problem as a JSON object."""
        members = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return msgspec.json.encode(members | {"errors": self.errors} if self.errors else members)
