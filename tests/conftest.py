"""The service under test, three ways: in Flask's test client, and as a real gunicorn and waitress process."""

import contextlib
import functools
import http.client
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pandas as pd
import pytest

import predict
import train
from serving.model import file
from serving.model.base import Model
from serving.model.file import Source
from serving.records import JSONReader
from serving.training import telecom
from serving.training.table import TrainingTable
from serving.training.telecom import packaged_frame
from serving.web.metrics import meter

ROOT = Path(__file__).parent.parent
MODEL_FILE = ROOT / "model_C=1.0.bin"

# The course's customer: tenure 24, probability 0.339064.
SEED = telecom.SCHEMA.example

GUNICORN = [sys.executable, "-m", "gunicorn", "predict:app", "--bind", "127.0.0.1:{port}"]
WAITRESS = [sys.executable, "-m", "waitress", "--listen", "127.0.0.1:{port}", "predict:app"]

# What the tests start heeds these, also where a shell (`&`) or nohup has told the tests to ignore them.
for _each in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_each) == signal.SIG_IGN:
        signal.signal(_each, lambda *_: None)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


# Seconds for which a connection is kept: servers end one after 95 (gunicorn) or 120 (waitress) in which nothing came.
KEPT = 60


class Service:
    """A running service, spoken to over one kept-alive connection."""

    def __init__(self, port: int):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._used = time.monotonic()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        if time.monotonic() > self._used + KEPT:
            self._connection.close()
        self._used = time.monotonic()
        try:
            self._connection.request(method, path, body, headers or {})
            response = self._connection.getresponse()
            return Answer(response.status, _lower(response.getheaders()), response.read())
        except (http.client.HTTPException, OSError):
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def predict(self, body: Any, content_type: str = "application/json") -> Answer:
        """POST /predict with bytes as they are, or anything else as JSON."""
        if not isinstance(body, bytes):
            body = json.dumps(body, allow_nan=False).encode()
        return self.request("POST", "/predict", body, {"Content-Type": content_type})


class InProcess(Service):
    """The same through Flask's test client."""

    def __init__(self, client: Any):
        self._client = client

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        response = self._client.open(path, method=method, data=body, headers=headers, buffered=True)
        return Answer(response.status_code, _lower(response.headers.items()), response.data)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


def read(*files: Path, schema: bytes = b"") -> Model:
    """The model of a file or two, tested, in this process."""
    found = file.of(Source([each.name for each in files], [each.read_bytes() for each in files], schema))
    file.test(found, is_its_own=not schema)
    return found


def probabilities(model: Model, records: list[dict[str, Any]], lenient: bool = False) -> list[float]:
    """What a model says of records that come as JSON."""
    reader = JSONReader(model.schema, lenient)
    return model.probabilities(reader(json.dumps(records).encode(), len(records)).columns)


@functools.cache
def packaged() -> TrainingTable:
    """The telecom company's 7,043 customers; their records are what `records` gives of all rows."""
    return telecom.packaged()


@functools.cache
def customers() -> list[dict[str, Any]]:
    """The same as records, with the fields in the model's order."""
    return packaged().records(range(len(packaged().rows)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Running(Service):
    """A server process of the test's own."""

    def __init__(self, port: int, process: subprocess.Popen, log: IO[str]):
        super().__init__(port)
        self.process = process
        self._log = log
        self._printed = ""

    def log(self) -> str:
        """What the server has printed so far, or until it was stopped."""
        if not self._log.closed:
            # Not by seek and read: the place in the file is the server's too, and what it writes then overwrites.
            file = self._log.fileno()
            self._printed = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")
        return self._printed

    def pids(self) -> list[int]:
        """The process and all its descendants."""
        pids = [self.process.pid]
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return pids


def children(pid: int) -> list[int]:
    """The processes that a process has begun, in whichever of its threads."""
    lists = (thread / "children" for thread in Path(f"/proc/{pid}/task").iterdir())
    return [int(child) for each in lists for child in each.read_text().split()]


def workers(service: Running) -> list[int]:
    """The process ids of gunicorn's workers."""
    return service.pids()[1:]


def reload(service: Running) -> None:
    """Have gunicorn take over the model file, and wait until no old worker answers any more."""
    service.close()  # a kept connection would keep its worker
    words = service.process.args
    number = int(words[words.index("--workers") + 1])
    wait_until(lambda: len(workers(service)) == number)
    old = workers(service)
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not {*old} & {*workers(service)} and len(workers(service)) == number)


@contextlib.contextmanager
def running(command: list[str], cwd: Path = ROOT, **environment: str) -> Iterator[Running]:
    """A server process, from its first answered ping on; it is stopped and waited for at the end."""
    port = free_port()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [word.format(port=port) for word in command],
            cwd=cwd,
            env={**os.environ, **environment, "PORT": str(port)},
            stdout=log,
            stderr=log,
        )
        service = Running(port, process, log)
        try:
            wait_until(lambda: process.poll() is not None or _answers(service), seconds=60)
            assert process.poll() is None, service.log()
            yield service
        finally:
            service.close()
            process.terminate()
            process.wait(timeout=60)
            service.log()


