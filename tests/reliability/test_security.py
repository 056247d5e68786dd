"""What no answer may lack, and what no answer may tell."""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import GUNICORN, WAITRESS, Service, running

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
SERVERS = {"gunicorn": [*GUNICORN, "--workers", "1"], "waitress": WAITRESS}


@pytest.fixture(scope="module", params=SERVERS)
def service(request) -> Iterator[Service]:
    """The service with a route that fails, as careless as can be started."""
    command = [word.replace("predict:app", "failing:app") for word in SERVERS[request.param]]
    with running(command, PYTHONPATH=str(Path(__file__).parent), FLASK_DEBUG="1") as service:
        yield service


def test_every_answer_has_the_security_headers_and_no_version(service, customer, published_csv):
    answers = [
        *(service.get(path) for path in ("/ping", "/health", "/model", "/predict", "/nothing", "/fail")),
        *(service.request(method, "/predict") for method in ("OPTIONS", "DELETE")),
        *(service.predict(body) for body in (customer, [customer], {}, b"{")),
        service.predict(published_csv.read_bytes(), "text/csv"),
        service.predict(b"gender\n", "text/csv"),
        service.predict(b"hello", "text/plain"),
        service.request("POST", "/predict?explain=perhaps", b"{}", {"Content-Type": "application/json"}),
    ]
    versions = [importlib.metadata.version(name) for name in ("gunicorn", "waitress", "flask", "werkzeug")]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer
        assert not re.search(r"\d", answer.headers.get("server", "")), answer
        assert not any(version in str(answer.headers) for version in versions)


def test_a_failure_tells_the_client_nothing_and_the_log_where_it_was(service):
    answer = service.get("/fail")
    assert (answer.status, answer.json["status"]) == (500, 500)
    for word in (b"Traceback", b"secret", b"failing.py", b"RuntimeError", b"<"):
        assert word not in answer.body
    # Where it failed, and with what; the message stays out, since messages quote what customers sent.
    assert "failing.py" in service.log()
    assert "RuntimeError" in service.log()
    assert "a secret of the service" not in service.log()
    assert service.get("/ping").body == b"PONG"
