"""Excel workbooks over HTTP: what is in their cells, what is none, and what is made to harm."""

import csv
import datetime
import io
import re
import sys
import time
import zipfile
from pathlib import Path

import openpyxl
import pytest
from conftest import GUNICORN, InProcess, Service, run, running, workers

import predict
from serving.errors import BadTable, TooMuch
from serving.tables import workbook
from serving.tables.reader import Table
from serving.tables.workbook import Limits

EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
in_process = InProcess(predict.app.test_client())


def made(rows: list[list[object]]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    return saved(book)


def saved(book: openpyxl.Workbook) -> bytes:
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


@pytest.fixture
def rows(published) -> list[list[object]]:
    return [list(published.columns), *published.head(5).to_numpy().tolist()]


def scored(service: Service, body: bytes) -> list[list[str]]:
    answer = service.predict(body, EXCEL)
    assert answer.status == 200, answer
    text = answer.body.decode()
    assert text.startswith("\ufeff")
    assert text.count("\r\n") == text.count("\n")
    return list(csv.reader(io.StringIO(text[1:], newline="")))


def test_it_comes_back_as_csv_that_excel_opens(service, rows):
    answer = scored(service, made(rows))
    as_csv = io.StringIO()
    csv.writer(as_csv).writerows(rows)
    plain = service.predict(as_csv.getvalue().encode(), "text/csv").body.decode()
    assert answer == list(csv.reader(io.StringIO(plain)))


def test_what_is_no_value_is_the_rows_error_and_no_blank(rows):
    total = rows[0].index("TotalCharges")
    rows[0].append("note")
    given = ["=1+1", "#N/A", "=1/0", datetime.datetime(2024, 5, 6), True]
    for row, value in zip(rows[1:], given, strict=True):
        row[total] = value
        row.append("=HYPERLINK(1)" if value == "=1+1" else value)
    book = openpyxl.load_workbook(io.BytesIO(made(rows)))
    book.active.cell(4, total + 1).data_type = "e"
    book.active.cell(4, total + 1).value = "#DIV/0!"
    answers = scored(in_process, saved(book))
    shown = ["=1+1", "#N/A", "#DIV/0!", "2024-05-06", "True"]
    for answer, text in zip(answers[1:], shown, strict=True):
        assert answer[total] == text.replace("=", "'=")
        assert answer[-4] == ""
        assert f'totalcharges: the text "{text}" is not a number' in answer[-1]
    assert answers[1][21] == "'=HYPERLINK(1)"
    assert answers[4][21] == "2024-05-06"


def test_a_formula_that_was_worked_out_is_its_value(rows):
    book = openpyxl.load_workbook(io.BytesIO(made(rows)))
    tenure = rows[0].index("tenure") + 1
    expected = scored(in_process, saved(book))
    was = str(book.active.cell(2, tenure).value)
    book.active.cell(2, tenure).value = "=SUM(1)"
    body = saved(book)
    # As Excel itself saves it.
    answered = rewritten(body, lambda xml: xml.replace(b"<f>SUM(1)</f><v />", f"<f>SUM(1)</f><v>{was}</v>".encode()))
    assert answered != body
    assert scored(in_process, answered) == expected


def test_a_formula_whose_value_is_an_empty_text_is_a_blank(rows):
    total = rows[0].index("TotalCharges")
    rows[1][total] = ""
    expected = scored(in_process, made(rows))
    rows[1][total] = "=IF(1,X)"
    body = rewritten(made(rows), lambda xml: re.sub(rb'<c r="(T2)"[^>]*><f>IF', rb'<c r="\1" t="str"><f>IF', xml))
    assert scored(in_process, body) == expected


def test_returns_and_lines_in_cells_are_no_rows(rows):
    rows[0].append("note")
    for row in rows[1:]:
        row.append("xRETURN\nyRETURNz,\nFemale,0")
    rows[2][0] = "aRETURNb"
    body = rewritten(made(rows), lambda xml: xml.replace(b"RETURN", b"&#13;"))
    answer = in_process.predict(body, EXCEL).body.decode("utf-8-sig")
    rows = [[cell.replace("RETURN", "\r") for cell in row] for row in rows]
    assert [row[:-4] for row in csv.reader(io.StringIO(answer, newline=""))] == rows


def test_a_sheet_that_is_a_chart_is_no_table(rows):
    book = openpyxl.load_workbook(io.BytesIO(made(rows)))
    book.create_chartsheet("picture", 0)
    assert scored(in_process, saved(book)) == scored(in_process, made(rows))


def rewritten(body: bytes, change) -> bytes:
    """A workbook with another first sheet."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name == "xl/worksheets/sheet1.xml" else data)
    return file.getvalue()


def in_a_corner() -> bytes:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = "x", "y"
    return saved(book)


def of_blanks(size: int) -> bytes:
    return rewritten(made([["x"]]), lambda xml: xml.replace(b"<sheetData>", b"<sheetData>" + b" " * size))


def with_much_to_quote() -> bytes:
    cell = b'<row><c t="' + b"A" * 300_000 + b'"><v>1</v></c></row>'
    return rewritten(made([["x"]]), lambda xml: xml.replace(b"</sheetData>", cell + b"</sheetData>"))


def of_formulas(rows: int) -> bytes:
    cell = b'<row><c t="str"><f>1</f></c></row>'
    return rewritten(made([["x"]]), lambda xml: xml.replace(b"</sheetData>", cell * rows + b"</sheetData>"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (workbook.OLD + bytes(2000), "it is an Excel workbook with a password, or from before 2007"),
        (workbook.PACKED + b"no archive", "the workbook cannot be read"),
        (made([["x"]])[:-100], "the workbook cannot be read"),
        (rewritten(made([["x"]]), lambda xml: xml[:-100]), "the workbook cannot be read"),
        (rewritten(made([["x"]]), lambda xml: b""), "the workbook cannot be read"),
        (made([]), "it is empty"),
        (with_much_to_quote(), "the workbook cannot be read"),
        (in_a_corner(), "the workbook takes more than 512 MB or 20 seconds"),
        (made([["x" * 30_000] * 4]), "line 1 has more than 100,000 characters"),
    ],
)
def test_what_is_no_table_is_a_problem(body, said):
    answer = in_process.predict(body, EXCEL)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert said in answer.json["detail"]


@pytest.mark.parametrize("header", [[1, 2, 3], ["a", "b", "c"], [f"{number:x}" for number in range(16_384)]])
def test_a_sheet_without_the_fields_is_a_422(header):
    answer = in_process.predict(made([header, header]), EXCEL)
    assert answer.status == 422
    assert len(answer.json["errors"]) == 19
    assert "the table lacks this column" in answer.json["errors"][0]["message"]


def test_a_workbook_has_a_bound_and_says_so():
    body = made([["x"]])  # once: the second that it is made in is in it
    size = len(body)
    Table(io.BytesIO(body), limits=Limits(size, 512_000_000, 20)).close()
    with pytest.raises(TooMuch, match=f"can have {size - 1:,} bytes"):
        Table(io.BytesIO(body), limits=Limits(size - 1, 512_000_000, 20))


def test_a_workbook_that_takes_too_long_is_ended():
    body = of_formulas(400_000)
    started = time.monotonic()
    with pytest.raises(BadTable, match="takes more than 512 MB or 1 seconds"):
        Table(io.BytesIO(body), limits=Limits(10**7, 512_000_000, 1))
    assert time.monotonic() - started < 30


def test_a_bomb_harms_neither_the_service_nor_others(customer):
    bombs = [in_a_corner(), of_blanks(300_000_000)]
    assert max(map(len, bombs)) < 2_000_000
    with running([*GUNICORN, "--workers", "1"]) as service:
        [worker] = workers(service)
        for bomb in bombs:
            answer = service.predict(bomb, EXCEL)
            assert answer.status in (200, 400, 422), answer
            assert service.predict(customer).status == 200
        assert workers(service) == [worker]
        assert int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{worker}/status").read_text())[1]) < 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no limit of memory")
def test_a_process_is_held_to_its_memory():
    code = "from serving import limits; limits.hold_to(20, 300_000_000); bytearray({})"
    done = [run("-c", code.format(size)) for size in (100_000_000, 400_000_000)]
    assert [each.returncode for each in done] == [0, 1]
    assert done[1].stderr.endswith("MemoryError\n")
