"""Plans that campaign.py makes with a real service; tests/browser/test_campaign.py holds them to those of the page."""

import csv
import http.server
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest
from conftest import GUNICORN, ROOT, Running, run, running

from serving.campaign import BadCampaign
from serving.campaign.service import Service

KEY = "4d0fa1"


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running(GUNICORN, SERVING_API_KEYS=KEY) as started:
        yield started


@pytest.fixture
def customers(published: pd.DataFrame, tmp_path: Path) -> Path:
    """The real table's first thousand, with addresses made up."""
    frame = published.head(1000).copy()
    frame["email"] = [f"c{number}@example.com" for number in range(1000)]
    frame["Name"] = [f"Zoë {number}" for number in range(1000)]
    frame.to_csv(tmp_path / "customers.csv", index=False)
    return tmp_path / "customers.csv"


def plan(service: Running, table: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    output = table.with_name("campaign.csv")
    asked = [str(table), "--url", f"127.0.0.1:{service.port}", "--output", str(output), *words]
    done = run("campaign.py", "plan", *asked, **{"SERVING_API_KEY": KEY, **environment})
    assert "Traceback" not in done.stderr
    return done


def rows(table: Path) -> list[dict[str, str]]:
    with table.with_name("campaign.csv").open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def refused(done: subprocess.CompletedProcess, *said: str) -> None:
    """It has ended with one line that says why."""
    assert done.returncode != 0
    line = done.stderr.splitlines()[-1]
    assert line.startswith("campaign.py: ")
    for each in said:
        assert each in line


def scores(service: Running, table: Path) -> dict[str, float]:
    headers = {"Content-Type": "text/csv", "X-API-Key": KEY}
    answer = service.request("POST", "/predict", table.read_bytes(), headers).body.decode()
    return {row["customerID"]: float(row["churn_probability"]) for row in csv.DictReader(answer.splitlines())}


def test_it_tells_what_to_expect(service, customers):
    done = plan(service, customers, "--budget", "200")
    assert done.returncode == 0, done.stderr
    found = rows(customers)
    probabilities = sorted(scores(service, customers).values(), reverse=True)[:200]
    assert [float(row["probability"]) for row in found] == probabilities
    training = service.get("/model").json["training"]
    tested = [each for each in training["thresholds"] if each["threshold"] <= probabilities[-1]][-1]
    said = done.stdout.splitlines()
    assert said[0] == (
        f"200 customers chosen, from a probability of {probabilities[-1]:.3f} on: "
        "180 to be written to, 20 in the control group"
    )
    assert said[1].startswith(f"about {180 * tested['positives'] / tested['chosen']:.0f} leavers get a letter")
    # The standard error of a difference of two shares: 2.8 of them are told from chance four times of five.
    mean = sum(probabilities) / 200
    least = 280 * (mean * (1 - mean) * (1 / 180 + 1 / 20)) ** 0.5
    assert said[2].startswith(f"with groups of this size a difference of less than {least:.0f} points")
    assert [row["group"] for row in found].count("control") == 20


def test_the_same_seed_gives_the_same_plan_and_another_one_another_control_group(service, customers):
    groups = []
    for seed in ("1", "1", "2"):
        assert plan(service, customers, "--threshold", "0.6", "--seed", seed).returncode == 0
        groups.append({row["id"] for row in rows(customers) if row["group"] == "control"})
    assert groups[0] == groups[1]
    assert len(groups[0]) == len(groups[2])
    assert len(groups[0] & groups[2]) < len(groups[0]) / 2


def test_by_value_and_cost_those_are_chosen_who_pay(service, customers):
    done = plan(service, customers, "--value", "100", "--cost", "62.5", "--control", "0")
    assert done.returncode == 0
    worth = {name: score for name, score in scores(service, customers).items() if 100 * score > 62.5}
    assert {row["id"] for row in rows(customers)} == {*worth}
    gain = sum(100 * score - 62.5 for score in worth.values())
    assert f"expected gain {gain:,.2f}" in done.stdout
    assert "without a control group nobody will know" in done.stdout


def test_a_letter_that_would_just_pay_for_itself_is_not_sent(service, customers):
    score = sorted(scores(service, customers).values())[-5]
    done = plan(service, customers, "--value", "1", "--cost", repr(score), "--control", "0")
    assert done.returncode == 0
    assert len(rows(customers)) == 4


def test_who_is_left_out_is_counted_and_listed(service, customers):
    frame = pd.read_csv(customers, dtype=str)
    frame.loc[0, "Contract"] = "weekly"
    frame.loc[1, "email"] = None
    frame.loc[2, "email"] = "=nobody"
    frame.loc[3, "email"] = "C4@example.com"
    frame.loc[6, "customerID"] = "0005-MADEUP"
    frame.to_csv(customers, index=False)
    done = plan(service, customers, "--budget", "2000", "--control", "0")
    assert done.returncode == 0
    expected = (
        "5 customers left out (1 invalid, 1 no address, 1 not a usable address, 1 the same address, 1 the same id)"
    )
    assert expected in done.stdout
    assert len(rows(customers)) == 995
    with (customers.with_name("campaign-left-out.csv")).open(newline="", encoding="utf-8") as file:
        listed = [*csv.reader(file)]
    assert listed[0] == ["row", "id", "why"]
    assert listed[1][:2] == ["2", "0000-MADEUP"]
    assert listed[1][2].startswith('invalid: contract: the text "weekly"')
    assert listed[2:] == [
        ["3", "0001-MADEUP", "no address"],
        ["4", "0002-MADEUP", "not a usable address: =nobody"],
        ["6", "0004-MADEUP", "the same address as row 5"],
        ["8", "0005-MADEUP", "the same id as row 7"],
    ]


def test_where_nobody_can_be_written_to_it_says_why(service, customers):
    frame = pd.read_csv(customers, dtype=str).assign(email="none")
    frame.loc[0, "email"] = None
    frame.to_csv(customers, index=False)
    said = "nobody in the table can be written to (1 no address, 999 not a usable address)"
    refused(plan(service, customers, "--budget", "9"), said, "campaign-left-out.csv lists them")
    assert len(customers.with_name("campaign-left-out.csv").read_text().splitlines()) == 1001
    assert not customers.with_name("campaign.csv").exists()


def test_what_no_group_of_this_size_could_tell_is_not_promised(service, customers):
    done = plan(service, customers, "--budget", "4", "--control", "0.25")
    assert "3 to be written to, 1 in the control group" in done.stdout
    assert "points" not in done.stdout


def test_the_words_are_those_of_the_model(tmp_path):
    patients = tmp_path / "patients.csv"
    lines = [
        f"P{n},{30 + n % 50},{n % 7},{'yes' if n % 50 + n % 7 > 30 else 'no'},p{n}@example.com" for n in range(400)
    ]
    patients.write_text("\n".join(["Patient,Age,Ward,Stroke,Mail", *lines]))
    model = tmp_path / "stroke.bin"
    words = ["--target", "stroke", "--id", "patient", "--drop", "mail", "--output", str(model)]
    assert run("train.py", str(patients), *words).returncode == 0
    with running(GUNICORN, SERVING_MODEL=str(model)) as service:
        done = plan(service, patients, "--budget", "50")
        assert done.returncode == 0, done.stderr
        assert "50 records chosen" in done.stdout
        assert "records with stroke get a letter" in done.stdout
        [first, *_] = rows(patients)
        assert [*first] == ["id", "email", "probability", "reasons", "group"]
        assert first["id"].startswith("P")
        assert "Age: " in first["reasons"]


def test_a_model_without_reasons_has_a_plan_without_them(pair, customers, tmp_path):
    vectorizer, classifier = pickle.loads(pickle.dumps(pair))
    del classifier.serving_figures_
    (tmp_path / "other.bin").write_bytes(pickle.dumps((vectorizer, classifier)))
    with running(GUNICORN, SERVING_MODEL=str(tmp_path / "other.bin")) as service:
        done = plan(service, customers, "--budget", "20")
        assert done.returncode == 0, done.stderr
        assert "how many leavers get a letter is not known" in done.stdout
        assert {row["reasons"] for row in rows(customers)} == {""}


# What cannot be planned


def test_without_a_service_or_a_key_it_says_so(service, customers, tmp_path):
    asked = [str(customers), "--budget", "9", "--output", str(tmp_path / "campaign.csv"), "--url"]
    refused(
        run("campaign.py", "plan", *asked, "127.0.0.1:1"),
        "http://127.0.0.1:1 cannot be reached",
        "does the service run?",
    )
    long = tmp_path / "long.csv"
    header, *lines = customers.read_text().splitlines()
    long.write_text("\n".join([header, *20 * lines]))  # refused while it is being sent
    for table in (customers, long):
        for key in ("", "wrong", "Zoë"):
            refused(plan(service, table, "--budget", "9", SERVING_API_KEY=key), "answered 401", "--api-key")
    assert not (tmp_path / "campaign.csv").exists()


@pytest.mark.parametrize(
    ("edit", "words", "said"),
    [
        (
            lambda frame: frame.drop(columns="email"),
            [],
            "no column of addresses: name it with --email COLUMN (it has customerID",
        ),
        (lambda frame: frame, ["--email", "Contact"], "lacks the column 'Contact'"),
        (lambda frame: frame.drop(columns="tenure"), [], "tenure: the table lacks this column"),
        (lambda frame: frame, ["--threshold", "0.99"], "nobody is chosen: the largest probability is 0.8"),
    ],
)
def test_a_table_that_does_not_do_is_told(service, customers, edit, words, said):
    edit(pd.read_csv(customers, dtype=str)).to_csv(customers, index=False)
    whom = [] if "--threshold" in words else ["--budget", "9"]
    refused(plan(service, customers, *whom, *words), said)
    assert {file.name for file in customers.parent.iterdir()} == {"customers.csv"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "one of --budget N, --threshold P, or --value MONEY --cost MONEY"),
        (["--budget", "9", "--threshold", "0.5"], "one of --budget N"),
        (["--value", "9"], "one of --budget N"),
        (["--budget", "0"], "0 is not a whole number from 1"),
        (["--threshold", "1.5"], "1.5 is not a number from 0 to 1"),
        (["--threshold", "nan"], "nan is not a number from 0 to 1"),
        (["--value", "1e308", "--cost", "1"], "1e308 is not a number from 0 to 1e+12"),
        (["--value", "inf", "--cost", "1"], "inf is not a number from 0"),
    ],
)
def test_options_that_cannot_be_used_are_told(tmp_path, words, said):
    done = run("campaign.py", "plan", str(tmp_path / "customers.csv"), *words)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


