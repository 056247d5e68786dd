"""What the service says of itself, and the ids that requests are found by."""

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import GUNICORN, ROOT, WAITRESS, Running, Service, running, wait_until
from test_scripts import run

SECRETS = {"customerid": "7590-VHVEG", "monthlycharges": 83.57, "totalcharges": 5097.77}

# The service with a fault that quotes the customer, as those of libraries do.
FAULTY = """
import sys
import predict
from serving.model.linear import LinearModel

def fail(self, asked):
    raise ValueError(f"cannot score {asked}") from KeyError(asked)

LinearModel.probabilities = fail
app = predict.app
"""


def lines(service: Running) -> list[dict[str, Any]]:
    """The service's log, of which every line must be JSON and have the members that all have."""
    found = [json.loads(line) for line in service.log().splitlines()]
    assert all({"time", "level", "event", "process"} <= line.keys() for line in found)
    return found


def events(service: Running, event: str) -> list[dict[str, Any]]:
    return [line for line in lines(service) if line["event"] == event]


def assert_without_secrets(text: str) -> None:
    for secret in SECRETS.values():
        assert not re.search(rf"(?<![\w.]){re.escape(str(secret))}(?![\w.])", text), secret


@pytest.mark.parametrize("command", [GUNICORN, WAITRESS], ids=["gunicorn", "waitress"])
def test_every_line_is_json_from_start_to_stop(command):
    with running(command) as service:
        sha256 = service.get("/model").json["sha256"]
    [loaded] = events(service, "model loaded")
    assert (loaded["level"], loaded["file"], loaded["sha256"]) == ("info", "model_C=1.0.bin", sha256)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", loaded["time"])
    assert not events(service, "request")
    if command is GUNICORN:
        assert any(line["event"].startswith("Starting gunicorn") for line in lines(service))
        assert lines(service)[-1]["event"] == "Shutting down: Master"


def test_a_refused_model_is_a_line_of_the_log_and_a_readable_one(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"")
    done = run("-m", "gunicorn", "predict:app", "--bind", "127.0.0.1:0", SERVING_MODEL=str(tmp_path / "model.bin"))
    assert done.returncode == 1
    [refused] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (refused["event"], refused["level"]) == ("model refused", "error")
    assert refused["reason"].endswith("it is empty")
    assert done.stderr == f"predict.py: the model cannot be served: {refused['reason']}\n"


def test_the_access_log_has_a_line_a_request_and_no_customer(customer):
    secret = customer | SECRETS
    with running([*GUNICORN, "--access-logfile", "-", "--log-level", "debug"]) as service:
        asked = [
            ("/predict", service.predict(secret)),
            ("/predict", service.predict([secret, secret | {"contract": "7590-VHVEG"}])),
            (
                "/predict",
                service.predict(",".join(secret).encode() + b"\n" + b"7590-VHVEG," * 19 + b"61\n", "text/csv"),
            ),
            ("/predict", service.predict(b'{"customerid": "7590-VHVEG", 5097.77')),
            ("unknown", service.get("/7590-VHVEG?monthlycharges=83.57")),
            ("/predict", service.request("POST", "/predict?explain=7590-VHVEG", b"")),
        ]
    found = {line["request_id"]: line for line in events(service, "request")}
    for route, answer in asked:
        line = found[answer.headers["x-request-id"]]
        assert (line["route"], line["status"], line["remote"]) == (route, answer.status, "127.0.0.1")
        assert line["bytes"] == len(answer.body)
        assert line["seconds"] > 0
    assert_without_secrets(service.log())


@pytest.fixture(scope="module", params=["gunicorn", "waitress"])
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "faulty.py").write_text(FAULTY)
    command = [
        word.replace("predict:app", "faulty:app") for word in (GUNICORN if request.param == "gunicorn" else WAITRESS)
    ]
    if request.param == "gunicorn":
        command += ["--config", str(ROOT / "gunicorn.conf.py")]
    with running(command, cwd=folder, PYTHONPATH=str(ROOT)) as service:
        yield service


