"""API keys: what opens POST /predict, and what stays open without one."""

import json
import logging

import pytest
from conftest import GUNICORN, WAITRESS, Answer, Service, run, running

from predict import create_app
from serving.web import keys
from serving.web.problem import Problem
from serving.web.settings import from_environment

FIRST, SECOND = "first-key", "schlüssel=€2/"


@pytest.fixture(scope="module", params=["gunicorn", "waitress"])
def guarded(request):
    """A service with two keys, one of them not ASCII."""
    command = GUNICORN if request.param == "gunicorn" else WAITRESS
    with running(command, SERVING_API_KEYS=f" {FIRST}, {SECOND},,", SERVING_REQUIRE_KEY="1") as service:
        yield service


def ask(service: Service, customer, headers=None) -> Answer:
    return service.request(
        "POST", "/predict", json.dumps(customer).encode(), {"Content-Type": "application/json", **(headers or {})}
    )


def refused(answer: Answer, status: int) -> str:
    """The detail of a problem that must be one."""
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    return answer.json["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": FIRST},
        {"x-api-KEY": FIRST},
        {"X-API-Key": SECOND.encode()},
        {"Authorization": f"Bearer {FIRST}"},
        {"authorization": b"bearer  " + SECOND.encode()},
        {"X-API-Key": "", "Authorization": f"Bearer {FIRST}"},
    ],
    ids=str,
)
def test_each_key_opens_in_either_header(guarded, customer, headers):
    assert ask(guarded, customer, headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic Zmlyc3Qta2V5Og=="},
        {"Authorization": FIRST},
        {"Cookie": f"X-API-Key={FIRST}"},
    ],
    ids=str,
)
def test_without_a_key_the_answer_says_how_to_send_one(guarded, customer, headers):
    answer = ask(guarded, customer, headers)
    assert "X-API-Key" in refused(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize(
    "key",
    [b"wrong", b"first-ke", b"first-keys", b"FIRST-KEY", b"first-key, second", SECOND.encode("cp1252"), b"\xff" * 2000],
    ids=lambda key: repr(key[:20]),
)
def test_a_wrong_key_is_refused_and_not_repeated(guarded, customer, key):
    for headers in {"X-API-Key": key}, {"Authorization": b"Bearer " + key}:
        answer = ask(guarded, customer, headers)
        refused(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert key not in answer.body


def test_the_key_comes_before_the_customer(guarded):
    assert ask(guarded, {"contract": "weekly"}).status == 401
    assert ask(guarded, {"contract": "weekly"}, {"X-API-Key": FIRST}).status == 422


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_other_pages_stay_open(guarded, path):
    assert guarded.get(path).status == 200


def test_a_service_that_requires_a_key_and_has_none_says_how_to_set_one(customer):
    with running(GUNICORN, SERVING_REQUIRE_KEY="1") as service:
        for headers in {}, {"X-API-Key": "any"}:
            assert "eb setenv SERVING_API_KEYS=" in refused(ask(service, customer, headers), 503)
        assert service.get("/health").status == 200


def test_a_list_of_keys_without_a_key_closes_the_service():
    with pytest.raises(Problem) as refusal:
        keys.configured(from_environment({"SERVING_API_KEYS": " , "})).check({"HTTP_X_API_KEY": "any"})
    assert refusal.value.status == 503


@pytest.mark.parametrize("environment", [{}, {"SERVING_API_KEYS": ""}, {"SERVING_REQUIRE_KEY": "0"}], ids=str)
def test_without_a_key_the_service_is_open_and_says_so_once(customer, environment):
    with running([*GUNICORN, "--workers", "2"], **environment) as service:
        assert ask(service, customer).status == 200
    assert service.log().count("No API key is configured") == 1


def test_keys_rotate_by_file_without_a_restart(customer, tmp_path):
    file = tmp_path / "keys"
    file.write_text("old\n")

    def statuses(service):
        return [ask(service, customer, {"X-API-Key": key}).status for key in ("old", "new")]

    with running([*GUNICORN, "--workers", "2"], SERVING_API_KEYS_FILE=str(file)) as service:
        assert statuses(service) == [200, 401]
        file.write_text("new\r\nold\r\n")
        assert statuses(service) == [200, 200]
        renamed = tmp_path / "renamed"
        renamed.write_text("new\n")
        renamed.replace(file)
        assert statuses(service) == [401, 200]
        file.unlink()
        assert statuses(service) == [503, 503]
        file.write_text("old\n")
        assert statuses(service) == [200, 401]


@pytest.mark.parametrize("content", [None, b"", b"\n \r\n"], ids=repr)
def test_a_file_without_a_key_closes_the_service(tmp_path, content):
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    found = keys.configured(from_environment({"SERVING_API_KEYS_FILE": str(file)}))
    with pytest.raises(Problem) as refusal:
        found.check({"HTTP_X_API_KEY": "any"})
    assert refusal.value.status == 503


def test_an_unreadable_file_is_logged_once_and_not_with_every_request(tmp_path, caplog):
    found = keys.configured(from_environment({"SERVING_API_KEYS_FILE": str(tmp_path)}))  # a folder
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(Problem):
                found.check({})
    assert len(caplog.records) == 1
    assert str(tmp_path) in caplog.text


def test_the_variables_and_the_file_add_up(tmp_path):
    file = tmp_path / "keys"
    file.write_text("b\n")
    found = keys.configured(from_environment({"SERVING_API_KEYS": "a", "SERVING_API_KEYS_FILE": str(file)}))
    found.check({"HTTP_X_API_KEY": "a"})
    found.check({"HTTP_X_API_KEY": "b"})


def test_a_comma_inside_a_key_of_the_file_is_part_of_it(tmp_path):
    file = tmp_path / "keys"
    file.write_text("one,two\n three \n")
    found = keys.configured(from_environment({"SERVING_API_KEYS_FILE": str(file)}))
    found.check({"HTTP_X_API_KEY": "one,two"})
    found.check({"HTTP_X_API_KEY": "three"})
    for part in "one", "two":
        with pytest.raises(Problem):
            found.check({"HTTP_X_API_KEY": part})


def test_a_file_that_becomes_readable_opens_the_service(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    file.write_text("a\n")
    found = keys.configured(from_environment({"SERVING_API_KEYS_FILE": str(file)}))

    def unreadable(path):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:  # for root every file is readable
        patched.setattr("pathlib.Path.read_bytes", unreadable)
        with pytest.raises(Problem):
            found.check({"HTTP_X_API_KEY": "a"})
    found.check({"HTTP_X_API_KEY": "a"})


@pytest.mark.parametrize(
    ("environment", "opens", "stays_out"),
    [
        ({}, [None, "any"], []),
        ({"SERVING_API_KEYS": FIRST}, [FIRST], [None, "any"]),
        (
            {"SERVING_API_KEYS": FIRST, "SERVING_METRICS_KEY": "of, prometheus"},
            [FIRST, "of, prometheus"],
            [None, "any"],
        ),
        ({"SERVING_METRICS_KEY": "of, prometheus"}, ["of, prometheus"], [None, "of"]),
        ({"SERVING_REQUIRE_KEY": "1", "SERVING_METRICS_KEY": "x"}, ["x"], [None]),
    ],
    ids=str,
)
def test_the_metrics_want_a_key_where_there_are_keys(environment, opens, stays_out):
    client = create_app(from_environment(environment)).test_client()

    def status(key, path="/metrics"):
        return client.get(path, headers={"Authorization": f"Bearer {key}"} if key else {}).status_code

    assert [status(key) for key in opens] == [200] * len(opens)
    assert [status(key) for key in stays_out] == [401] * len(stays_out)
    assert status(None, "/model") == 200


def test_the_key_to_the_metrics_opens_nothing_else(customer):
    keys = {"SERVING_API_KEYS": FIRST, "SERVING_METRICS_KEY": "x"}
    client = create_app(from_environment(keys)).test_client()
    assert client.post("/predict", json=customer, headers={"X-API-Key": "x"}).status_code == 401


def test_no_key_is_in_a_log_line_or_an_answer(customer, tmp_path):
    file = tmp_path / "keys"
    file.write_text("key-of-the-file")
    sent = ["key-of-the-variable", "key-of-the-file", "key-that-is-wrong"]
    chatty = [*GUNICORN, "--log-level", "debug", "--access-logfile", "-"]
    answers = []
    with running(chatty, SERVING_API_KEYS="key-of-the-variable", SERVING_API_KEYS_FILE=str(file)) as service:
        for key in sent:
            for headers in {"X-API-Key": key}, {"Authorization": f"Bearer {key}"}:
                answers.append(ask(service, customer, headers))
                answers.append(ask(service, {}, headers))
    assert service.log().count('"route": "/predict"') == len(answers)
    for text in service.log(), *(f"{answer.headers} {answer.body}" for answer in answers):
        assert "key-" not in text


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--api-key", FIRST], {}),
        (["--api-key", SECOND], {"SERVING_API_KEY": "wrong"}),
        ([], {"SERVING_API_KEY": SECOND}),
    ],
    ids=str,
)
def test_the_smoke_check_sends_a_key(guarded, words, environment):
    done = run("predict-test.py", "--url", guarded.url, *words, **environment)
    assert done.returncode == 0, done.stderr
    assert "not sending promo email" in done.stdout


def test_the_smoke_check_says_that_a_key_is_missing_and_never_shows_one(guarded):
    done = run("predict-test.py", "--url", guarded.url, SERVING_API_KEY="")
    assert done.returncode == 1
    assert "answered 401: Send your API key" in done.stderr
    done = run("predict-test.py", "--help", SERVING_API_KEY="a-secret")
    assert "SERVING_API_KEY" in done.stdout
    assert "a-secret" not in done.stdout
