"""What carries a table over HTTP: the body as it is, packed, a form; and what becomes of one that does not arrive."""

import gzip
import io
import json
import os
import re
import socket
from pathlib import Path

import pandas as pd
import pytest
import requests
from conftest import GUNICORN, WAITRESS, InProcess, Running, Service, customers, running, workers
from test_metrics import Counts

import predict
from serving import spool
from serving.web import bodies
from serving.web.settings import Settings

CSV = "text/csv"


@pytest.fixture(scope="module")
def body(published) -> bytes:
    return published.head(1000).to_csv(index=False).encode()


@pytest.fixture(scope="module", params=["gunicorn", "waitress"])
def server(request) -> Running:
    with running([*GUNICORN, "--workers", "1"] if request.param == "gunicorn" else WAITRESS) as service:
        yield service


def counted(service: Service) -> tuple[float, float]:
    """The rows of tables that were scored, and those that were invalid."""
    counts = Counts(service)
    return tuple(counts.of("serving_records_total", outcome=each, form="csv") for each in ("scored", "invalid"))


def post(service: Service, **request) -> requests.Response:
    return requests.post(f"{service.url}/predict", timeout=60, **request)


def test_a_form_with_a_file_is_scored_as_the_file_is(server, body):
    expected = server.predict(body, CSV).body
    answer = post(server, files={"file": ("table.csv", body)}, data={"note": "from a form"})
    assert (answer.status_code, answer.content) == (200, expected)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    form = {"Content-Type": "Multipart/Form-Data; boundary=b"}  # RFC 9110, section 8.3.1: in any capitals
    assert server.request("POST", "/predict", in_form(body), form).body == expected


def test_a_packed_body_is_scored_as_it_is_unpacked(server, body, customer):
    expected = server.predict(body, CSV).body
    packed = {"Content-Type": CSV, "Content-Encoding": "gzip"}
    assert post(server, data=gzip.compress(body), headers=packed).content == expected
    chunks = (gzip.compress(body)[at : at + 1000] for at in range(0, 10**6, 1000))
    assert post(server, data=chunks, headers=packed).content == expected
    alone = gzip.compress(json.dumps(customer).encode())
    answer = post(server, data=alone, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})
    assert answer.json() == server.predict(customer).json


def in_form(*files: bytes, end: bytes = b"--b--\r\n") -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="t.csv"\r\n\r\n'
    return b"".join(head + each + b"\r\n" for each in files) + end