@pytest.mark.parametrize("several", [False, True])
def test_a_fault_is_logged_with_its_places_and_without_the_customer(faulty, customer, several):
    body = customer | SECRETS
    answer = faulty.predict([body] if several else body)
    assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
    wait_until(lambda: bool(events(faulty, "request failed")))
    [line] = [each for each in events(faulty, "request failed") if each["request_id"] == answer.json["request_id"]]
    assert (line["level"], line["status"], line["route"]) == ("error", 500, "/predict")
    assert [each["error"] for each in line["traceback"]] == ["builtins.ValueError", "builtins.KeyError"]
    assert re.search(r"/faulty\.py:7 fail$", line["traceback"][0]["frames"][-1])
    assert_without_secrets(faulty.log())
    assert_without_secrets(answer.body.decode())


def test_a_model_that_does_not_score_is_logged(faulty):
    answer = faulty.get("/health")
    assert answer.status == 503
    [line] = [each for each in events(faulty, "request failed") if each["request_id"] == answer.json["request_id"]]
    assert [each["error"] for each in line["traceback"]][:2] == ["serving.web.problem.Problem", "builtins.ValueError"]


@pytest.mark.parametrize(
    "sent",
    [
        b'{"customerid": "7590-VHVEG", "monthlycharges": 83.57}\r\n\r\n',
        b"GET /7590-VHVEG HTTP/7590-VHVEG\r\n\r\n",
        b"GET / HTTP/1.1\r\n7590-VHVEG 5097.77: 83.57\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: 7590-VHVEG\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n7590-VHVEG",
    ],
    ids=lambda sent: repr(sent[:20]),
)
def test_bytes_that_are_not_http_stay_out_of_the_log(chatty, sent):
    before = len(lines(chatty))
    with socket.create_connection(("127.0.0.1", chatty.port), timeout=30) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass
    chatty.get("/ping")  # which is logged after what was to be logged of the other
    wait_until(lambda: len(lines(chatty)) > before)
    assert_without_secrets(chatty.log())


def test_what_is_not_http_is_logged_by_its_kind(chatty):
    with socket.create_connection(("127.0.0.1", chatty.port), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\n7590-VHVEG 5097.77: 83.57\r\n\r\n")
        while client.recv(65536):
            pass
    wait_until(lambda: [line for line in lines(chatty) if line["event"].startswith("Invalid request")])
    line = [line for line in lines(chatty) if line["event"].startswith("Invalid request")][-1]
    assert (line["level"], line["error"]) == ("warning", "InvalidHeaderName")
    assert "127.0.0.1" in line["event"]


@pytest.fixture(scope="module")
def chatty() -> Iterator[Running]:
    with running([*GUNICORN, "--access-logfile", "-", "--log-level", "debug"]) as service:
        yield service


def test_a_request_id_is_taken_over_and_comes_back(service: Service, customer):
    for given in ("x", "7c0e-41.A/b=:~", "a" * 128):
        body = json.dumps(customer).encode()
        headers = {"Content-Type": "application/json", "X-Request-ID": given}
        assert service.request("POST", "/predict", body, headers).headers["x-request-id"] == given
        answer = service.request("GET", "/none", headers=headers)
        assert (answer.headers["x-request-id"], answer.json["request_id"]) == (given, given)


@pytest.mark.parametrize("given", [None, "", "a" * 129, "two words", "schlüssel", "tab\there"], ids=repr)
def test_without_a_usable_one_each_request_gets_its_own(service: Service, given):
    headers = {} if given is None else {"X-Request-ID": given}
    answers = [service.request("GET", path, headers=headers) for path in ("/ping", "/none", "/model", "/none")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len({*ids}) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)
    assert answers[1].json["request_id"] == ids[1]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/predict", b"{"), ("POST", "/predict", b"{}"), ("DELETE", "/predict", b""), ("GET", "/none", b"")],
)
def test_every_problem_has_the_id_of_its_request(service: Service, method, path, body):
    answer = service.request(method, path, body, {"Content-Type": "application/json"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["request_id"] == answer.headers["x-request-id"]
