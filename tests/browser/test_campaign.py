"""The page's plan of a campaign, held to one that is computed here from the API's answer."""

import csv
import hashlib
import io
import math
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import GUNICORN, Service, run, running
from playwright.sync_api import Page, expect

from serving.training.telecom import SCHEMA

ATOM, LABEL = r"[A-Za-z0-9!#$%&'*+/=?^_`{}~-]+", r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
ADDRESS = re.compile(rf"{ATOM}(\.{ATOM})*@({LABEL}\.)+{LABEL}")


def people(published: pd.DataFrame, number: int = 300) -> pd.DataFrame:
    """Made-up people: the real table's first rows, with addresses and names, and most of what can go wrong."""
    frame = published.head(number).copy()
    frame.insert(1, "E-Mail", [f"person.{each}@example.com" for each in range(number)])
    frame["Name"] = [f'Zoë "{each}", the\n{each}th' if each % 7 == 0 else f"Person {each}" for each in range(number)]
    frame["Group"] = "gold"  # a name that the plan's own column has
    frame["Home page"] = "=1+1"
    frame.loc[3, "Contract"] = "weekly"
    frame.loc[4, "E-Mail"] = " "
    frame.loc[5, "E-Mail"] = "nobody"
    frame.loc[6, "E-Mail"] = f"{'a' * 65}@example.com"
    frame.loc[7, "E-Mail"] = f"a@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{'f' * 20}.com"
    frame.loc[8, "E-Mail"] = "a|b@example.com"
    frame.loc[9, "customerID"] = "  "
    frame.loc[10, "customerID"] = " 0002-MADEUP"
    frame.loc[11, "E-Mail"] = "Person.2@Example.com"
    frame.loc[12, "E-Mail"] = "+12@example.com"
    frame.loc[13, "E-Mail"] = " o'hara+13@mail.example.com\t"
    frame.loc[14, "customerID"] = "=14"
    # Refused, so that they are no earlier rows with the same id or address.
    frame.loc[15, ["customerID", "E-Mail"]] = [frame.loc[5, "customerID"], "person.3@example.com"]
    # The most probable ones, and equal: they go in the table's order.
    fields = frame.columns.intersection([*published.columns[1:-1]])
    for place in range(100, 120):
        frame.loc[place, fields] = published.loc[3380, fields]
    return frame


def expected(
    answer: bytes,
    explained: bytes | None,
    budget: int | None = None,
    threshold: float = 0.5,
    share: float = 0.1,
    seed: int = 1,
    email: str = "E-Mail",
    encoding: str = "utf-8-sig",
) -> tuple[bytes, list[list[str]], int]:
    """The plan's bytes, the rows that are left out, and the size of the control group."""
    delimiter = re.search(r"note(.)error", answer.decode(encoding))[1]
    header, *rows = csv.reader(io.StringIO(answer.decode(encoding), newline=""), delimiter=delimiter)
    of_email = header.index(email)
    of_id = header.index("customerID") if "customerID" in header else of_email
    kept, left_out = [], []
    for number, cells in enumerate(rows, 2):
        *_, probability, _, _, error = cells
        address = re.sub("^'(?=[=+@-])", "", cells[of_email].strip(" \t\r\n"))
        who = address if of_id == of_email else cells[of_id].strip(" \t\r\n")
        same_id = [row["number"] for row in kept if row["id"] == who and of_id != of_email]
        same_address = [row["number"] for row in kept if row["email"].lower() == address.lower()]
        if probability == "":
            why = error
        elif not address:
            why = "no address"
        elif not ADDRESS.fullmatch(address) or len(address) > 254 or len(address.partition("@")[0]) > 64:
            why = f"not a usable address: {address}"
        elif not who:
            why = "no id"
        elif same_id:
            why = f"the same id as row {same_id[0]}"
        elif same_address:
            why = f"the same address as row {same_address[0]}"
        else:
            kept.append({"number": number, "id": who, "email": address, "probability": probability, "cells": cells})
            continue
        left_out.append([str(number), who, why])
    kept.sort(key=lambda row: -float(row["probability"].replace(",", ".")))
    chosen = [row for row in kept if float(row["probability"].replace(",", ".")) >= threshold]
    chosen = chosen if budget is None else kept[:budget]
    drawn = sorted(chosen, key=lambda row: hashlib.sha256(f"{seed}:{row['id']}".encode()).hexdigest())
    control = [row["number"] for row in drawn[: math.floor(share * len(chosen) + 0.5)]]
    reasons = {}
    if explained is not None:
        told = csv.reader(io.StringIO(explained.decode(encoding), newline=""), delimiter=delimiter)
        reasons = {number: cells[-3] for number, cells in enumerate(told, 1)}
    names = [name.strip().lower().replace(" ", "_") for name in header[:-4]]
    known = [*(field.name for field in SCHEMA.fields), "churn", "id", "email", "probability", "reasons", "group"]
    extras = [at for at, name in enumerate(names) if name not in known and at not in (of_id, of_email)]
    text = io.StringIO(newline="")
    write = csv.writer(text, delimiter=delimiter).writerow
    write(["id", "email", "probability", "reasons", "group", *(header[at] for at in extras)])
    for row in chosen:
        address = f"'{row['email']}" if row["email"].startswith(tuple("=+-@")) else row["email"]
        group = "control" if row["number"] in control else "discount"
        more = [row["cells"][at] for at in extras]
        write(
            [
                address if of_id == of_email else row["id"],
                address,
                row["probability"],
                reasons.get(row["number"], ""),
                group,
                *more,
            ]
        )
    return text.getvalue().encode(), left_out, len(control)


