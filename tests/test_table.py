"""CSV in, CSV out: the table comes back as it was, with its scores."""

import csv
import io
import json
import random
import re
import socket
import tempfile
import tracemalloc
from pathlib import Path

import pytest
import requests
from conftest import GUNICORN, MODEL_FILE, InProcess, Running, Service, read, running, wait_until

import predict
from serving import spool
from serving.errors import BadTable
from serving.prediction import Predictor
from serving.tables import formulas, reader, text
from serving.tables import scored as table
from serving.tables.rows import RowReader
from serving.training.telecom import SCHEMA
from serving.web.metrics import meter

CSV = "text/csv"
in_process = InProcess(predict.app.test_client())

ADDED = ["churn_probability", "churn", "note", "error"]


@pytest.fixture
def rows(published) -> list[list[str]]:
    """The real table's header and first five customers, as published."""
    return [list(published.columns), *published.head(5).to_numpy().tolist()]


def written(rows, delimiter=",", line_end="\n") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=line_end).writerows(rows)
    return text.getvalue().encode()


def scored(service: Service, body: bytes, delimiter=",") -> list[list[str]]:
    answer = service.predict(body, CSV)
    assert answer.status == 200, answer
    assert answer.headers["content-type"].startswith("text/csv")
    assert int(answer.headers["content-length"]) == len(answer.body)
    return list(csv.reader(io.StringIO(answer.body.decode(), newline=""), delimiter=delimiter))


def test_the_real_table_comes_back_with_scikit_learns_scores(service, published_csv, published, pair):
    header, *answers = scored(service, published_csv.read_bytes())
    assert header == [*published.columns, *ADDED]
    assert len(answers) == 7043
    assert [row[:-4] for row in answers] == published.to_numpy().tolist()
    customers = [
        {
            name.lower(): text.lower().replace(" ", "_")
            for name, text in zip(published.columns, row, strict=True)
            if name not in ("customerID", "Churn")
        }
        for row in published.to_numpy().tolist()
    ]
    for customer in customers:
        customer["totalcharges"] = customer["totalcharges"].replace("_", "0")
        for number in ("seniorcitizen", "tenure", "monthlycharges", "totalcharges"):
            customer[number] = float(customer[number])
    vectorizer, classifier = pair
    expected = classifier.predict_proba(vectorizer.transform(customers))[:, 1]
    assert max(abs(float(row[-4]) - p) for row, p in zip(answers, expected, strict=True)) <= 1e-12
    assert [row[-3] for row in answers] == ["true" if float(row[-4]) >= 0.5 else "false" for row in answers]
    assert {row[-2] + row[-1] for row in answers} == {""}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_answer_is_written_as_the_table_was(service, rows, delimiter, line_end, mark):
    body = mark.encode() + written(rows, delimiter, line_end)
    answer = service.predict(body, CSV).body.decode()
    assert answer.startswith(mark + delimiter.join(rows[0]))
    assert answer.count(line_end) == answer.count("\n") == 6
    plain = scored(service, written(rows))
    assert list(csv.reader(io.StringIO(answer.removeprefix(mark), newline=""), delimiter=delimiter)) == plain


def test_canonical_and_raw_tables_score_the_same(service, rows):
    canonical = [[cell.lower().replace(" ", "_") for cell in row] for row in rows]
    assert [row[-4:-2] for row in scored(service, written(canonical))[1:]] == [
        row[-4:-2] for row in scored(service, written(rows))[1:]
    ]


def test_columns_may_come_in_any_order_and_with_others(service, rows):
    turned = [[*row[::-1], f"note {number}, with a comma and\na line"] for number, row in enumerate(rows)]
    answers = scored(service, written(turned))
    assert [row[:-4] for row in answers] == turned
    assert [row[-4] for row in answers[1:]] == [row[-4] for row in scored(service, written(rows))[1:]]