def run(*words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run Python with these arguments, to its end."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _answers(service: Service) -> bool:
    try:
        return service.get("/ping").body == b"PONG"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that must come true; the seconds are for a machine that is busy."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


@pytest.fixture(autouse=True, scope="module")
def the_meter_goes_back_to_the_committed_model() -> Iterator[None]:
    """An application that a test makes of another model, in this process, has the meter count that one's records."""
    yield
    meter.follow(predict.app.served.predictor.model)


@pytest.fixture(scope="session", params=["flask", "gunicorn", "waitress"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """The service with the committed model, in each of the ways it is run."""
    if request.param == "flask":
        yield InProcess(predict.app.test_client())
    else:
        with running(GUNICORN if request.param == "gunicorn" else WAITRESS) as running_service:
            yield running_service


@pytest.fixture
def customer() -> dict[str, Any]:
    """The course's customer."""
    return {**SEED}


# The columns of the published CSV, in its order and spelling.
PUBLISHED_COLUMNS = [
    *("customerID", "gender", "SeniorCitizen", "Partner", "Dependents", "tenure", "PhoneService"),
    *("MultipleLines", "InternetService", "OnlineSecurity", "OnlineBackup", "DeviceProtection"),
    *("TechSupport", "StreamingTV", "StreamingMovies", "Contract", "PaperlessBilling"),
    *("PaymentMethod", "MonthlyCharges", "TotalCharges", "Churn"),
]


@pytest.fixture(scope="session")
def published() -> pd.DataFrame:
    """The real table as IBM and Kaggle publish it, as text; the ids are made up."""
    frame = packaged_frame()
    frame["customerid"] = [f"{number:04}-MADEUP" for number in range(len(frame))]
    frame["totalcharges"] = frame["totalcharges"].replace("", " ")
    return frame[[name.lower() for name in PUBLISHED_COLUMNS]].set_axis(PUBLISHED_COLUMNS, axis="columns")


@pytest.fixture(scope="session")
def published_csv(published: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "telco.csv"
    published.to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def pair() -> tuple[Any, Any]:
    """The committed vectorizer and classifier, as scikit-learn alone reads them."""
    with MODEL_FILE.open("rb") as file:
        return pickle.load(file)


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Training stops with one line that says why, the old model stays, and no file comes or goes.

    In this process, to save each case the import of scikit-learn.
    """
    monkeypatch.chdir(tmp_path)

    def refused(*arguments: str, said: str) -> None:
        old = tmp_path / "model_C=1.0.bin"
        old.write_bytes(b"the old model")
        files = {*tmp_path.iterdir()}
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        with pytest.raises(SystemExit) as stopped:
            train.main()
        # What Python prints, and the status it ends with, for this exception.
        line = capsys.readouterr().err if stopped.value.code == 2 else stopped.value.code
        assert line.splitlines()[-1].startswith("train.py: ")
        assert said in line.splitlines()[-1]
        assert old.read_bytes() == b"the old model"
        assert {*tmp_path.iterdir()} == files

    return refused
