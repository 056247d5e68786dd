"""The servers that are measured: started on the first core, and asked from the second."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import customers

HERE = Path(__file__).parent
ROOT = HERE.parent
SERVER_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 16

GUNICORN = (sys.executable, "-m", "gunicorn", "--workers", "1")


class Contender(NamedTuple):
    """A server: how it is started, and where."""

    name: str
    command: tuple[str, ...]
    folder: Path
    environment: tuple[tuple[str, str], ...] = ()


class Load(NamedTuple):
    """What one contender did under load in one turn."""

    requests: float  # a second
    p50: float  # ms
    p99: float  # ms


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def post(port: int, body: bytes) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        return answer


@contextlib.contextmanager
def serving(contender: Contender, port: int) -> Iterator[tuple[int, float]]:
    """Run a contender; gives its process id and the seconds until it answered a prediction."""
    is_gunicorn = "gunicorn" in contender.command
    option, address = ("--bind", f"127.0.0.1:{port}") if is_gunicorn else ("--port", str(port))
    body = json.dumps(customers.ONE).encode()
    environment = {name: value for name, value in os.environ.items() if name != "PORT"} | dict(contender.environment)
    started = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", str(SERVER_CORE), *contender.command, option, address],
        cwd=contender.folder,
        env=environment | {"PYTHONPATH": f"{ROOT}:{HERE}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                post(port, body)
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - started > 60:
                    sys.exit(f"{contender.name} does not start: {' '.join(contender.command)}")
                time.sleep(0.005)
        yield process.pid, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def memory(pid: int) -> float:
    """The proportional set size of a process and its descendants, in MB."""
    rollups = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in family(pid)]
    return sum(int(re.search(r"^Pss: +(\d+)", rollup, re.MULTILINE)[1]) for rollup in rollups) / 1000


def wrk(port: int, script: Path, seconds: int) -> Load:
    """Ask a server as often as it answers."""
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--latency"]
    done = subprocess.run(
        [*command, "-s", str(script), f"http://127.0.0.1:{port}/predict"], capture_output=True, text=True, check=True
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    p50, p99 = (
        float(found[1]) * unit[found[2]]
        for found in (re.search(rf"^ +{share}% +([\d.]+)(us|ms|s)$", done.stdout, re.MULTILINE) for share in (50, 99))
    )
    return Load(float(re.search(r"Requests/sec: +([\d.]+)", done.stdout)[1]), p50, p99)


def arrays_a_second(port: int, size: int) -> float:
    """Customers a second in arrays of this size, one request after the other."""
    body = json.dumps(customers.many(size)).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    times = []
    with contextlib.closing(connection):
        for _ in range(max(9, 200 // size)):
            started = time.perf_counter()
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            times.append(time.perf_counter() - started)
            assert response.status == 200, answer
    return size / median(times)


def array_in_a_script(size: int, **environment: str) -> float:
    """Customers a second that json.loads, dv.transform and the model's own library score of an array."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, str(HERE / "sklearn_array.py"), str(size)]
    found = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}", **environment}
    return float(subprocess.run(command, env=found, capture_output=True, text=True, check=True).stdout)


def require(*programs: str) -> None:
    """End where one of these is not there, or only one core is."""
    for program in programs:
        if not shutil.which(program):
            sys.exit(f"make bench needs {program}; on Debian and Ubuntu: apt install wrk valgrind util-linux")
    if (os.cpu_count() or 1) < 2:
        sys.exit("make bench needs two cores: one for the server, one for the load")