def test_a_bad_row_keeps_its_place_and_the_others_are_scored(service, rows):
    good = scored(service, written(rows))
    contract, tenure = rows[0].index("Contract"), rows[0].index("tenure")
    rows[2][contract], rows[2][tenure] = "Weekly", "two"
    answers = scored(service, written(rows))
    assert answers[1] == good[1]
    assert answers[3:] == good[3:]
    assert answers[2][:-4] == rows[2]
    assert answers[2][-4:-2] == ["", ""]
    assert 'contract: the text "Weekly" is not one of the allowed values' in answers[2][-1]
    assert 'tenure: the text "two" is not a whole number' in answers[2][-1]


@pytest.mark.parametrize("cells", [3, 20, 22])
def test_a_row_of_another_width_keeps_its_cells(service, rows, cells):
    rows[2] = (rows[2] + ["more"])[:cells]
    answers = scored(service, written(rows))
    assert {len(row) for row in answers} == {25}
    assert f"the row has {cells} cells, and the header 21" in answers[2][-1]
    assert ",".join(answers[2][:-4]).rstrip(",") == ",".join(rows[2])
    assert answers[3][-4]


def test_blank_lines_are_no_rows(service, rows):
    body = written(rows).replace(b"\n", b"\n\n")
    assert scored(service, body) == scored(service, written(rows))


@pytest.mark.parametrize("block", [3, 4, 5, 100, 1009])
def test_it_does_not_matter_where_the_upload_is_cut(rows, monkeypatch, block):
    rows = [[*row, "Größe 1\u2028\x0b", f'a "note",\r\nover\n{number} lines\r'] for number, row in enumerate(rows)]
    body = b"\xef\xbb\xbf" + written(rows, line_end="\r\n").replace(b"\r\nMale", b"\r\n\r\n\n\rMale").rstrip()
    in_process = InProcess(predict.app.test_client())
    whole = in_process.predict(body, CSV)
    assert [row[:-4] for row in scored(in_process, body.removeprefix(b"\xef\xbb\xbf"))] == rows
    monkeypatch.setattr(reader, "BLOCK", block)
    assert in_process.predict(body, CSV).body == whole.body


@pytest.mark.parametrize("letter", ["x", "ü", "😀"])
@pytest.mark.parametrize("line_end", ["", "\n", "\r\n"])
def test_the_longest_line_is_scored_and_a_longer_one_is_not(rows, letter, line_end):
    in_process = InProcess(predict.app.test_client())
    start = written([[*row, "note"] for row in rows]).decode() + ",".join(rows[1]) + ","
    longest = start + letter * (text.LONGEST_LINE - len(start.splitlines()[-1]) - len(line_end))
    assert len(scored(in_process, (longest + line_end).encode())) == 7
    refused = in_process.predict((longest + letter + line_end).encode(), CSV)
    assert (refused.status, "line 7 has more than 100,000 characters" in refused.json["detail"]) == (400, True)


def test_a_line_without_an_end_is_not_read_on(rows):
    class Endless(io.RawIOBase):
        read_bytes = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            buffer[:] = b"x" * len(buffer)
            self.read_bytes += len(buffer)
            assert self.read_bytes < 1_000_000
            return len(buffer)

    with pytest.raises(BadTable, match="line 1 has more than"):
        table.score(Endless(), Predictor(read(MODEL_FILE)), None, meter)


def test_a_table_without_rows_comes_back_without_rows(service, rows):
    assert scored(service, written(rows[:1])) == [[*rows[0], *ADDED]]