def test_a_plan_whose_letters_were_sent_is_not_replaced(service, customers, tmp_path):
    assert plan(service, customers, "--budget", "9").returncode == 0
    before = (tmp_path / "campaign.csv").read_bytes()
    (tmp_path / "campaign.sqlite").touch()
    refused(plan(service, customers, "--budget", "10"), "letters of", "were sent", "--output")
    assert (tmp_path / "campaign.csv").read_bytes() == before


def test_a_plan_that_cannot_be_written_leaves_the_old_one(service, customers, tmp_path):
    assert plan(service, customers, "--budget", "9").returncode == 0
    before = (tmp_path / "campaign.csv").read_bytes()
    frame = pd.read_csv(customers, dtype=str)
    frame.assign(Name="x" * 200).to_csv(customers, index=False)
    words = ["plan", str(customers), "--url", service.url, "--output", str(tmp_path / "campaign.csv")]
    limit = ["sh", "-c", 'ulimit -f 200; trap "" XFSZ; exec "$@"', "sh", sys.executable]  # of 512 bytes each
    done = subprocess.run(
        [*limit, "campaign.py", *words, "--budget", "900"],
        cwd=ROOT,
        env={**os.environ, "SERVING_API_KEY": KEY, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    refused(done, "campaign.csv: cannot be written")
    assert (tmp_path / "campaign.csv").read_bytes() == before
    assert not [*tmp_path.glob(".campaign*")]


def test_what_a_plan_was_made_with_is_kept_beside_it(service, customers, tmp_path):
    plan(service, customers, "--budget", "9", "--seed", "3")
    made = json.loads((tmp_path / "campaign.json").read_text())
    assert made["asked"]["seed"] == 3
    assert made["id"] == "customerID"
    model = service.get("/model").json
    assert made["served"]["sha256"] == model["sha256"]
    assert made["served"]["training"] == model["training"]
    assert KEY not in (tmp_path / "campaign.json").read_text()


def test_a_column_called_id_is_the_id_where_the_models_is_not_there(service, customers):
    frame = pd.read_csv(customers, dtype=str)
    frame.rename(columns={"customerID": "ID"}).to_csv(customers, index=False)
    assert plan(service, customers, "--budget", "5").returncode == 0
    assert all(row["id"].endswith("-MADEUP") for row in rows(customers))


def test_the_plan_does_not_replace_the_table(service, customers):
    before = customers.read_bytes()
    words = ["plan", str(customers), "--url", service.url, "--budget", "5", "--output"]
    done = run("campaign.py", *words, str(customers), SERVING_API_KEY=KEY)
    refused(done, "is the table itself")
    for name in ("spring.json", "spring-left-out.csv"):
        other = customers.rename(customers.with_name(name))
        refused(
            run("campaign.py", *[words[0], str(other), *words[2:]], str(customers.with_name("spring.csv"))), "itself"
        )
        customers = other
    assert customers.read_bytes() == before
    assert "does not end in .csv" in run("campaign.py", *words, "campaign.json").stderr


def test_a_json_that_is_no_plans_is_not_replaced(service, customers, tmp_path):
    (tmp_path / "campaign.json").write_text('{"name": "package"}')
    refused(plan(service, customers, "--budget", "5"), "campaign.json is not what plan has written")
    assert (tmp_path / "campaign.json").read_text() == '{"name": "package"}'
    assert not (tmp_path / "campaign.csv").exists()


class Strange(http.server.BaseHTTPRequestHandler):
    """What answers in the place of a service: `answers` by path, as a status, a type and a body; and the `models`."""

    answers: ClassVar[dict[str, tuple[int, str, bytes]]] = {}
    keys: ClassVar[list[str | None]] = []
    models: ClassVar[dict[str, str]] = {}

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.keys.append(self.headers.get("X-API-Key"))
        path = self.path.partition("?")[0]
        status, kind, body = self.answers[path]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Location", "/elsewhere")
        if model := self.models.get(path):
            self.send_header("X-Model", model)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def strange() -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Strange) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Strange.keys.clear()
        Strange.models.clear()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("model", "predicted", "said"),
    [
        ((200, "text/html", b"<html>"), None, "answered, and not as this service does"),
        ((200, "application/json", b"[]"), None, "answered, and not as this service does"),
        ((500, "text/html", b"oops"), None, "answered 500, and not as this service does"),
        ((500, "application/json", b"[1]"), None, "answered 500, and not as this service does"),
        ((302, "text/html", b""), None, "answered 302"),
        (None, (200, "text/csv", b""), "answered with no scored table"),
        (None, (200, "text/html", b"<html><body>"), "answered with no scored table"),
        (None, (200, "text/csv", b'email,p,c,note,error\na@b.de,"0.5'), "answered with no scored table"),
        (None, (200, "text/csv", b"email,p,c,note,error\na@b.de,0.5\n"), "answered with no scored table"),
        (None, (200, "text/csv", b"email,p,c,note,error\na@b.de,much,true,,\n"), "answered with no scored table"),
    ],
)
def test_what_is_no_service_is_told(service, strange, customers, model, predicted, said):
    usual = (200, "application/json", service.get("/model").body)
    Strange.answers = {"/model": model or usual, "/predict": predicted or (404, "text/html", b"")}
    url = f"http://127.0.0.1:{strange.server_port}"
    done = run("campaign.py", "plan", str(customers), "--url", url, "--budget", "5", SERVING_API_KEY=KEY)
    refused(done, said)
    assert len(done.stderr.splitlines()) == 1
    if model and model[0] == 302:
        assert Strange.keys == [KEY]