def scored(site: Service, table: Path, query: str = "") -> bytes:
    answer = site.request("POST", f"/predict{query}", table.read_bytes(), {"Content-Type": "text/csv"})
    assert answer.status == 200
    return answer.body


def give(page: Page, table: Path) -> None:
    page.set_input_files("#file", table)
    expect(page.locator("#scored-title")).to_contain_text("scored")


def downloaded(page: Page) -> bytes:
    """The plan, after a click on its button."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the plan").click()
    assert download.value.suggested_filename == "campaign.csv"
    return download.value.path().read_bytes()


def by_script(site: Service, table: Path, *words: str) -> bytes:
    """The plan that campaign.py makes of the same table."""
    plan = table.with_name("campaign.csv")
    done = run("campaign.py", "plan", str(table), "--url", site.url, "--output", str(plan), *words)
    assert done.returncode == 0, done.stderr
    return plan.read_bytes()


def move(page: Page, steps: int) -> None:
    page.locator("#threshold").focus()
    for _ in range(abs(steps)):
        page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")


def shown_rows(page: Page) -> list[list[str]]:
    script = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    found: list[list[str]] = page.locator("#left-out-rows tr").evaluate_all(script)
    return found


@pytest.fixture
def table(published: pd.DataFrame, tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    people(published).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("budget", "steps", "control", "seed"),
    [(None, 0, 10, 1), (None, 3, 50, 7), (40, 0, 10, 1), (7, 0, 12.5, 2), (100_000, -9, 0, 1), (1, 0, 50, 1)],
)
def test_the_plan_is_that_of_the_rules(page, site, table, budget, steps, control, seed):
    give(page, table)
    move(page, steps)
    page.get_by_label("budget").fill("" if budget is None else str(budget))
    page.get_by_label("Control group").fill(str(control))
    page.get_by_label("Seed").fill(str(seed))
    expect(page.get_by_label("Address column")).to_have_value("1")
    plan = downloaded(page)
    asked = {"budget": budget, "threshold": (50 + 5 * steps) / 100, "share": control / 100, "seed": seed}
    answer, explained = scored(site, table), scored(site, table, "?explain=words")
    wanted, left_out, size = expected(answer, explained, **asked)
    assert plan == wanted
    whom = ["--threshold", str(asked["threshold"])] if budget is None else ["--budget", str(budget)]
    assert plan == by_script(site, table, *whom, "--control", str(control / 100), "--seed", str(seed))
    rows = [*csv.DictReader(io.StringIO(plan.decode(), newline=""))]
    assert sum(row["group"] == "control" for row in rows) == size
    assert [*rows[0]] == ["id", "email", "probability", "reasons", "group", "Name", "Home page"]
    assert all(row["reasons"] for row in rows if float(row["probability"]) > 0.5)
    expect(page.locator("#plan-progress")).to_have_text(
        f"{len(rows)} chosen: {len(rows) - size} to be written to, {size} in the control group; "
        f"{len(left_out)} rows left out."
    )
    assert shown_rows(page) == left_out
    assert len(left_out) == 9
    expect(page.locator("#left-out-more")).to_be_hidden()


def test_a_european_table_gives_a_plan_in_its_manner(page, site, published, tmp_path):
    frame = people(published).replace(r"^(\d+)\.(\d+)$", r"\1,\2", regex=True)
    frame = frame.rename(columns={"E-Mail": "Adresse für E-Mail"})
    table = tmp_path / "europe.csv"
    frame.to_csv(table, index=False, sep=";", encoding="windows-1252", lineterminator="\r\n")
    give(page, table)
    answer, explained = scored(site, table), scored(site, table, "?explain=words")
    wanted, left_out, _ = expected(answer, explained, email="Adresse für E-Mail", encoding="windows-1252")
    plan = downloaded(page)
    assert plan == b"\xef\xbb\xbf" + wanted == by_script(site, table, "--threshold", "0.5")
    first = plan.decode("utf-8-sig").splitlines()[1].split(";")
    assert re.fullmatch(r"0,\d+", first[2])
    assert "Zoë" in plan.decode()
    assert shown_rows(page) == left_out


def test_excel_gives_a_plan_that_excel_reads(page, site, published, tmp_path):
    table = tmp_path / "people.xlsx"
    people(published, 130).to_excel(table, index=False)
    give(page, table)
    page.get_by_label("budget").fill("25")
    wanted, *_ = expected(scored(site, table), scored(site, table, "?explain=words"), budget=25)
    assert downloaded(page) == b"\xef\xbb\xbf" + wanted == by_script(site, table, "--budget", "25")


def test_without_an_id_the_address_is_it(page, site, published, tmp_path):
    table = tmp_path / "people.csv"
    people(published).drop(columns="customerID").to_csv(table, index=False, sep="\t")
    give(page, table)
    wanted, left_out, _ = expected(scored(site, table), scored(site, table, "?explain=words"), threshold=0.05)
    move(page, -9)
    plan = downloaded(page)
    assert plan == wanted == by_script(site, table, "--threshold", "0.05")
    assert "'+12@example.com\t'+12@example.com\t" in plan.decode()
    assert ["13", "Person.2@Example.com", "the same address as row 4"] in left_out
    assert shown_rows(page) == left_out


def test_many_rows_left_out_are_counted(page, published, tmp_path):
    frame = people(published)
    frame.loc[200:279, "E-Mail"] = ""
    table = tmp_path / "people.csv"
    frame.to_csv(table, index=False)
    give(page, table)
    downloaded(page)
    expect(page.locator("#left-out-title")).to_have_text("89 rows left out")
    assert len(shown_rows(page)) == 50
    expect(page.locator("#left-out-more")).to_have_text("And 39 more.")


def test_the_cut_follows_the_budget(page, site, table):
    give(page, table)
    rows = csv.DictReader(io.StringIO(scored(site, table).decode(), newline=""))
    probabilities = sorted((float(row["churn_probability"]) for row in rows if row["churn_probability"]), reverse=True)
    training = site.get("/model").json["training"]
    page.get_by_label("budget").fill("60")
    cut = probabilities[59]
    expect(page.locator("#threshold-shown")).to_have_text(f"{100 * cut:.1f}%")
    expect(page.locator("#chosen")).to_have_text("60")
    tested = [each for each in training["thresholds"] if each["threshold"] <= cut][-1]
    positives = round(60 * tested["positives"] / tested["chosen"])
    expect(page.locator("#positives")).to_have_text(f"≈ {positives}")
    expect(page.locator("#negatives")).to_have_text(f"≈ {60 - positives}")
    expect(page.locator("#estimate-note")).to_contain_text(f"the threshold of {tested['threshold']:.0%}, the nearest")
    line = page.locator("#histogram .cut").get_attribute("transform")
    assert float(re.fullmatch(r"translate\((.*)\)", line)[1]) == pytest.approx(100 * cut)
    bars = page.locator("#histogram .bar").evaluate_all("bars => bars.map(bar => bar.classList.contains('chosen'))")
    assert bars == [(place + 0.5) / 20 >= cut for place in range(20)]

    page.get_by_label("budget").fill("1000000")  # all, of whom the least probable are below every threshold
    expect(page.locator("#chosen")).to_have_text(f"{len(probabilities)}")
    assert probabilities[-1] < training["thresholds"][0]["threshold"]
    expect(page.locator("#estimate-note")).to_contain_text("not known")
    expect(page.locator("#positives")).to_be_hidden()

    move(page, 1)  # the slider takes over
    expect(page.get_by_label("budget")).to_have_value("")
    expect(page.locator("#threshold-shown")).to_have_text("55%")
    expect(page.locator("#chosen")).to_have_text(f"{sum(each >= 0.55 for each in probabilities)}")
    expect(page.locator("#estimate-note")).to_contain_text("this threshold")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("budget", "0", "The budget is a whole number from 1 on, or empty."),
        ("budget", "2.5", "The budget is a whole number from 1 on, or empty."),
        ("Control group", "51", "The control group is from 0 to 50 percent."),
        ("Control group", "-1", "The control group is from 0 to 50 percent."),
        ("Control group", "", "The control group is from 0 to 50 percent."),
        ("Seed", "1.5", "The seed is a whole number from 0 on."),
        ("Seed", "", "The seed is a whole number from 0 on."),
    ],
)
def test_a_wrong_input_is_said_and_nothing_is_downloaded(page, table, name, value, said):
    downloads: list[Any] = []
    page.on("download", lambda each: downloads.extend([each]))  # a builtin is no handler for Playwright
    give(page, table)
    usual = page.get_by_label(name).input_value()
    page.get_by_label(name).fill(value)
    page.get_by_role("button", name="Download the plan").click()
    expect(page.get_by_role("alert").filter(has_text=said)).to_be_visible()
    expect(page.get_by_label(name)).to_have_attribute("aria-invalid", "true")
    page.wait_for_timeout(200)
    assert downloads == []
    page.get_by_label(name).fill(usual)
    downloaded(page)
    expect(page.locator("#plan-problem")).to_be_hidden()
    expect(page.get_by_label(name)).to_have_attribute("aria-invalid", "false")


def test_a_budget_that_is_no_number_is_said(page, table):
    give(page, table)
    page.get_by_label("budget").focus()
    page.keyboard.type("-e")
    page.get_by_role("button", name="Download the plan").click()
    expect(page.locator("#plan-problem")).to_have_text("The budget is a whole number from 1 on, or empty.")


def test_a_plan_needs_a_column_of_addresses(page, site, published, tmp_path):
    table = tmp_path / "people.csv"
    frame = people(published).rename(columns={"E-Mail": "Contact"})
    frame.to_csv(table, index=False)
    give(page, table)
    button, column = page.get_by_role("button", name="Download the plan"), page.get_by_label("Address column")
    expect(column.locator("option:checked")).to_have_text("none")
    expect(button).to_be_disabled()
    expect(page.get_by_text("A plan needs a column of e-mail addresses.")).to_be_visible()
    expect(button).to_have_accessible_description("A plan needs a column of e-mail addresses.")
    column.select_option("Contact")
    expect(page.get_by_text("A plan needs a column of e-mail addresses.")).to_be_hidden()
    wanted, *_ = expected(scored(site, table), scored(site, table, "?explain=words"), email="Contact")
    assert downloaded(page) == wanted


def test_nobody_is_chosen(page, site, published, tmp_path):
    table = tmp_path / "people.csv"
    people(published).to_csv(table, index=False)
    give(page, table)
    move(page, 9)
    page.get_by_role("button", name="Download the plan").click()
    expect(page.locator("#plan-problem")).to_contain_text("nobody is chosen")
    expect(page.locator("#plan-progress")).to_be_empty()
    page.get_by_label("Address column").select_option("Contract")
    page.get_by_role("button", name="Download the plan").click()
    expect(page.locator("#plan-problem")).to_contain_text("Nobody in the table can be written to")
    assert shown_rows(page)[0] == ["2", "0000-MADEUP", "not a usable address: Month-to-month"]


def test_the_next_table_takes_the_last_plan_away(page, table, published_csv):
    give(page, table)
    downloaded(page)
    expect(page.locator("#left-out")).to_be_visible()
    page.set_input_files("#file", published_csv)
    expect(page.locator("#scored-title")).to_have_text("7,043 customers scored")
    expect(page.locator("#left-out")).to_be_hidden()
    expect(page.locator("#plan-progress")).to_be_empty()
    expect(page.get_by_role("button", name="Download the plan")).to_be_disabled()


def test_the_service_is_asked_for_reasons_of_the_chosen_alone(page, table):
    give(page, table)
    page.get_by_label("budget").fill("30")
    with page.expect_request("**/predict?explain=words&from=*") as asked:
        rows = [*csv.DictReader(io.StringIO(downloaded(page).decode(), newline=""))]
    assert asked.value.url.endswith(f"from={rows[-1]['probability']}")


def test_a_file_that_has_changed_is_said(page, table):
    give(page, table)
    table.write_text("something else, and later\n")
    page.get_by_role("button", name="Download the plan").click()
    expect(page.locator("#plan-problem")).to_have_text("The table's file has changed or is gone; choose it again.")


def test_the_keyboard_is_enough(page, table):
    give(page, table)
    page.get_by_label("Seed").focus()
    with page.expect_download():
        page.keyboard.press("Enter")
    expect(page.locator("#plan-progress")).to_contain_text("chosen")


@pytest.mark.parametrize("width", [320, 1280])
def test_it_is_for_everybody(page, table, width):
    page.set_viewport_size({"width": width, "height": 800})
    give(page, table)
    page.get_by_label("Seed").fill("")
    page.get_by_role("button", name="Download the plan").click()
    expect(page.locator("#plan-problem")).to_be_visible()
    found = Axe().run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.fixture
def without_reasons(pair: Any, tmp_path: Path) -> Iterator[Service]:
    """A service whose model says nothing of reasons, nor of its training."""
    vectorizer, classifier = pickle.loads(pickle.dumps(pair))
    for attribute in [name for name in vars(classifier) if name.startswith("serving_")]:
        delattr(classifier, attribute)
    file = tmp_path / "other.bin"
    file.write_bytes(pickle.dumps((vectorizer, classifier)))
    with running(GUNICORN, SERVING_MODEL=str(file)) as service:
        yield service


def test_a_model_without_reasons_has_a_plan_too(tabs, without_reasons, table):
    page = tabs(without_reasons.url).open()
    give(page, table)
    # This model knows no id, so that the address is it, and the column of ids goes along.
    page.get_by_label("budget").fill("20")
    plan = downloaded(page).decode()
    rows = [*csv.DictReader(io.StringIO(plan, newline=""))]
    assert len(rows) == 20
    assert {row["reasons"] for row in rows} == {""}
    assert [*rows[0]] == ["id", "email", "probability", "reasons", "group", "customerID", "Name", "Home page"]
    assert sum(row["group"] == "control" for row in rows) == 2


def test_the_digests_are_those_of_sha_256(page):
    texts = ["é" * (length % 5) + "x" * length for length in range(0, 200, 3)]
    script = "async (texts) => { const { sha256 } = await import('/static/sha256.js'); return texts.map(sha256); }"
    assert page.evaluate(script, texts) == [hashlib.sha256(text.encode()).hexdigest() for text in texts]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_the_report_is_one_file_that_everybody_can_read(chromium, published, tmp_path, site, scheme, width):
    table, outcomes, report = (tmp_path / name for name in ("people.csv", "outcomes.csv", "report.html"))
    people(published).to_csv(table, index=False)
    by_script(site, table, "--threshold", "0.1", "--control", "0.3")
    published.head(300)[["customerID", "Churn"]].to_csv(outcomes, index=False)
    done = run("campaign.py", "measure", str(table.with_name("campaign.csv")), str(outcomes), "--report", str(report))
    assert done.returncode == 0, done.stderr
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    assert asked == [report.as_uri()]
    expect(page.get_by_role("img", name="The difference")).to_be_visible()
    points = page.get_by_role("img", name="Calibration").locator("circle")
    assert points.count() == 10
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = Axe().run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    for line in done.stdout.splitlines()[:-1]:
        expect(page.locator("li", has_text=line[1:])).to_be_visible()
    context.close()