# As a cell, and where another program may see one begin: at another delimiter, or after a line's end in the cell.
FORMULAS = {
    "=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0",
    "+1+2": "'+1+2",
    "-1+2": "'-1+2",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "\t'=1",
    ' "=1"': ' "\'=1"',
    "x;=HYPERLINK(1)": "x;'=HYPERLINK(1)",
    "-1,5+cmd|' /C calc'!A0": "'-1,5+cmd|' /C calc'!A0",
    "-1\n&HYPERLINK(1)": "'-1\n&HYPERLINK(1)",
    "x;-5": "x;'-5",
    "x|@y\t+z,-a": "x|'@y\t'+z,'-a",
    "a\n=b\r\n=c": "a\n'=b\r\n'=c",
    "a\u2028=b": "a\u2028'=b",
    "\uff1d1+1": "'\uff1d1+1",
    "x;\uff20y": "x;'\uff20y",
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_comes_back_inert(service, rows, formula):
    rows[0].append(formula)
    for row in rows[1:]:
        row.append(formula)
    rows[2][rows[0].index("Contract")] = formula
    answers = scored(service, written(rows))
    assert [row[21] for row in answers] == [FORMULAS[formula]] * 6
    assert answers[2][rows[0].index("Contract")] == FORMULAS[formula]
    # The error quotes the cell.
    assert not re.search(r'(^|[,;\t|\n])[ "]*[=+@\uff1d-]', answers[2][-1])


@pytest.mark.parametrize(
    "harmless",
    [
        *["-5", "+5", "-0.5", "-1e3", "7590-VHVEG", "a - b", "x=1", "MAX=1", "a@b.org", "-1.234,5", "-5%", "--"],
        *["-$5", "-5 €", "-.5"],
    ],
)
def test_what_is_no_formula_stays_as_it_is(rows, harmless):
    rows[1][0] = harmless
    assert scored(in_process, written(rows))[1][0] == harmless


@pytest.mark.parametrize("cell", ["-" + "5." * 49_000, "-5" + " " * 98_000, "-" * 98_000, "(" * 49_000 + ")" * 49_000])
def test_a_long_cell_that_is_nearly_a_number_takes_no_time(rows, cell):
    rows[1][0] = f"{cell}x"
    assert scored(in_process, written(rows))[1][0] in (f"{cell}x", f"'{cell}x")


def test_of_what_was_made_inert_the_original_is_known():
    chance = random.Random(3)
    for _ in range(20_000):
        text = "".join(chance.choices("=-+@\uff1d, ;\n\"'5a", k=chance.randrange(8)))
        cell = formulas.inert(text)
        assert formulas.inert(formulas.original(cell)) == cell
        assert formulas.original(cell) == text or "'" in text


def test_a_header_that_lacks_fields_is_a_422_that_names_them(service, rows):
    tenure, contract = rows[0].index("tenure"), rows[0].index("Contract")
    rows[0][tenure], rows[0][contract] = "tenur", "SeniorCitizen"
    answer = service.predict(written(rows), CSV)
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    errors = {error["field"]: error["message"] for error in answer.json["errors"]}
    assert errors.keys() == {"seniorcitizen", "contract", "tenure"}
    assert 'is "tenur" a misspelling of it?' in errors["tenure"]
    assert "more than once" in errors["seniorcitizen"]
    assert "lacks this column" in errors["contract"]
    assert "header" in answer.json["detail"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "it is empty"),
        (b"\n\n", 400, "it is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", 400, "it is no text"),
        (b"x" * 200_000, 400, "line 1 has more than 100,000 characters"),
        (b'a,"' + b"x\n" * 100_000, 400, "the row with quotes that begins in line 1 has more than 100,000 characters"),
    ],
)
def test_what_is_no_table_is_a_problem(service, body, status, said):
    answer = service.predict(body, CSV)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.json["detail"]
    assert service.get("/health").status == 200


def test_a_table_that_is_utf8_at_first_and_not_later_is_a_400_that_says_where(service, rows):
    rows[1][0], rows[2][0] = "Zoë", "Žižek"
    body = written(rows) * 2000 + "Größe\n".encode("windows-1252")
    assert "line 12001 is not UTF-8, as the lines before it are" in service.predict(body, CSV).json["detail"]


