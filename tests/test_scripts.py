"""predict-test.py, ping.py, predict.py and gunicorn's settings, as a user runs them."""

import ast
import contextlib
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

TROUBLES = (ROOT / "docs" / "troubles.md").read_text()


def explained(text: str, said: str) -> bool:
    """Whether a program said this, and who searches docs/troubles.md for it finds it."""
    return said in text and said in TROUBLES


@contextlib.contextmanager
def answering(status: int, to_post: object, to_get: object = None) -> Iterator[int]:
    """The port of something that answers whatever it is asked: a text as it is, and else JSON."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(to_get)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(to_post)

        def answer(self, what):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(what.encode() if isinstance(what, str) else json.dumps(what).encode())

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


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


def test_the_smoke_check_of_the_example_compares_with_what_the_model_says(gunicorn):
    done = run("predict-test.py", "--example", "--url", gunicorn.url)
    assert (done.returncode, done.stderr) == (0, "")
    record, answer = map(ast.literal_eval, done.stdout.splitlines())
    told = gunicorn.get("/model").json["example"]
    assert (record, answer["churn_probability"]) == (told["record"], told["probability"])


@pytest.mark.parametrize(("found", "status"), [(0.5, 0), (0.5 + 1e-10, 0), (0.5 - 1e-8, 1), (0.6, 1)])
def test_an_example_that_is_answered_otherwise_fails(found, status):
    model = {"example": {"record": {"a": 1}, "probability": 0.5}, "schema": {"target": "y"}}
    with answering(200, {"y_probability": found, "y": True}, model) as port:
        done = run("predict-test.py", "--example", "--url", f"127.0.0.1:{port}")
    url = f"http://127.0.0.1:{port}/predict"
    said = f"predict-test.py: {url} answered {found}, and its model says 0.5\n" if status else ""
    assert (done.returncode, done.stderr) == (status, said)


def test_the_smoke_check_fails_in_one_line_when_nobody_answers():
    done = run("predict-test.py", "--url", f"localhost:{free_port()}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert explained(done.stderr, "cannot be reached: nothing listens there")
    assert "make serve" in done.stderr


@pytest.mark.parametrize("url", ["http://a..b", "http://[::1", f"{'a' * 64}.example"])
def test_the_smoke_check_says_what_is_no_address(url):
    assert f"argument --url: {url} is no address: " in run("predict-test.py", "--url", url).stderr.splitlines()[-1]


def test_the_smoke_check_says_where_to_look_when_a_connection_ends_without_an_answer():
    # As from a container whose service listens on another port, or on its own 127.0.0.1.
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_one() -> None:
            listener.accept()[0].close()

        thread = threading.Thread(target=close_one)
        thread.start()
        done = run("predict-test.py", "--url", f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert explained(done.stderr, "the connection ended without an answer")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (422, {"detail": "One customer is invalid"}, "answered 422: One customer is invalid"),
        (200, {"churn_probability": 0.9, "churn": True}, "sending promo email to xyz-123"),
        (401, {"detail": "Send your API key"}, "Send your API key (--api-key, or SERVING_API_KEY)"),
        (200, ["no prediction"], "not as a churn service does"),
        (502, "<html>", "answered 502, and not as a churn service does"),
    ],
)
def test_the_smoke_check_says_what_it_was_answered(status, body, said):
    with answering(status, body) as port:
        done = run("predict-test.py", "--url", f"127.0.0.1:{port}")
    assert said in done.stdout + done.stderr
    assert len((done.stderr or "one line").splitlines()) == 1
    assert done.returncode == (0 if '"churn"' in json.dumps(body) else 1)


@pytest.mark.parametrize(
    ("command", "missing", "remedy"),
    [
        ("predict.py", "flask", "pipenv sync, and put in front of your command: pipenv run"),
        ("-m gunicorn predict:app", "gevent", "pipenv sync, and start with: pipenv run gunicorn predict:app"),
        ("-m gunicorn predict:app", "msgspec", "pipenv sync, and start with: pipenv run gunicorn predict:app"),
        ("-m gunicorn predict:app", "flask", "pipenv sync, and put in front of your command: pipenv run"),
        ("-m waitress predict:app", "flask", "pipenv sync, and put in front of your command: pipenv run"),
        ("train.py", "pandas", "pipenv sync --dev, and start with: pipenv run python train.py"),
        ("predict-test.py", "requests", "pipenv sync --dev, and start with: pipenv run python predict-test.py"),
        ("campaign.py", "requests", "pipenv sync --dev, and start with: pipenv run python campaign.py"),
        ("-m serving.compare", "msgspec", "pipenv sync --dev, and start with: pipenv run compare"),
        ("-m serving.score", "msgspec", 'pipenv sync --categories "packages score", and start with: pipenv run score'),
    ],
)
def test_without_a_package_a_program_says_what_to_type(tmp_path, command, missing, remedy):
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError(name={missing!r})")
    done = run(*command.split(), PYTHONPATH=str(tmp_path))
    # For serving.compare, 1 says that callers would break.
    assert done.returncode == (3 if "compare" in command else 1)
    assert len(done.stderr.splitlines()) == 1
    assert explained(done.stderr, " needs the package ")
    assert f"the package {missing}; install it with: {remedy}\n" in done.stderr


def test_a_missing_file_of_the_project_is_not_taken_for_a_package(tmp_path):
    (tmp_path / "predict.py").write_bytes((ROOT / "predict.py").read_bytes())
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "__init__.py").touch()
    done = run("predict.py", cwd=tmp_path)
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'serving.errors'\n")


@pytest.mark.parametrize("program", ["predict.py", "train.py", "campaign.py", "serving.compare", "serving.score"])
def test_under_an_older_python_a_program_says_which_one_is_needed(program):
    start = f"run_module({program!r}" if program.startswith("serving") else f"run_path({program!r}"
    older = "sys.version_info, sys.version = (3, 10, 13, 'final', 0), '3.10.13 (main)'"
    done = run("-c", f"import runpy, sys; {older}; runpy.{start}, run_name='__main__')")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert explained(done.stderr, "Python 3.11 or later is needed, and this is ")
    assert "3.10.13" in done.stderr


@pytest.mark.parametrize("file", ["predict.py", "train.py", "campaign.py", "gunicorn.conf.py", "serving/__init__.py"])
def test_an_older_python_can_read_the_files_that_say_so(file):
    ast.parse((ROOT / file).read_text(), feature_version=(3, 9))


def test_a_missing_model_is_a_line_that_says_what_makes_one(tmp_path):
    done = run("predict.py", SERVING_MODEL=str(tmp_path / "none.bin"))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert explained(line, "predict.py: the model cannot be served: [Errno 2] No such file or directory")
    assert line.endswith("(python train.py makes model_C=1.0.bin)")


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
    assert explained(error, "is taken by another program; stop it, or choose another port: PORT=")


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
