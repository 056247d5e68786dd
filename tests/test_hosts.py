"""The terms of the hosts in docs/deployment.md: what stands before the service there, and how it starts and stops."""

import concurrent.futures
import contextlib
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import openpyxl
import pytest
from conftest import GUNICORN, MODEL_FILE, ROOT, WAITRESS, Running, Service, free_port, reload, run, running, wait_until

FLY = tomllib.loads((ROOT / "docs/deployment/fly.toml").read_text())

NGINX = """
daemon off;
pid {folder}/pid;
error_log stderr;
{user}
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {root}/.platform/nginx/conf.d/*.conf;
    {before}
    server {{
        listen 127.0.0.1:{front};
        location / {{ {location} }}
    }}
}}
"""

# What Elastic Beanstalk's Docker platform has in front, as it is on its instances; `Connection: upgrade` included,
# which it sends with every request.
BEANSTALK = (
    """
    upstream docker {{ server 127.0.0.1:{port}; keepalive 256; }}
    map $http_upgrade $connection_upgrade {{ default "upgrade"; }}
    gzip on;
    gzip_types application/json;
    """,
    """
    proxy_pass http://docker;
    proxy_http_version 1.1;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    """,
)

# And what speaks to uWSGI.
VARIABLES = {
    **{name: name.lower() for name in ("QUERY_STRING", "REQUEST_METHOD", "CONTENT_TYPE", "CONTENT_LENGTH")},
    **{name: name.lower() for name in ("REQUEST_URI", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR")},
    "PATH_INFO": "document_uri",
}
UWSGI = ("", "uwsgi_pass unix:{folder}/socket;" + "".join(f"uwsgi_param {a} ${b};" for a, b in VARIABLES.items()))


@contextlib.contextmanager
def behind_nginx(service: Running, folder: Path, parts: tuple[str, str] = BEANSTALK) -> Iterator[Service]:
    """The service as those see it who ask the nginx in front of it."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("the program nginx is not installed")
    front = free_port()
    before, location = (part.format(folder=folder, port=service.port) for part in parts)
    user = "user root;" if os.geteuid() == 0 else ""  # its workers write into the folder
    settings = NGINX.format(folder=folder, user=user, root=ROOT, before=before, front=front, location=location)
    (folder / "conf").write_text(settings)
    process = subprocess.Popen([program, "-p", str(folder), "-c", "conf"])
    try:
        with contextlib.closing(Service(front)) as asked:
            wait_until(lambda: process.poll() is not None or accepts(front))
            assert process.poll() is None
            yield asked
    finally:
        process.terminate()
        process.wait(timeout=30)


def accepts(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def open_connections(port: int) -> int:
    """How many connections to a port of this machine are open, seen from those who ask."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_nginx_keeps_its_connection_to_the_service(customer, tmp_path):
    with running([*GUNICORN, "--workers", "1"]) as service, behind_nginx(service, tmp_path) as asked:
        service.close()
        for _ in range(20):
            assert asked.predict(customer).status == 200
        assert open_connections(service.port) == 1


def test_no_balancer_keeps_an_idle_connection_for_longer_than_the_service():
    # Seconds, as their documentation says; the service would close it while a request is on its way.
    balancers = {"nginx to its upstream": 60, "Application Load Balancer": 60, "Heroku's router": 90}
    said = run("-m", "gunicorn", "predict:app", "--print-config").stdout
    assert int(re.search(r"^keepalive += (\d+)$", said, re.MULTILINE)[1]) > max(balancers.values())


def test_a_table_beyond_nginx_s_own_limit_reaches_the_service(published, tmp_path):
    table = published.to_csv(index=False).encode() * 3
    assert len(table) > 2**20
    with running(GUNICORN) as service, behind_nginx(service, tmp_path) as asked:
        answer = asked.predict(table, "text/csv")
    assert (answer.status, answer.body.count(b"\n")) == (200, table.count(b"\n"))


def test_models_are_taken_over_behind_nginx_without_a_failed_request(customer, tmp_path):
    file = tmp_path / "model.bin"
    spellings = [MODEL_FILE.read_bytes(), pickle.dumps(pickle.loads(MODEL_FILE.read_bytes()), protocol=4)]
    file.write_bytes(spellings[0])
    two_workers = [*GUNICORN, "--workers", "2"]
    with running(two_workers, SERVING_MODEL=str(file)) as service, behind_nginx(service, tmp_path) as asked:
        stop = threading.Event()

        def client() -> set[str]:
            with contextlib.closing(Service(asked.port)) as mine:
                models = set()
                while not stop.is_set():
                    answer = mine.predict(customer)
                    assert answer.status == 200, answer
                    models.add(answer.headers["x-model"])
                return models

        with concurrent.futures.ThreadPoolExecutor() as pool:
            clients = [pool.submit(client) for _ in range(8)]
            try:
                for turn in range(1, 5):
                    file.write_bytes(spellings[turn % 2])
                    reload(service)
            finally:
                stop.set()
            assert len(set().union(*(each.result() for each in clients))) == 2


# What whoever asks may write, or a proxy on the same machine tells.
FORWARDED = {
    "Host": "elsewhere.example",
    "Forwarded": "for=203.0.113.9;proto=https;host=elsewhere.example",
    "X-Forwarded-For": "203.0.113.9",
    "X-Real-IP": "203.0.113.9",
    "X-Forwarded-Host": "elsewhere.example",
    "X-Forwarded-Port": "443",
    "X-Forwarded-Prefix": "/elsewhere",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Ssl": "off",
    "SCRIPT_NAME": "/elsewhere",
    "PATH_INFO": "/elsewhere",
}


@pytest.mark.parametrize("server", [[*GUNICORN, "--access-logfile", "-"], WAITRESS], ids=["gunicorn", "waitress"])
def test_no_answer_depends_on_what_is_said_of_a_proxy(server, customer):
    body = json.dumps(customer).encode()
    paths = ("/", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/model", "/health", "/predict", "/predict/", "//")
    with running(server) as service:
        for method, path in [*(("GET", path) for path in paths), ("POST", "/predict")]:
            headers = {"X-Request-ID": "same", "Content-Type": "application/json"}
            plain, said = (
                service.request(method, path, body if method == "POST" else None, headers | more)
                for more in ({}, FORWARDED)
            )
            for answer in (plain, said):
                answer.headers.pop("date")
            assert said == plain
            assert "location" not in said.headers
            assert b"http://127" not in said.body
        service.close()
    if server is not WAITRESS:
        assert {json.loads(line).get("remote", "127.0.0.1") for line in service.log().splitlines()} == {"127.0.0.1"}


def test_a_host_that_grants_ten_seconds_gets_its_answer_and_the_end(customer):
    # Cloud Run sends SIGTERM and waits for ten seconds, Heroku for thirty; Fly.io does as its file says.
    assert FLY["kill_signal"] == "SIGTERM"
    body = json.dumps([customer] * 1000).encode()
    head = (
        "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with running([*GUNICORN, "--workers", "2"]) as service:  # which keeps an idle connection, as a router does
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as asking:
            asking.sendall(head.encode())
            assert asking.recv(1000).startswith(b"HTTP/1.1 100 ")  # a worker is at it
            service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "Handling signal: term" in service.log())
            time.sleep(1)  # so that what is cut off would be
            asking.sendall(body)
            with asking.makefile("rb") as stream:
                status, _, answer = stream.read().partition(b"\r\n")
        assert b" 200 " in status
        assert answer.count(b"churn_probability") == 1000
        assert service.process.wait(timeout=10) == 0


def test_fly_asks_the_port_that_the_image_listens_on():
    exposed = re.search(r"^EXPOSE (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert FLY["http_service"]["internal_port"] == int(exposed)
    assert "PORT" not in FLY["env"]
    assert "build" not in FLY  # it would look for a Dockerfile beside it


def test_the_procfile_serves_on_the_host_s_port_and_ends_on_sigterm():
    honcho = [sys.executable, "-m", "honcho", "start"]
    folder_of_gunicorn = str(Path(sys.executable).parent)
    with running(
        honcho,
        PATH=f"{folder_of_gunicorn}:{os.environ['PATH']}",
        SERVING_API_KEYS="k",
        SERVING_REQUIRE_KEY="1",
        WEB_CONCURRENCY="2",  # as Heroku sets it
    ) as service:
        # With the key, and without it.
        for key, status in (("k", 0), ("", 1)):
            done = run("predict-test.py", "--url", service.url, SERVING_API_KEY=key)
            assert done.returncode == status, done.stderr
        service.close()
        [_, *children] = service.pids()
        service.process.terminate()
        service.process.wait(timeout=30)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    assert "Shutting down: Master" in service.log()


@pytest.fixture
def pythonanywhere(tmp_path: Path) -> list[str]:
    """uWSGI as PythonAnywhere runs it: one process, one request at a time."""
    (tmp_path / "churn-serving").symlink_to(ROOT)
    (tmp_path / "serving-keys").write_text("k\n")
    # uWSGI gives itself as Python's program; this package of it, which pip installs, does not.
    itself = 'import sys\nsys.executable = "/usr/local/bin/uwsgi"\n'
    file = tmp_path / "var_www_wsgi.py"
    file.write_text(itself + (ROOT / "docs/deployment/pythonanywhere_wsgi.py").read_text())
    uwsgi = [sys.executable, "-c", "import pyuwsgi; pyuwsgi.run()"]
    sockets = ["--http-socket", "127.0.0.1:{port}", "--socket", str(tmp_path / "socket")]
    return [*uwsgi, *sockets, "--master", "--die-on-term", "--wsgi-file", str(file)]


def test_pythonanywhere_s_file_serves_under_uwsgi(pythonanywhere, published, tmp_path):
    key = {"X-API-Key": "k"}
    workbook = tmp_path / "customers.xlsx"
    sheet = openpyxl.Workbook()
    for row in [list(published), *published.head(10).values.tolist()]:
        sheet.active.append(row)
    sheet.save(workbook)
    excel = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    table = published.to_csv(index=False).encode()
    with running(pythonanywhere, cwd=tmp_path, HOME=str(tmp_path)) as service:
        done = run("predict-test.py", "--url", service.url, SERVING_API_KEY="k")
        assert done.returncode == 0, done.stderr
        with behind_nginx(service, tmp_path, UWSGI) as asked:
            for body, kind, rows in ((table, "text/csv", len(published)), (workbook.read_bytes(), excel, 10)):
                answer = asked.request("POST", "/predict", body, {"Content-Type": kind, **key})
                assert (answer.status, answer.body.count(b"\n")) == (200, rows + 1)
            # Where the service reads no body, uWSGI would reset the connection, and nginx answer 502.
            for _ in range(20):
                assert asked.predict(table * 9, "text/csv").status == 401
            # Its one process counts for itself.
            metrics = asked.request("GET", "/metrics", headers=key).body.decode()
        assert f'serving_records_total{{form="csv",outcome="scored"}} {len(published) + 10}.0\n' in metrics