def test_reasons_are_a_column(service, rows):
    rows[3][rows[0].index("Contract")] = "Weekly"
    answer = service.request("POST", "/predict?explain=true", written(rows), {"Content-Type": CSV})
    header, *answers = list(csv.reader(io.StringIO(answer.body.decode(), newline="")))
    assert header[-5:] == ["churn_probability", "churn", "reasons", "note", "error"]
    assert answers[2][-5:-1] == ["", "", "", ""]
    customer = {name.lower(): cell for name, cell in zip(rows[0], rows[1], strict=True)}
    for number in ("seniorcitizen", "tenure", "monthlycharges", "totalcharges"):
        customer[number] = float(customer[number])
    alone = service.request(
        "POST", "/predict?explain=true", json.dumps(customer).encode(), {"Content-Type": "application/json"}
    )
    expected = "; ".join(f"{r['field']}={r['value']} {r['share']:+}" for r in alone.json["reasons"])
    assert answers[0][-3] == expected


def test_the_strongest_reasons_for_a_yes_can_be_had_in_words_and_for_some_rows_only(service, rows):
    probabilities = [float(row[-4]) for row in scored(service, written(rows))[1:]]
    least = sorted(probabilities)[1]
    path = f"/predict?explain=words&from={least!r}"
    answer = service.request("POST", path, written(rows), {"Content-Type": CSV})
    found = [row[-3] for row in csv.reader(io.StringIO(answer.body.decode(), newline=""))][1:]
    assert [bool(cell) for cell in found] == [probability >= least for probability in probabilities]
    assert found[0] == "Tenure, in months: 1; Contract: Month-to-month; Monthly charges: 29.85"
    for number in ("2", "-0.1", "nan", "much", ""):
        answer = service.request("POST", f"/predict?explain=words&from={number}", written(rows), {"Content-Type": CSV})
        assert answer.status == 400
        assert "from is" in answer.json["detail"]


@pytest.mark.parametrize("start", ["", "\n", "\r\n\r\n"])
def test_the_delimiter_is_that_of_the_fields_and_not_of_what_a_name_has_in_it(rows, start):
    plain = scored(in_process, written(rows))
    rows[0][0], rows[0][-1] = "an id, a number,\nor, both", "churn; or, not"
    for delimiter in ";\t,":
        answers = scored(in_process, start.encode() + written(rows, delimiter), delimiter)
        assert [row[-4:] for row in answers] == [row[-4:] for row in plain]


def test_a_whole_number_may_be_written_as_pandas_writes_it_where_a_column_has_blanks(rows):
    plain = scored(in_process, written(rows))
    for name in ("SeniorCitizen", "tenure"):
        for row in rows[1:]:
            row[rows[0].index(name)] += ".0"
    assert [row[-4:] for row in scored(in_process, written(rows))] == [row[-4:] for row in plain]


def test_a_misspelt_column_is_suggested_as_the_header_has_it(rows):
    rows[0][rows[0].index("MonthlyCharges")] = "MontlyCharges"
    [error] = in_process.predict(written(rows), CSV).json["errors"]
    assert 'is "montlycharges" a misspelling of it?' in error["message"]


def test_a_quote_that_is_never_closed_is_no_row(rows):
    rows[0].append("note")
    lines = [",".join([*row, "x"]) for row in rows[1:]]
    lines[2] = lines[2][:-1] + '"oops'
    answer = in_process.predict("\n".join([",".join(rows[0]), *lines]).encode(), CSV)
    assert answer.status == 400
    assert "the row with quotes that begins in line 4 has a quote that is never closed" in answer.json["detail"]
    lines[2] = lines[2].replace('"oops', '5" wide')  # which is none
    assert len(scored(in_process, "\n".join([",".join(rows[0]), *lines]).encode())) == 6


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_return_inside_a_cell_comes_back_inside_it(rows, line_end):
    rows = [[*row, "note\rand more"] for row in rows]
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=line_end).writerows(rows)
    answer = in_process.predict(text.getvalue().encode(), CSV)
    assert [row[:-4] for row in csv.reader(io.StringIO(answer.body.decode(), newline=""))] == rows
    again = scored(in_process, answer.body)
    assert [row[:-8] for row in again] == rows