@pytest.mark.parametrize("changes", [False, True])
def test_a_plan_is_of_one_model(service, strange, customers, changes):
    Strange.answers = {
        "/model": (200, "application/json", service.get("/model").body),
        "/predict": (200, "text/csv", b"email,churn_probability,churn,note,error\na@b.de,0.5,true,,\n"),
    }
    Strange.models |= {"/model": "one", "/predict": "another" if changes else "one"}
    done = plan(Running(strange.server_port, None, None), customers, "--budget", "5")
    if changes:
        refused(done, "has another model than a moment ago: plan again")
    else:
        assert done.returncode == 0, done.stderr


def test_an_address_that_is_the_id_is_no_formula_in_the_list_of_those_left_out(service, customers):
    frame = pd.read_csv(customers, dtype=str).drop(columns="customerID").rename(columns={"email": "E-Mail"})
    frame.loc[[0, 1], "E-Mail"] = ['=HYPERLINK("http://evil.example")', "@SUM(1)"]
    frame.to_csv(customers, index=False)
    assert plan(service, customers, "--budget", "5").returncode == 0
    with customers.with_name("campaign-left-out.csv").open(newline="", encoding="utf-8") as file:
        assert [row["id"][:2] for row in csv.DictReader(file)] == ["'=", "'@"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url", "http://user:s3cret@127.0.0.1:1"], "--url is not HOST:PORT"),
        (["--url", "http://[::1"], "is no address"),
        (["--url", "http://a..b"], "is no address"),
        (["--url", f"http://{'a' * 64}.example"], "is no address"),
        (["--url", "ftp://127.0.0.1"], "--url is not HOST:PORT"),
        (["--api-key", "s3cret\nmore"], "the API key has more than one line"),
    ],
)
def test_secrets_are_not_printed_and_addresses_must_be_some(customers, words, said):
    done = run("campaign.py", "plan", str(customers), "--budget", "5", *words)
    refused(done, said)
    assert "s3cret" not in done.stderr


def test_a_service_that_says_nothing_is_not_waited_for_as_long_as_for_a_table(monkeypatch):
    monkeypatch.setattr("serving.campaign.service.ANSWERED", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        strange = Service(f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(BadCampaign, match="cannot be reached"):
            strange.served()


@pytest.mark.parametrize("path", ["/predict", "/predict/", "/", ""])
def test_the_service_may_be_named_by_any_of_its_addresses(service, customers, path):
    words = ["plan", str(customers), "--url", service.url + path, "--budget", "5", "--api-key", KEY]
    assert run("campaign.py", *words, "--output", str(customers.with_name("campaign.csv"))).returncode == 0


def test_a_probability_that_is_the_threshold_is_enough(service, customers):
    cut = sorted(scores(service, customers).values(), reverse=True)[49]
    assert plan(service, customers, "--threshold", repr(cut)).returncode == 0
    found = rows(customers)
    assert len(found) == 50
    assert float(found[-1]["probability"]) == cut
    assert all(row["reasons"] for row in found)