OTHER = b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nx\r\n'
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
PACKED = {"Content-Type": CSV, "Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("headers", "spoil", "status", "said"),
    [
        (FORM, lambda _: in_form(), 400, "the form has 0 files"),
        (FORM, lambda body: in_form(body, body), 400, "the form has 2 files"),
        (FORM, lambda body: in_form(body, end=b""), 400, "the form is not as its Content-Type says"),
        (FORM, lambda body: in_form(body)[: len(body) // 2], 400, "the form is not as its Content-Type says"),
        ({"Content-Type": "multipart/form-data"}, in_form, 400, "the form is not as its Content-Type says"),
        (FORM, lambda body: in_form(body, end=OTHER * 10 + b"--b--\r\n"), 400, "the form has more than 10 parts"),
        (PACKED, lambda body: body, 400, "is not the gzip"),
        (PACKED, lambda body: gzip.compress(body)[:-4], 400, "is not the gzip"),
        (PACKED, lambda body: gzip.compress(body)[:-8] + bytes(8), 400, "is not the gzip"),
        (PACKED | {"Content-Encoding": "br"}, lambda body: body, 415, "Content-Encoding is br; it can be gzip"),
    ],
)
def test_what_does_not_carry_a_table_is_a_problem_and_counts_nothing(body, headers, spoil, status, said):
    service = InProcess(predict.app.test_client())
    before = counted(service)
    answer = service.request("POST", "/predict", spoil(body), headers)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.json["detail"]
    assert counted(service) == before


@pytest.mark.parametrize("content_type", [CSV, "application/json"])
def test_what_is_unpacked_has_the_same_bounds(content_type):
    app = predict.create_app(Settings(max_table_bytes=1_000_000, max_json_bytes=1_000_000))
    headers = {"Content-Encoding": "gzip"}
    bomb = gzip.compress(b"\n" * 300_000_000)
    answer = app.test_client().post("/predict", data=bomb, content_type=content_type, headers=headers)
    assert answer.status_code == 413
    assert "1,000,000 bytes" in answer.json["detail"]
    at_most = gzip.compress(b"[]".rjust(1_000_000))
    assert app.test_client().post("/predict", data=at_most, content_type="application/json", headers=headers).json == []


def test_a_body_that_is_large_only_when_it_is_unpacked_takes_a_place_of_the_large_ones(monkeypatch, body):
    monkeypatch.setattr(bodies, "_large", bodies.BoundedSemaphore(1))
    service = InProcess(predict.app.test_client())
    bodies._large.acquire()
    packed = gzip.compress(body)
    assert len(packed) < bodies.LARGE < len(body)
    assert service.request("POST", "/predict", packed, PACKED).status == 503
    bodies._large.release()
    assert service.request("POST", "/predict", packed, PACKED).status == 200
    assert service.request("POST", "/predict", packed, PACKED).status == 200


@pytest.mark.parametrize("is_form", [False, True])
def test_a_workbook_takes_a_place_of_the_large_ones_whatever_its_bytes(monkeypatch, is_form):
    """One is unpacked after the other, and many would wait however small they are."""
    monkeypatch.setattr(bodies, "_large", bodies.BoundedSemaphore(1))
    service = InProcess(predict.app.test_client())
    packed = io.BytesIO()
    pd.DataFrame(customers()[:3]).to_excel(packed, index=False)
    workbook, headers = packed.getvalue(), {"Content-Type": CSV}
    if is_form:
        workbook, headers = in_form(workbook), FORM
    assert len(workbook) < bodies.LARGE
    bodies._large.acquire()
    assert service.request("POST", "/predict", workbook, headers).status == 503
    bodies._large.release()
    for _ in range(2):
        answer = service.request("POST", "/predict", workbook, headers)
        assert (answer.status, len(answer.body.splitlines())) == (200, 4)


@pytest.mark.parametrize("headers", [{"Content-Type": CSV}, PACKED, FORM], ids=["plain", "packed", "form"])
def test_an_upload_that_is_cut_off_is_no_table(body, headers):
    sent = {"plain": body, "packed": gzip.compress(body), "form": in_form(body)}
    whole = sent["form"] if headers is FORM else sent["packed"] if headers is PACKED else body
    with running([*GUNICORN, "--workers", "1"]) as service:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
            connection.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\n{head}".encode())
            connection.sendall(f"Content-Length: {len(whole)}\r\n\r\n".encode() + whole[: len(whole) * 2 // 3])
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"ended before it was whole" in answer
        assert counted(service) == (0, 0)


@pytest.mark.parametrize(
    ("packed", "status"),
    [(b"no gzip" * 100_000, 400), (gzip.compress(b"\n" * 2_000_000 + os.urandom(500_000)), 413)],
    ids=["no gzip", "too much"],
)
def test_what_cannot_be_unpacked_is_said_and_the_connection_goes_on(packed, status, customer):
    with running([*GUNICORN, "--workers", "1"], SERVING_MAX_TABLE_BYTES="1000000") as service:
        answer = service.request("POST", "/predict", packed, PACKED)
        assert (answer.status, answer.headers["connection"]) == (status, "keep-alive")
        assert service.predict(customer).status == 200


def test_a_table_that_is_refused_at_its_last_line_has_counted_nothing(body):
    service = InProcess(predict.app.test_client())
    spoilt = body.replace(b"Female", b"F\xc3\xa4male", 1) + b"F\xe4male\n"
    before = counted(service)
    assert service.predict(spoilt, CSV).status == 400
    assert counted(service) == before
    assert service.predict(spoilt[: spoilt.rindex(b"F")], CSV).status == 200
    assert counted(service) == (before[0] + 999, before[1] + 1)


def test_a_large_table_takes_a_disk_and_no_memory(monkeypatch, tmp_path):
    def file_of(size: int) -> None:
        with spool.file() as file:
            file.write(bytes(size))
            file.seek(0)
            assert len(file.read()) == size

    variables = ("TMPDIR", "TEMP", "TMP")
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(spool, "FOLDERS", ("/dev/shm",))  # which is in memory
    file_of(spool.MOST_IN_MEMORY)
    with pytest.raises(OSError, match="no temporary folder is on a disk"):
        file_of(spool.MOST_IN_MEMORY + 1)
    for variable in variables:
        monkeypatch.setenv(variable, "/dev/shm")  # whoever says so wants it
        file_of(spool.MOST_IN_MEMORY + 1)
        monkeypatch.delenv(variable)
    monkeypatch.setattr(spool, "FOLDERS", ("/dev/shm", str(tmp_path)))
    file_of(spool.MOST_IN_MEMORY + 1)


def test_a_folder_that_was_away_is_used_when_it_is_there_again(monkeypatch, tmp_path):
    """And until then none in memory takes its place."""
    folder = tmp_path / "volume"
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(spool, "FOLDERS", ("/dev/shm",))
    with spool.file() as before:
        with pytest.raises(OSError, match="no temporary folder is on a disk"):
            before.write(bytes(spool.MOST_IN_MEMORY + 1))
        folder.mkdir()
        with pytest.raises(OSError, match="no temporary folder is on a disk"):
            before.rollover()
    with spool.file() as file:
        file.write(bytes(spool.MOST_IN_MEMORY + 1))
        assert folder in Path(f"/proc/self/fd/{file.fileno()}").readlink().parents


def test_a_row_of_many_quoted_lines_takes_no_memory(published):
    # Half a megabyte of quoted lines a row, again and again: refused at the first.
    header = ",".join(published.columns)
    row = b'"' + b"x\n" * 250_000 + b'"'
    with running([*GUNICORN, "--workers", "1"]) as service:
        [worker] = workers(service)

        def most_memory() -> int:
            return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())[1])

        service.predict(f"{header}\n".encode(), CSV)
        before = most_memory()
        answer = service.predict(f"{header}\n".encode() + (row + b"\n") * 40, CSV)
        assert answer.status == 400
        assert "more than 100,000 characters" in answer.json["detail"]
        assert most_memory() - before < 8_000