def test_a_cell_that_takes_long_to_look_at_holds_up_nobody(gunicorn, rows):
    # A worker that hangs for 30 seconds is ended, and then there is no answer.
    rows[0].append("note")
    for row in rows[1:]:
        row.append("\x0b" * 80_000 + "x =1")
    assert len(scored(gunicorn, written(rows))) == 6
    for row in rows[1:]:
        row[rows[0].index("MonthlyCharges")], row[-1] = "1" * 90_000 + "x", ""
    assert "is not a number" in scored(gunicorn, written(rows))[1][-1]


def test_the_texts_that_are_remembered_are_few_and_short(rows):
    read_rows = RowReader(SCHEMA, rows[0])
    contract = rows[0].index("Contract")

    def read(numbers) -> None:
        for number in numbers:  # each in a spelling of its own, as long as one may be
            spelt = "".join(letter.upper() if number >> at & 1 else letter for at, letter in enumerate("monthtomonth"))
            cell = f"{spelt[:5]}-{spelt[5:7]}-{spelt[7:]}".ljust(990)
            *_, wrong = read_rows([[*rows[1][:contract], cell, *rows[1][contract + 1 :]]])
            assert not wrong

    read(range(10))
    tracemalloc.start()
    read(range(10, 4000))
    assert tracemalloc.get_traced_memory()[0] < 500_000
    tracemalloc.stop()


@pytest.fixture(scope="module")
def gunicorn():
    with running([*GUNICORN, "--workers", "1"]) as service:
        yield service


def test_a_refused_upload_is_read_to_its_end(gunicorn):
    # Or a client that sends all before it reads would see a broken pipe instead of the answer.
    answer = requests.post(
        f"{gunicorn.url}/predict", data=b"a,b\n" + b"1,2\n" * 10_000_000, headers={"Content-Type": CSV}, timeout=60
    )
    assert answer.status_code == 422
    assert "header" in answer.json()["detail"]


def chunked(body: bytes):
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


def test_an_upload_of_unknown_length_is_scored(gunicorn, published_csv):
    answer = requests.post(
        f"{gunicorn.url}/predict", data=chunked(published_csv.read_bytes()), headers={"Content-Type": CSV}, timeout=60
    )
    assert answer.status_code == 200
    assert answer.content.count(b"\n") == 7044


def open_files(service: Running, folder: Path) -> list[str]:
    """The files in this folder that the service has open, whether they still have a name or not."""
    links = [link for pid in service.pids() for link in Path(f"/proc/{pid}/fd").iterdir()]
    targets = [str(link.readlink()) for link in links if link.is_symlink()]
    return [target for target in targets if target.startswith(str(folder))]


def send(service: Service, head: bytes, body: bytes) -> None:
    """Send some bytes, and go away."""
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n" + head + b"\r\n" + body)


@pytest.mark.parametrize("head", [b"Content-Length: 100000000\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_an_upload_that_breaks_off_leaves_no_file_and_no_trace(published_csv, tmp_path, head):
    body = published_csv.read_bytes() * 10  # more than is kept in memory
    if b"chunked" in head:
        body = f"{len(body):x}\r\n".encode() + body + b"\r\n100\r\n"
    with running([*GUNICORN, "--workers", "1"], TMPDIR=str(tmp_path)) as service:
        for _ in range(3):
            send(service, head, body)
        assert service.get("/health").status == 200
        wait_until(lambda: not open_files(service, tmp_path))
        assert list(tmp_path.iterdir()) == []
        assert "Traceback" not in service.log()


def test_a_client_that_does_not_fetch_the_answer_leaves_no_file(published_csv, tmp_path):
    body = published_csv.read_bytes() * 10
    with running([*GUNICORN, "--workers", "1"], TMPDIR=str(tmp_path)) as service:
        send(service, f"Content-Length: {len(body)}\r\n".encode(), body)
        assert service.get("/health").status == 200
        wait_until(lambda: not open_files(service, tmp_path))
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_no_file(rows, monkeypatch):
    class FullDisk(tempfile.SpooledTemporaryFile):
        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "file", FullDisk)
    answer = InProcess(predict.app.test_client()).predict(written(rows), CSV)
    assert answer.status == 507
    assert "disk" in answer.json["detail"]
