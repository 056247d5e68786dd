"""Letters over a real SMTP server in a process of its own: each once, whatever happens."""

import contextlib
import csv
import email
import email.policy
import getpass
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from unittest import mock

import pytest
import trustme
from conftest import GUNICORN, ROOT, free_port, run, running, wait_until

import campaign
from serving.campaign import BadCampaign, letters
from serving.campaign.letters import Person
from serving.campaign.outbox import REFUSED, SENDING, SENT, WAITING, Outbox

TEMPLATE = """\
Subject: {discount} % off for you, {first name}

Dear {First name},

you are {id} {{here}}: {reasons}.
Yours, Zoë
"""


class Inbox:
    """What a server has taken, and the server."""

    def __init__(self, folder: Path, *options: str):
        self.folder, self.port = folder, free_port()
        self.options = options
        self.url = f"smtp://127.0.0.1:{self.port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        words = [sys.executable, str(ROOT / "tests" / "smtp_server.py"), str(self.port), str(self.folder)]
        self._process = subprocess.Popen([*words, *self.options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def messages(self) -> list[EmailMessage]:
        return messages(self.folder)

    def addresses(self) -> list[str]:
        return [message["X-To"] for message in self.messages()]

    def __len__(self) -> int:
        return len(os.listdir(self.folder))  # noqa: PTH208 (asked often)


def messages(folder: Path) -> list[EmailMessage]:
    """The messages in a folder's files, in their order."""
    files = sorted(folder.iterdir())
    return [email.message_from_bytes(file.read_bytes(), policy=email.policy.SMTP) for file in files]


@contextlib.contextmanager
def server(folder: Path, *options: str) -> Iterator[Inbox]:
    folder.mkdir()
    inbox = Inbox(folder, *options)
    inbox.start()
    try:
        yield inbox
    finally:
        inbox.kill()


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    with server(tmp_path / "inbox") as started:
        yield started


def planned(folder: Path, *addresses: str, control: int = 0, **more: str) -> Path:
    """A plan of people with these addresses, and some in the control group."""
    plan = folder / "campaign.csv"
    with plan.open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(["id", "email", "probability", "reasons", "group", "First name", *more])
        for number, address in enumerate([*addresses, *(f"control{number}@example.com" for number in range(control))]):
            group = "discount" if number < len(addresses) else "control"
            write([f"A{number}", address, "0.75", "Contract: Month-to-month", group, f"Zoë {number}", *more.values()])
    (folder / "mail.txt").write_text(TEMPLATE)
    return plan


def command(plan: Path, *words: str) -> list[str]:
    template = plan.with_name("mail.txt")
    return [str(ROOT / "campaign.py"), "send", str(plan), "--template", str(template), "--rate", "1000", *words]


def send(plan: Path, inbox: Inbox, *words: str, **environment: str) -> subprocess.CompletedProcess:
    done = run(*command(plan, "--smtp", inbox.url, "--from", "Zoë <zoe@shop.example>", *words), **environment)
    assert "Traceback" not in done.stderr
    return done


def refused(done: subprocess.CompletedProcess, *said: str) -> None:
    """It has ended with one line that says why."""
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("campaign.py: ")
    for each in said:
        assert each in line


def test_each_of_the_group_gets_its_letter_once(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com", "+b@example.com", control=2)
    done = send(plan, inbox, "--discount", "30", "--unsubscribe", "mailto:no@shop.example")
    assert done.returncode == 0, done.stderr
    assert "with the mail server: 2 of 2 letters" in done.stdout
    first, second = inbox.messages()
    assert (first["X-To"], first["To"], first["X-From"]) == ("a@example.com", "a@example.com", "zoe@shop.example")
    assert (second["X-To"], second["To"]) == ("+b@example.com", "+b@example.com")
    assert first["From"] == "Zoë <zoe@shop.example>"
    assert first["Subject"] == "30 % off for you, Zoë 0"
    assert first["List-Unsubscribe"] == "<mailto:no@shop.example>"
    assert first["Message-ID"].endswith("@shop.example>")
    assert first["Message-ID"] != second["Message-ID"]
    text = "Dear Zoë 0,\n\nyou are A0 {here}: Contract: Month-to-month.\nYours, Zoë\n"
    assert first.get_content().replace("\r\n", "\n") == text
    again = send(plan, inbox)
    assert again.returncode == 0
    assert len(inbox) == 2


def test_an_address_that_a_spreadsheet_was_kept_from_is_the_address(inbox, tmp_path):
    assert send(planned(tmp_path, "'=a@example.com", "'b@example.com"), inbox).returncode == 0
    assert inbox.addresses() == ["=a@example.com", "'b@example.com"]


def test_a_name_that_a_spreadsheet_was_kept_from_is_the_name(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com")
    plan.write_text(plan.read_text().replace("Zoë 0", "\"O'Neill, '-Bob\""))
    assert send(plan, inbox).returncode == 0
    assert "Dear O'Neill, -Bob," in inbox.messages()[0].get_content()


def test_who_unsubscribed_is_skipped(inbox, tmp_path):
    plan = planned(tmp_path, *(f"a{number}@example.com" for number in range(5)))
    skip = tmp_path / "gone.csv"
    skip.write_text("when;who\n1 May;A1@Example.com\n2 May;Zoë <a3@example.com>\n")
    done = send(plan, inbox, "--skip", str(skip))
    assert "letters from Zoë <zoe@shop.example>: 3, and 2 skipped" in done.stdout
    assert inbox.addresses() == ["a0@example.com", "a2@example.com", "a4@example.com"]
    skip.write_text("who\nnobody here\n")
    refused(send(plan, inbox, "--skip", str(skip)), "gone.csv", "no address")
    for empty in ("", "email\n"):
        skip.write_text(empty)
        assert letters.addresses(skip) == set()


def test_who_is_refused_for_now_is_tried_again_and_who_is_refused_for_good_is_noted(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com", "later2@example.com", "never@example.com", "b@example.com")
    done = send(plan, inbox)
    assert done.returncode == 0
    assert inbox.addresses() == ["a@example.com", "b@example.com", "later2@example.com"]
    assert "with the mail server: 3 of 4 letters" in done.stdout
    assert "never@example.com: 550 5.1.1 No such user here" in done.stdout
    send(plan, inbox)
    assert len(inbox) == 3


def test_a_dry_run_writes_the_letters_and_sends_nothing(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com", "b@example.com", control=1)
    folder = tmp_path / "campaign-letters"
    folder.mkdir()
    (folder / "77.eml").write_text("from an older plan")
    done = send(plan, inbox, "--dry-run")
    assert done.returncode == 0
    assert len(inbox) == 0
    written = messages(folder)
    assert [letter["To"] for letter in written] == ["a@example.com", "b@example.com"]
    assert "Message-ID" not in written[0]
    assert "Dear Zoë 1," in written[1].get_content()
    assert send(plan, inbox).returncode == 0
    assert len(inbox) == 2


def test_the_progress_has_a_rate_and_what_is_left(inbox, tmp_path):
    plan = planned(tmp_path, *(f"a{number}@example.com" for number in range(30)))
    words = command(plan, "--smtp", inbox.url)
    words[words.index("--rate") + 1] = "15"
    master, terminal = os.openpty()
    termios.tcsetwinsize(master, (24, 100))
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError), os.fdopen(master, "rb", buffering=0) as screen:
        while piece := screen.read(4096):
            shown += piece
    assert process.wait() == 0
    assert time.monotonic() - began > 29 / 15  # as slow as it was told to be
    assert re.search(rb"\d+%\|.*\| 1\d/30 \[00:0\d<00:0\d, 1\d\.\d+ letters/s\]", shown), shown


def test_nobody_gets_two_letters_whatever_is_killed(inbox, published, tmp_path):
    """The whole way with the real table: planned, sent while everything is killed, and measured."""
    plan = planned(tmp_path)  # for its template
    frame = published.assign(**{"First name": "Zoë"})
    frame["email"] = [f"a{number}@example.com" for number in range(len(frame))]
    frame.to_csv(tmp_path / "customers.csv", index=False)
    with running(GUNICORN) as service:
        asked = ["--url", service.url, "--budget", "1111", "--output", str(plan)]
        assert run("campaign.py", "plan", str(tmp_path / "customers.csv"), *asked).returncode == 0
    people = [*csv.DictReader(plan.read_text().splitlines())]
    addresses = [each["email"] for each in people if each["group"] == "discount"]
    assert len(addresses) == 1000
    chance = random.Random(7)
    words = [sys.executable, *command(plan, "--smtp", inbox.url, "--from", "zoe@shop.example")]
    kills = 0
    for round_ in range(20):
        enough = len(inbox) + chance.randrange(3, 26)
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: len(inbox) >= enough or process.poll() is not None)  # noqa: B023
        if round_ in (6, 13):  # the process must live through a restart of the server
            inbox.kill()
            time.sleep(0.3)
            inbox.start()
            enough = len(inbox) + 6
            wait_until(lambda: len(inbox) >= enough)  # noqa: B023
        time.sleep(0.01 * chance.random())
        assert process.poll() is None, "all are sent too early"
        process.kill()
        process.wait()
        kills += 1
    done = run(*words[1:])
    assert kills == 20
    got = Counter(inbox.addresses())
    unknown = re.findall(r"^  (a\d+@example\.com): <.*>$", done.stdout, re.MULTILINE)
    assert done.returncode == (1 if unknown else 0)
    assert max(got.values()) == 1
    assert len(unknown) <= 22
    assert {*got} | {*unknown} == {*addresses}
    assert {*addresses} - {*got} <= {*unknown}

    known = {message["X-To"]: message["Message-ID"] for message in inbox.messages()}
    again = run(*words[1:], "--retry-unknown")
    assert again.returncode == 0
    assert "with the mail server: 1,000 of 1,000 letters" in again.stdout
    got = Counter(inbox.addresses())
    assert {*got} == {*addresses}
    assert {address for address, times in got.items() if times > 1} <= {*unknown}
    # A letter that is sent again has the same id, by which mail servers know a double.
    for message in inbox.messages():
        assert known.setdefault(message["X-To"], message["Message-ID"]) == message["Message-ID"]

    outcomes = random.Random(7)  # its own: the outcomes must not depend on how the sending went
    with (tmp_path / "outcomes.csv").open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(["customerID", "Churn"])
        for each in people:
            left = outcomes.random() < float(each["probability"]) - 0.3 * (each["group"] == "discount")
            write([each["id"], "Yes" if left else "No"])
    report = str(tmp_path / "report.html")
    done = run("campaign.py", "measure", str(plan), str(tmp_path / "outcomes.csv"), "--report", report)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^leavers are fewer with a letter by [23]\d\.\d in a hundred", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_ends_between_two_letters(inbox, tmp_path, signal_):
    plan = planned(tmp_path, *(f"a{number}@example.com" for number in range(400)))
    words = command(plan, "--smtp", inbox.url)
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(inbox) > 20)
    process.send_signal(signal_)
    said, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "campaign.py: ending after this letter" in errors.splitlines()
    sent = len(inbox)
    assert f"with the mail server: {sent} of 400 letters" in said
    assert f"left: {400 - sent} letters" in said
    assert "perhaps" not in said
    assert run(*words).returncode == 0
    assert len(inbox) == len({*inbox.addresses()}) == 400


# A signal at each line that is run until the wait is over, one wait after the other.
STOPPED_AT_EACH_LINE = """
import itertools, signal, sys
import campaign
from serving.campaign import sending

class Traced:
    def __init__(self, lines):
        self.left = lines
    def __call__(self, frame, event, _):
        self.left -= event == "line"
        if not self.left:
            self.left = -1
            signal.raise_signal(signal.SIGTERM)
        return self

for lines in itertools.count(1):
    stop, traced = sending.Stop(), Traced(lines)
    campaign.heed_signals(stop)
    sys.settrace(traced)
    is_asked = stop.wait(0.001)
    sys.settrace(None)
    if traced.left > 0:
        break
    print(is_asked)
"""


def test_a_stop_is_heeded_at_any_moment_of_a_wait():
    """A handler that takes a lock which the waiting thread has would wait for itself."""
    done = run("-c", STOPPED_AT_EACH_LINE)
    assert done.returncode == 0, done.stderr
    assert {*done.stdout.splitlines()} == {"True"}


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_stop_of_another_kind_ends_at_once(tmp_path, first):
    silent = Scripted("mail", "silence")
    words = command(planned(tmp_path, "a@example.com"), "--smtp", silent.url)
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: silent.was_asked)
    process.send_signal(first)
    assert process.stderr.readline() == "campaign.py: ending after this letter\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT


def test_a_stop_while_it_connects_ends_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = command(planned(tmp_path, "a@example.com"), "--smtp", f"127.0.0.1:{silent.getsockname()[1]}")
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        with silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (1, "campaign.py: stopped\n")


def test_who_is_nobody_on_this_machine_must_say_who_writes(tmp_path):
    words = command(planned(tmp_path, "a@example.com"), "--dry-run")
    nobody = mock.patch.object(getpass, "getuser", side_effect=KeyError("uid not found"))
    with nobody, mock.patch.object(sys, "argv", words), pytest.raises(SystemExit, match="say with --from who"):
        campaign.main()


def test_a_terminal_that_lacks_a_letter_shows_another(inbox, tmp_path):
    done = send(planned(tmp_path, "a@example.com"), inbox, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "letters from Zo? <zoe@shop.example>: 1, and 0 skipped" in done.stdout


def test_two_at_once_are_one(inbox, tmp_path):
    plan = planned(tmp_path, *(f"a{number}@example.com" for number in range(200)))
    words = [sys.executable, *command(plan, "--smtp", inbox.url)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_until(lambda: len(inbox) > 2)
    process.send_signal(signal.SIGSTOP)
    try:
        refused(send(plan, inbox), "campaign.sqlite is in use")
    finally:
        process.send_signal(signal.SIGCONT)
    assert process.wait() == 0
    assert len(inbox) == len({*inbox.addresses()}) == 200


def test_who_goes_on_has_the_outbox_before_the_first_letter(inbox, tmp_path):
    """Else two that go on at once would both find a letter that is not sent yet."""
    plan = planned(tmp_path, "a@example.com")
    assert send(plan, inbox).returncode == 0
    path = plan.with_suffix(".sqlite")
    first = Outbox(path)
    with pytest.raises(BadCampaign, match="is in use"):
        Outbox(path)
    assert "a@example.com" in first.letters()


def test_a_disk_that_fills_up_while_sending_loses_nothing(inbox, tmp_path):
    plan = planned(tmp_path, *(f"a{number}-{'x' * 50}@example.com" for number in range(1000)))
    words = [sys.executable, *command(plan, "--smtp", inbox.url)]
    # A file of this process can have 100 kB, and the one of what was sent needs more.
    limit = ["sh", "-c", 'ulimit -f 200; trap "" XFSZ; exec "$@"', "sh"]
    limited = subprocess.run([*limit, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    refused(limited, "campaign.sqlite cannot be written")
    assert 0 < len(inbox) < 1000
    done = run(*words[1:])
    assert "perhaps" not in done.stdout
    assert done.returncode == 0
    assert len(inbox) == len({*inbox.addresses()}) == 1000


def test_what_became_of_a_letter_takes_no_more_of_the_disk_than_that_it_is_under_way(tmp_path):
    """A disk that is full would else leave a letter unknown that the server has taken."""
    file, journal = tmp_path / "plan.sqlite", tmp_path / "plan.sqlite-journal"
    outbox = Outbox(file)
    for number in range(500):
        address = f"{'a' * (number % 41)}{number}@example.com"
        person = Person(number, f"{number}", address, 0.5, "discount", {})
        outbox.begin(person, f"<{number}@vm>")
        sizes = [each.stat().st_size for each in (file, journal)]
        outbox.end(person, SENT, f"250 queued {'Ä' * number}")
        assert [each.stat().st_size for each in (file, journal)] == sizes
        assert journal.stat().st_size > 0
    assert outbox.letters()["0@example.com"].said == "250 queued "


# A server that wants to be trusted, and to know who one is


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate for 127.0.0.1 with its key, and the authority that signed it, as files."""
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    return {"server": str(folder / "server.pem"), "authority": str(folder / "authority.pem")}


@pytest.mark.parametrize(("option", "scheme"), [("starttls", "smtp"), ("tls", "smtps")])
def test_a_user_is_known_over_tls_and_nothing_is_said_to_a_stranger(certificate, tmp_path, option, scheme):
    plan = planned(tmp_path, "a@example.com")
    trusting = {"SSL_CERT_FILE": certificate["authority"]}
    with server(tmp_path / "inbox", f"{option}={certificate['server']}", "user=zoe@shop:s3cret") as inbox:
        inbox.url = f"{scheme}://zoe%40shop@127.0.0.1:{inbox.port}"
        refused(send(plan, inbox, SMTP_PASSWORD="s3cret"), "certificate that is not trusted", "SSL_CERT_FILE")
        refused(send(plan, inbox, SMTP_PASSWORD="wrong", **trusting), "does not take this user", "SMTP_PASSWORD")
        assert len(inbox) == 0
        done = send(plan, inbox, SMTP_PASSWORD="s3cret", **trusting)
        assert done.returncode == 0, done.stderr
        assert inbox.addresses() == ["a@example.com"]
        assert "s3cret" not in done.stdout + done.stderr


def test_a_password_does_not_go_out_in_the_clear(inbox, tmp_path):
    inbox.url = f"smtp://zoe@127.0.0.1:{inbox.port}"
    refused(send(planned(tmp_path, "a@example.com"), inbox, SMTP_PASSWORD="s3cret"), "has no STARTTLS")
    assert len(inbox) == 0


def test_a_sender_who_is_not_let_in_is_nobodys_refusal(tmp_path):
    plan = planned(tmp_path, *(f"a{number}@example.com" for number in range(5)))
    with server(tmp_path / "inbox", "closed") as inbox:
        refused(send(plan, inbox), "refused the first 3 letters", "554 5.7.1 Relay access denied", "--retry-refused")
    with server(tmp_path / "another", "") as inbox:
        assert send(plan, inbox, "--retry-refused").returncode == 0
        assert inbox.addresses() == [f"a{number}@example.com" for number in range(5)]


# What cannot be sent is said before the first letter


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("Dear {first name}", "its first line must be the subject"),
        ("Subject: \n\nDear {first name}", "has no subject, or no text after it"),
        ("Subject: hello\n\n \n", "has no subject, or no text after it"),
        (f"Subject: {'x' * 999}\n\nDear", "its Subject is too long for a line of a letter (998 characters)"),
        ("Subject: for {name}\n\nDear {name}", "{name} is none of its columns: id, email, probability"),
        ("Subject: hello\n\nDear {first name}, {", "a single { begins or ends no field"),
        ("Subject: hello\n\nDear {first name}}", "a single } begins or ends no field"),
        ("Subject: for {first name}{empty}\n\nDear", "row 2 of the plan: {empty} is blank there"),
        ("Subject: for {twice}\n\nDear", "{twice} is blank there, or two columns have the name"),
        ("Subject: for {Discount}\n\nDear", "{Discount} is blank there, or two columns have the name"),
        ("Subject: hello {first name.__class__}\n\nDear", "is none of its columns"),
        ("Subject: Größe\n\n".encode("latin-1"), "is not in UTF-8"),
    ],
)
def test_a_template_that_does_not_fit_is_told_before_the_first_letter(inbox, tmp_path, template, said):
    twice = {"Twice": "1", "twice": "2", "discount": "30", "Discount": "40"}
    plan = planned(tmp_path, "a@example.com", "b@example.com", empty="", **twice)
    (tmp_path / "mail.txt").write_bytes(template if isinstance(template, bytes) else template.encode())
    refused(send(plan, inbox), said)
    assert len(inbox) == 0


@pytest.mark.parametrize("name", ["Zoë\nBcc: all@example.com", "Zoë\rBcc: x", "Zoë\a", "Zoë\u2028Bcc: x"])
def test_a_name_cannot_become_a_header(inbox, tmp_path, name):
    plan = planned(tmp_path, "a@example.com", "b@example.com", nick=name)
    (tmp_path / "mail.txt").write_text("Subject: for {nick}\n\nDear {nick}\n")
    refused(send(plan, inbox), "row 2 of the plan: its subject would have a line break")
    assert len(inbox) == 0


@pytest.mark.parametrize(
    ("edited", "said"),
    [
        (
            ("a@example.com", '"a@example.com\nBcc: b@example.com"'),
            "row 2: 'a@example.com\\nBcc: b@example.com' is not a usable",
        ),
        (("a@example.com", "a@example.com>"), "row 2: 'a@example.com>' is not a usable address"),
        (("a@example.com", ""), "row 2: '' is not a usable address"),
        (("b@example.com", "A@example.com"), "row 3: it has the email of row 2"),
        (("A1,", "A0,"), "row 3: it has the id of row 2"),
        (("discount", "discuont"), "row 2: its group is neither discount nor control"),
        (("0.75", "much"), "row 2: its cells are not those of the header, or its probability is none"),
        (("0.75,", ""), "row 2: its cells are not those of the header"),
        (("group", "grup"), "is no plan: it has not one column group"),
    ],
)
def test_a_plan_that_was_edited_badly_is_told_with_its_row(inbox, tmp_path, edited, said):
    plan = planned(tmp_path, "a@example.com", "b@example.com")
    plan.write_text(plan.read_text().replace(*edited, 1))
    refused(send(plan, inbox), "campaign.csv", said)
    assert len(inbox) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "nobody"], "'nobody' is neither ADDRESS nor 'NAME <ADDRESS>'"),
        (["--from", "a@b.example\nBcc: c@d.example"], "is neither ADDRESS nor"),
        (["--from", "a@b.example, c@d.example"], "is neither ADDRESS nor"),
        (["--from", "a@b.example SIZE=1"], "is neither ADDRESS nor"),
        (["--from", "zoe@bücher.example"], "is neither ADDRESS nor"),
        (["--from", b"Zo\xeb <zoe@shop.example>"], "is neither ADDRESS nor"),
        (["--from", f"{'Zoë' * 200} <zoe@shop.example>"], "its From is too long for a line of a letter"),
        (["--unsubscribe", "no@shop.example"], "is neither mailto:ADDRESS nor https://"),
        (["--unsubscribe", "https://x.example\nBcc: c@d.example"], "is neither mailto:ADDRESS nor https://"),
        (["--smtp", "http://127.0.0.1"], "campaign.py: --smtp is neither smtp://[USER@]HOST:PORT nor"),
        (["--smtp", "smtp://[::1"], "neither smtp://[USER@]HOST:PORT nor"),
        (["--smtp", "smtp://zoe:s3cret@127.0.0.1"], "put it into SMTP_PASSWORD"),
        (["--smtp", "smtp://zo%C3%AB@127.0.0.1:1"], "letters beyond ASCII, which cannot log in"),
        (["--smtp", "smtp://mail..example"], "the mail server mail..example:25 has no name that there can be"),
        (["--smtp", "smtp://127.0.0.1:1"], "the mail server 127.0.0.1:1 cannot be reached (--smtp)"),
        (["--template", "no.txt"], "no.txt: No such file"),
        (["--skip", "no.csv"], "no.csv: No such file"),
    ],
)
def test_options_that_cannot_be_used_are_told(inbox, tmp_path, words, said):
    refused(send(planned(tmp_path, "a@example.com"), inbox, *words), said)
    assert len(inbox) == 0


def test_every_row_of_a_plan_that_is_wrong_is_told_and_an_emptied_one_is_none(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com", "b@example.com", "c@example.com", "d@example.com", "e@example.com")
    lines = plan.read_text().splitlines()
    lines[1] = lines[1].replace("0.75", "1.5")
    lines[2] = "," * lines[2].count(",")
    lines[4] = lines[4].replace("discount", "discuont")
    plan.write_text("\n".join(lines))
    refused(send(plan, inbox), "row 2: its cells are not", "row 5: its group is neither")
    lines[1], lines[4] = lines[1].replace("1.5", "1"), lines[4].replace("discuont", "discount")
    plan.write_text("\n".join(lines))
    assert send(plan, inbox).returncode == 0
    assert len(inbox) == 4


# Servers that misbehave


class Scripted:
    """A server that says at one stage, to some, what it should not; `taken` are those whose letters it has.

    It can `close` too, or answer with `silence`.
    """

    def __init__(self, stage: str, says: str, only: str = "", times: int = 1000):
        self._stage, self._says, self._only, self._times = stage, says, only, times
        self.was_asked = False
        self.taken: list[str] = []
        self.texts: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"smtp://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        to = ""

        def answer(stage: str, usual: str) -> str:
            """Say what is usual, or else; gives what was said, nothing where it was a goodbye."""
            if stage == self._stage and self._times and self._only in to:
                self._times -= 1
                self.was_asked = True
                if self._says == "silence":
                    return usual
                if self._says == "close":
                    connection.close()
                    return ""
                usual = self._says
            connection.sendall(usual.encode() + b"\r\n")
            return usual

        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 here\r\n")
            for line in lines:
                command = line[:4].decode().strip().upper()
                if command == "RCPT":
                    to = line.decode().partition("<")[2].partition(">")[0]
                if command != "DATA":
                    said = answer({"MAIL": "mail", "RCPT": "rcpt"}.get(command, ""), "250 ok")
                elif (said := answer("data", "354 go on")).startswith("3"):
                    text = b"".join(iter(lines.readline, b".\r\n"))
                    if (said := answer("dot", "250 2.0.0 taken")).startswith("2"):
                        self.taken.append(to)
                        self.texts.append(text)
                if not said:
                    return


FIVE = [f"a{number}@example.com" for number in range(5)]


@pytest.mark.parametrize(
    ("stage", "says", "only", "times", "sent", "state"),
    [
        ("mail", "451 later", "", 1, 5, ""),
        ("mail", "close", "", 1, 5, ""),
        ("rcpt", "451 later", "a2", 1, 5, ""),
        ("rcpt", "421 too many, and I close", "a2", 1, 5, ""),
        ("rcpt", "close", "a2", 1, 5, ""),
        ("rcpt", "550 5.7.1 takes nothing from you", "a0", 1, 4, "refused for good: 1 letter"),
        ("rcpt", "garbage", "a2", 1, 5, ""),
        ("data", "close", "a2", 1, 5, ""),
        ("data", "451 later", "a2", 1, 5, ""),
        ("data", "554 5.7.1 spam", "a2", 1, 4, "refused for good: 1 letter"),
        ("data", "250 that is no answer", "a2", 1, 5, ""),
        ("dot", "451 later", "a2", 1, 5, ""),
        ("dot", "554 5.7.1 spam", "a2", 1, 4, "refused for good: 1 letter"),
        ("dot", "close", "a2", 1, 4, "perhaps with it, perhaps not: 1 letter"),
        ("dot", "garbage", "a2", 1, 4, "perhaps with it, perhaps not: 1 letter"),
        ("dot", "354 go on", "a2", 1, 4, "perhaps with it, perhaps not: 1 letter"),
    ],
)
def test_what_a_server_should_not_say_sends_nobody_two_letters_and_loses_none(
    tmp_path, stage, says, only, times, sent, state
):
    plan, strange = planned(tmp_path, *FIVE), Scripted(stage, says, only, times)
    done = send(plan, strange)
    assert f"with the mail server: {sent} of 5 letters" in done.stdout
    assert state in done.stdout
    assert sorted(strange.taken) == [address for address in FIVE if sent == 5 or only not in address]
    assert done.returncode == ("perhaps" in done.stdout)
    if "perhaps" in state:  # its id is what the server's log may have of it
        assert re.search(rf"^  {only}@example.com: <\S+@\S+>$", done.stdout, re.MULTILINE)
    send(plan, strange)
    assert sorted(strange.taken) == [address for address in FIVE if sent == 5 or only not in address]


@pytest.mark.parametrize(("stage", "says"), [("rcpt", "550 relay not permitted"), ("dot", "554 5.7.1 spam")])
def test_a_server_that_refuses_everybody_is_stopped_and_nobody_is_given_up(tmp_path, stage, says):
    plan, strange = planned(tmp_path, *FIVE), Scripted(stage, says)
    done = send(plan, strange)
    refused(done, "refused the first 3 letters", says, "--retry-refused")
    assert "refused for good: 3 letters" in done.stdout
    assert "left: 2 letters" in done.stdout
    kind = Scripted("none", "")
    assert send(plan, kind, "--retry-refused").returncode == 0
    assert sorted(kind.taken) == FIVE


def test_a_sender_who_may_send_no_more_stops_it_and_the_rest_is_left(tmp_path):
    plan, strange = planned(tmp_path, *FIVE), Scripted("mail", "550 5.4.5 daily limit\x1b[31m exceeded")
    done = send(plan, strange)
    refused(done, "takes no letters from zoe@shop.example: 550 5.4.5 daily limit [31m exceeded")
    assert "left: 5 letters" in done.stdout


def test_a_line_that_is_a_dot_is_sent_as_it_is(tmp_path):
    plan, kind = planned(tmp_path, "a@example.com"), Scripted("none", "")
    (tmp_path / "mail.txt").write_text("Subject: dots\n\nfirst\n.\n..second\nthird")
    assert send(plan, kind).returncode == 0
    assert kind.texts[0].endswith(b"\r\n\r\nfirst\r\n..\r\n...second\r\nthird\r\n")


# What a plan and what was sent have to do with each other


def test_a_plan_of_the_same_name_and_other_people_is_told(inbox, tmp_path):
    plan = planned(tmp_path, *FIVE)
    assert send(plan, inbox).returncode == 0
    old = plan.read_text()
    plan.write_text(old.replace("0.75", "0.6"))
    refused(send(plan, inbox), "campaign.sqlite tells of a letter", "another plan", "another name")
    plan.write_text(old.replace("discount", "control"))
    refused(send(plan, inbox), "another plan")
    # A spreadsheet has saved it.
    for saved in (old.replace("0.75", "0.7500000001"), old.replace("0.75", "0.8"), old.replace("0.75", "7.5E-01")):
        plan.write_text(saved)
        assert send(plan, inbox).returncode == 0
    assert len(inbox) == 5


def test_blank_cells_that_a_spreadsheet_has_not_saved_are_blank(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com", note="", more="")
    plan.write_text(plan.read_text().replace("Zoë 0,,", "Zoë 0"))
    assert send(plan, inbox).returncode == 0
    assert len(inbox) == 1


def test_who_was_written_to_is_not_written_to_at_another_address(inbox, tmp_path):
    plan = planned(tmp_path, *FIVE)
    assert send(plan, inbox).returncode == 0
    plan.write_text(plan.read_text().replace("a1@example.com", "corrected@example.com"))
    assert send(plan, inbox).returncode == 0
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "plan.csv"
    link.symlink_to(plan)
    (tmp_path / "elsewhere" / "mail.txt").write_text(TEMPLATE)
    assert send(link, inbox).returncode == 0
    assert len(inbox) == 5


def test_who_was_refused_is_written_to_at_a_corrected_address(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com", "never@example.com")
    assert send(plan, inbox).returncode == 0
    plan.write_text(plan.read_text().replace("never@", "corrected@"))
    assert "with the mail server: 2 of 2 letters" in send(plan, inbox).stdout
    assert inbox.addresses() == ["a@example.com", "corrected@example.com"]


@pytest.mark.parametrize("state", [WAITING, REFUSED, SENDING])
def test_who_has_a_letter_gets_none_whatever_else_is_noted_of_them(inbox, tmp_path, state):
    plan = planned(tmp_path, "new@example.com")
    assert send(plan, inbox).returncode == 0
    with contextlib.closing(sqlite3.connect(plan.with_suffix(".sqlite"), isolation_level=None)) as database:
        values = "'old@example.com', id, probability, ?, at, message_id, '450 later'"
        database.execute(f"INSERT INTO letters SELECT {values} FROM letters", [state])
    for old, new in (("new@", "old@"), ("old@", "another@")):
        plan.write_text(plan.read_text().replace(old, new))
        done = send(plan, inbox, "--retry-refused", "--retry-unknown")
        assert "with the mail server: 1 of 1 letter\n" in done.stdout
    assert len(inbox) == 1


def test_two_people_with_one_letter_are_two(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com", "never@example.com")
    send(plan, inbox)
    plan.write_text(plan.read_text().replace("a@", "c@").replace("never@", "a@"))
    done = send(plan, inbox)
    assert "with the mail server: 2 of 2 letters" in done.stdout
    assert done.returncode == 0
    assert len(inbox) == 1


def test_refusals_stop_nothing_where_a_letter_was_sent_before(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com", *(f"never{number}@example.com" for number in range(4)))
    for _ in range(2):
        done = send(plan, inbox, "--retry-refused")
        assert done.returncode == 0
        assert "refused for good: 4 letters" in done.stdout


def test_what_is_counted_is_the_plans_people(inbox, tmp_path):
    plan = planned(tmp_path, *FIVE)
    assert send(plan, inbox).returncode == 0
    lines = plan.read_text().splitlines()
    plan.write_text("\n".join([*lines[:3], ",,,,,", ""]))
    assert "with the mail server: 2 of 2 letters" in send(plan, inbox).stdout
    (tmp_path / "gone.txt").write_text("a0@example.com")
    assert "with the mail server: 1 of 1 letter\n" in send(plan, inbox, "--skip", str(tmp_path / "gone.txt")).stdout


def test_without_a_server_nothing_is_noted(tmp_path):
    nobody = Inbox(tmp_path)  # that was never started
    refused(send(planned(tmp_path, *FIVE), nobody), "cannot be reached")
    assert not (tmp_path / "campaign.sqlite").exists()


@pytest.mark.parametrize(
    "text",
    [
        "a1@example.com, a2@example.com, a3@example.com\n",
        "who\n<mailto:a1@example.com>\nZoe (A2@example.com)\na3@example.com.\n",
        '"a1@example.com; a2@example.com",x\na3@example.com y,x\n',
        "Müller, Zoë <a1@example.com>; a2@example.com\n'a3@example.com'\n",
    ],
)
def test_addresses_that_are_skipped_are_found_wherever_they_stand(inbox, tmp_path, text):
    (tmp_path / "gone.txt").write_text(text)
    assert send(planned(tmp_path, *FIVE), inbox, "--skip", str(tmp_path / "gone.txt")).returncode == 0
    assert inbox.addresses() == ["a0@example.com", "a4@example.com"]
    (tmp_path / "gone.txt").write_text(f"{text}x@@y\n")
    refused(send(planned(tmp_path, *FIVE), inbox, "--skip", str(tmp_path / "gone.txt")), "x@@y", "is no address")


@pytest.mark.parametrize(
    "cell",
    [
        "email=bob@x.com",
        "https://s/u?email=Bob@x.com&x=1",
        "https://s/u?email%3Dbob%40x.com",
        "alice@x.com/bob@x.com",
        *(f"{sign}bob@x.com{sign}" for sign in "*_-+#`!$%^~|&?'"),
        "{bob@x.com}",
        "**_bob@x.com_**",
    ],
)
def test_signs_around_an_address_keep_nobody_from_being_skipped(tmp_path, cell):
    (tmp_path / "gone.txt").write_text(f"who\n{cell}\n")
    assert "bob@x.com" in letters.addresses(tmp_path / "gone.txt")


@pytest.mark.parametrize("cell", ["zoë.bob@x.com", "zoëbob@x.com", "zoë-bob@x.com", "ø_bob@x.com", ".bob@x.com"])
def test_the_end_of_anothers_address_skips_nobody(tmp_path, cell):
    (tmp_path / "gone.txt").write_text(f"who\n{cell}\n")
    with pytest.raises(BadCampaign, match="is no address"):
        letters.addresses(tmp_path / "gone.txt")
    (tmp_path / "gone.txt").write_text("who\nann.bob@x.com\nann+bob@x.com\no'bob@x.com\n")
    assert "bob@x.com" not in letters.addresses(tmp_path / "gone.txt")


def test_long_subjects_and_links_arrive_as_they_are(inbox, tmp_path):
    subject = "dass für — % dass nur — alle dass über Düsseldorf Müller 25\u00a0% 👩\u200d💻 " * 3
    link = "https://shop.example/no-more?token=" + "x" * 120
    plan = planned(tmp_path, "a@example.com")
    (tmp_path / "mail.txt").write_text(f"Subject: {subject}\n\n{'ä' * 2000}\n")
    assert send(plan, inbox, "--unsubscribe", link).returncode == 0
    [letter] = inbox.messages()
    assert letter["Subject"] == subject.strip()
    assert letter["List-Unsubscribe"] == f"<{link}>"
    assert letter.get_content().strip() == "ä" * 2000
    assert max(map(len, letter.as_bytes().splitlines())) < 998


def test_the_discount_is_what_is_said_or_the_plans_or_25(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com", Discount="40")
    for words, expected in (([], "40"), (["--discount", "30"], "30")):
        assert send(plan, inbox, "--dry-run", *words).returncode == 0
        [letter] = messages(tmp_path / "campaign-letters")
        assert letter["Subject"].startswith(f"{expected} % off")


def test_a_folder_that_cannot_be_written_is_told(inbox, tmp_path):
    plan = planned(tmp_path, "a@example.com")
    (tmp_path / "campaign.sqlite").mkdir()
    refused(send(plan, inbox), "campaign.sqlite cannot be written, and without it nothing is sent")
    assert len(inbox) == 0
