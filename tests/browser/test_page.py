"""The page for people, used as people use it."""

import base64
import csv
import io
import json
import pickle

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import GUNICORN, running
from playwright.sync_api import expect

from serving.training.telecom import SCHEMA


@pytest.fixture
def scored(site, published_csv):
    """The API's answer to the real table."""
    return site.predict(published_csv.read_bytes(), "text/csv").body


def drop(page, path):
    """Drop a file on the page's drop zone, as the mouse does."""
    data = page.evaluate_handle(
        """([base64, name]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(base64), (each) => each.charCodeAt(0))], name));
            return data;
        }""",
        [base64.b64encode(path.read_bytes()).decode(), path.name],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})


def with_commas(frame):
    return frame.replace(r"^(\d+)\.(\d+)$", r"\1,\2", regex=True)


def percent(probability):
    return f"{100 * probability:.1f}%"


def number(page, selector):
    return int(page.inner_text(selector).strip("≈ ").replace(",", ""))


# One record


def test_the_form_has_the_fields_of_the_schema_and_the_seed_customer(page, customer):
    fields = page.evaluate("Object.fromEntries(new FormData(document.getElementById('record-form')))")
    assert list(fields) == [field.name for field in SCHEMA.fields]
    assert fields == {
        name: str(round(value, 2) if name == "totalcharges" else value) for name, value in customer.items()
    }
    for field in SCHEMA.fields:
        if field.is_category:
            options = page.locator(f"[name={field.name}] option").evaluate_all(
                "options => options.map(each => each.value)"
            )
            assert options == [str(value) for value in field.values]


def test_the_answer_follows_a_field(page, site, customer):
    expect(page.locator("#probability")).to_have_text("33.9%")
    expect(page.locator("#decision")).to_have_text("No discount")
    card = page.locator("#answer").evaluate("card => getComputedStyle(card).backgroundColor")
    page.fill("[name=tenure]", "1")
    page.fill("[name=totalcharges]", "29.85")
    expect(page.locator("#probability")).to_have_text("62.8%")
    expect(page.locator("#decision")).to_have_text("Send the discount")
    expect(page.locator("#answer")).to_have_css("background-color", card)
    page.select_option("[name=internetservice]", "fiber_optic")
    changed = customer | {"tenure": 1, "totalcharges": 29.85, "internetservice": "fiber_optic"}
    expect(page.locator("#probability")).to_have_text(percent(site.predict(changed).json["churn_probability"]))


def test_a_two_year_contract_is_one_click_and_the_first_customer_another(page, site, customer):
    page.get_by_role("button", name="Two year").click()
    answer = site.predict(customer | {"contract": "two_year"}).json
    expect(page.locator("#probability")).to_have_text(percent(answer["churn_probability"]))
    expect(page.locator("[name=contract]")).to_have_value("two_year")
    expect(page.get_by_role("button", name="Two year")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Back to the first customer").click()
    expect(page.locator("#probability")).to_have_text("33.9%")
    expect(page.get_by_role("button", name="Two year")).to_have_attribute("aria-pressed", "false")


def test_the_reasons_are_the_services_in_its_order_and_the_forms_words(page, site, customer):
    asked = json.dumps(customer | {"contract": "two_year"}).encode()
    answer = site.request("POST", "/predict?explain=true", asked, {"Content-Type": "application/json"})
    page.select_option("[name=contract]", "two_year")
    expect(page.locator("#reasons li[data-field=contract] .name")).to_have_text("Contract: Two year")
    reasons = answer.json["reasons"]
    rows = page.locator("#reasons li").evaluate_all("rows => rows.map(row => row.dataset.field)")
    assert rows == [reason["field"] for reason in reasons]
    for reason in reasons:
        row = page.locator(f"#reasons li[data-field={reason['field']}]")
        expect(row.locator(".share")).to_have_text(f"{reason['share']:+.2f}".replace("-", "\N{MINUS SIGN}"))
        towards = "yes" if reason["share"] > 0 else "no"
        expect(row.locator(".towards")).to_have_class(f"towards {towards}")


def test_an_error_is_said_beside_its_field(page):
    page.fill("[name=tenure]", "-1")
    problem = page.locator("[data-of=tenure]")
    expect(problem).to_have_text("-1 is not a whole number from 0 to 9007199254740991")
    expect(page.locator("[name=tenure]")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[name=tenure]")).to_have_accessible_description(problem.inner_text())
    page.fill("[name=monthlycharges]", "")
    expect(page.locator("[data-of=monthlycharges]")).to_have_text("it is missing")
    page.fill("[name=tenure]", "24")
    page.fill("[name=monthlycharges]", "29.85")
    expect(problem).to_be_hidden()
    expect(page.locator("#record-problem")).to_be_hidden()
    expect(page.locator("[name=tenure]")).to_have_attribute("aria-invalid", "false")


def test_the_last_change_wins_over_a_slow_answer(page, site, customer):
    held = []

    def hold_one_year(route):
        if '"one_year"' in route.request.post_data:
            held.append(route)
        else:
            route.continue_()

    page.route("**/predict*", hold_one_year)
    page.get_by_role("button", name="One year").click()
    page.wait_for_timeout(300)
    page.get_by_role("button", name="Two year").click()
    two_years = percent(site.predict(customer | {"contract": "two_year"}).json["churn_probability"])
    expect(page.locator("#probability")).to_have_text(two_years)
    [late] = held
    late.abort()
    page.wait_for_timeout(300)
    expect(page.locator("#probability")).to_have_text(two_years)
    expect(page.locator("#record-problem")).to_be_hidden()


def test_the_keyboard_is_enough(page):
    page.locator("[name=contract]").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("[name=contract]")).to_have_value("one_year")
    page.locator("#probability").filter(has_not_text="33.9%").wait_for()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")  # the button before it
    expect(page.locator("[name=contract]")).to_have_value("two_year")


# A table


def test_the_real_table_is_scored_as_the_api_does_it(page, site, published_csv, scored):
    drop(page, published_csv)
    expect(page.locator("#scored-title")).to_have_text("7,043 customers scored")
    expect(page.locator("#bad")).to_be_hidden()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the scored table").click()
    assert download.value.suggested_filename == "telco-scored.csv"
    assert download.value.path().read_bytes() == scored

    rows = csv.DictReader(io.StringIO(scored.decode()))
    probabilities = [float(row["churn_probability"]) for row in rows]
    assert number(page, "#chosen") == sum(probability >= 0.5 for probability in probabilities)
    page.locator("#threshold").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#threshold-shown")).to_have_text("70%")
    letters = sum(probability >= 0.7 for probability in probabilities)
    assert number(page, "#chosen") == letters

    [tested] = [each for each in site.get("/model").json["training"]["thresholds"] if each["threshold"] == 0.7]
    assert number(page, "#positives") == round(letters * tested["positives"] / tested["chosen"])
    assert number(page, "#positives") + number(page, "#negatives") == letters
    assert "estimates from the test part" in page.inner_text("#estimate-note")
    bars = page.locator("#histogram .bar").evaluate_all("bars => bars.map(bar => bar.classList.contains('chosen'))")
    assert bars == [False] * 14 + [True] * 6


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Zoë.xlsx", lambda frame, file: frame.to_excel(file, index=False)),
        (
            "europe.csv",
            lambda frame, file: with_commas(frame).to_csv(file, index=False, sep=";", encoding="windows-1252"),
        ),
        ("unicode.txt", lambda frame, file: frame.to_csv(file, index=False, sep="\t", encoding="utf-16")),
        ("bars.csv", lambda frame, file: frame.to_csv(file, index=False, sep="|")),
    ],
)
def test_a_table_in_another_form_is_scored_and_shown(page, site, published, tmp_path, name, written):
    frame = published.head(50).copy()
    answer = site.predict(frame.to_csv(index=False).encode(), "text/csv")
    plain = list(csv.DictReader(io.StringIO(answer.body.decode())))
    frame.loc[3, ["customerID", "Contract"]] = ["Zoë", "weekly"]
    written(frame, tmp_path / name)
    drop(page, tmp_path / name)
    expect(page.locator("#scored-title")).to_have_text("49 customers scored")
    rows = [row for at, row in enumerate(plain) if at != 3]
    assert number(page, "#chosen") == sum(row["churn"] == "true" for row in rows)
    cells = page.locator("#bad-rows tr td")
    expect(cells.nth(0)).to_have_text("5")
    expect(cells.nth(1)).to_have_text("Zoë")
    expect(cells.nth(2)).to_contain_text('contract: the text "weekly"')
    assert [each["id"] for each in Axe().run(page).response["violations"] if serious(each)] == []
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the scored table").click()
    assert download.value.suggested_filename == f"{name.split('.')[0]}-scored.csv"
    saved = download.value.path().read_bytes()
    assert saved == site.predict((tmp_path / name).read_bytes(), "text/csv").body


def test_bad_rows_are_listed_and_the_others_scored(page, published_csv, tmp_path):
    lines = published_csv.read_text().splitlines()[:100]
    lines[3] = lines[3].replace("Month-to-month", "weekly")
    lines[10:12] = ['"x, ""y""\nz",too short', ""]
    table = tmp_path / "bad.csv"
    table.write_text("\n".join(lines).replace(",", ";"))
    page.set_input_files("#file", table)
    expect(page.locator("#scored-title")).to_have_text("96 customers scored")
    expect(page.locator("#bad-title")).to_have_text("2 rows could not be scored")
    first, second = (page.locator("#bad-rows tr").nth(place) for place in (0, 1))
    expect(first.locator("td").nth(0)).to_have_text("4")
    expect(first.locator("td").nth(1)).to_have_text("0002-MADEUP")
    expect(first.locator("td").nth(2)).to_contain_text('contract: the text "weekly"')
    expect(second.locator("td").nth(1)).to_have_text('x; "y"\nz')
    expect(second.locator("td").nth(2)).to_contain_text("the row has 2 cells")


def test_a_table_that_lacks_columns_is_refused_in_words(page, published_csv, tmp_path):
    table = tmp_path / "narrow.csv"
    table.write_text("customerID,Contract\n1,Two year\n")
    page.set_input_files("#file", table)
    problem = page.get_by_role("alert").filter(has_text="header")
    expect(problem).to_contain_text("tenure: the table lacks this column")
    expect(page.locator("#scored")).to_be_hidden()
    page.set_input_files("#file", published_csv)  # and the next table is welcome
    expect(page.locator("#scored-title")).to_have_text("7,043 customers scored")
    expect(problem).to_be_hidden()


def test_a_long_table_leaves_the_page_alive(page, published_csv, tmp_path):
    header, *rows = published_csv.read_text().splitlines()
    table = tmp_path / "long.csv"
    table.write_text("\n".join([header, *(rows * 15)[:100_000]]))
    page.set_input_files("#file", table)
    expect(page.locator("#progress")).to_be_visible()
    page.get_by_role("button", name="Two year").click()  # while the table is under way
    expect(page.locator("[name=contract]")).to_have_value("two_year")
    expect(page.locator("#scored-title")).to_have_text("100,000 customers scored", timeout=60_000)


# The model


def test_the_model_is_shown_with_its_figures(page, site):
    training = site.get("/model").json["training"]
    section = page.locator("#model")
    for figure in ("7,043", f"{training['auc']['test']:.3f}", f"{training['log_loss']:.3f}"):
        expect(section).to_contain_text(figure)
    expect(section.get_by_role("img", name="ROC curve")).to_be_visible()
    assert section.get_by_role("img", name="Calibration").locator("circle").count() == len(training["calibration"])
    page.locator("summary").click()
    assert page.locator("#thresholds tbody tr").count() == len(training["thresholds"])


def test_a_model_of_another_script_has_a_page_too(tabs, pair, published_csv, tmp_path):
    vectorizer, classifier = pickle.loads(pickle.dumps(pair))
    for attribute in [name for name in vars(classifier) if name.startswith("serving_")]:
        delattr(classifier, attribute)
    file = tmp_path / "other.bin"
    file.write_bytes(pickle.dumps((vectorizer, classifier)))
    with running(GUNICORN, SERVING_MODEL=str(file)) as service:
        page = tabs(service.url).open()
        expect(page.locator("#probability")).to_have_text(percent(service.get("/model").json["example"]["probability"]))
        expect(page.locator("#reasons-note")).to_contain_text("no training averages")
        expect(page.locator("#model")).to_contain_text("carries no training figures")
        expect(page.locator("#lately-summary")).to_contain_text("does not tell what its training was like")
        page.set_input_files("#file", published_csv)
        expect(page.locator("#estimate-note")).to_contain_text("not known")
        expect(page.locator("#positives")).to_be_hidden()
        assert number(page, "#chosen") > 0


# Everywhere


def test_a_key_is_asked_for_and_kept_out_of_addresses(tabs):
    with running(GUNICORN, SERVING_API_KEYS="4d0fa1-é") as service:
        tab = tabs(service.url)
        page = tab.open()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("The service wants a key")
        page.get_by_label("API key").fill("wrong\u200b")  # an invisible letter
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("not one of this service's")
        page.get_by_label("API key").fill("4d0fa1-é")
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#probability")).to_have_text("33.9%")
        page.reload()  # the tab still knows it
        expect(page.locator("#probability")).to_have_text("33.9%")
        expect(dialog).to_be_hidden()
        assert not [address for address in tab.addresses if "4d0fa1" in address]


def test_without_a_key_the_page_says_so(tabs):
    with running(GUNICORN, SERVING_API_KEYS="4d0fa1") as service:
        page = tabs(service.url).open()
        page.get_by_role("button", name="Cancel").last.click()
        expect(page.locator("#record-problem")).to_contain_text("wants an API key")


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_cut_off_on_a_narrow_screen(page, published_csv, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.set_input_files("#file", published_csv)
    expect(page.locator("#scored-title")).to_be_visible()
    page.locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(page, published_csv, tmp_path, scheme, width):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 900})
    table = tmp_path / "bad.csv"
    header, *rows = published_csv.read_text().splitlines()[:50]
    rows = [f"{row},{place}@example.com" for place, row in enumerate(rows)]
    table.write_text("\n".join([f"{header},email", *rows, "too,short"]))
    page.set_input_files("#file", table)
    expect(page.locator("#bad-title")).to_be_visible()
    with page.expect_download():
        page.get_by_role("button", name="Download the plan").click()
    expect(page.locator("#left-out-title")).to_be_visible()
    page.fill("#seed", "-1")
    page.get_by_role("button", name="Download the plan").click()
    expect(page.locator("#plan-problem")).to_be_visible()
    page.locator("#left-out").evaluate("part => (part.hidden = false)")  # both at once
    page.locator("summary").click()
    page.fill("[name=tenure]", "-1")
    expect(page.locator("[data-of=tenure]")).to_be_visible()
    found = Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found if serious(each)] == []


def serious(violation):
    return violation["impact"] in ("serious", "critical")


def test_the_docs_show_the_interface(tabs):
    page = tabs().open("/docs")
    operation = page.locator("[id$=-predict].opblock")
    operation.get_by_role("button").first.click()
    expect(operation).to_contain_text("Something is invalid")
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table")).to_contain_text('"churn_probability": 0.339')


# Lately


def lately(page):
    """The rows of what was asked lately, by field."""
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("#lately-rows tr").all()]
    return {name: cells for name, *cells in rows}


def test_what_has_changed_lately_stands_first(tabs, published, tmp_path):
    table = tmp_path / "customers.csv"
    charges = published["MonthlyCharges"].astype(float) / 2
    published.assign(MonthlyCharges=charges, Contract="Two year").to_csv(table, index=False)
    with running([*GUNICORN, "--workers", "1"]) as service:
        page = tabs(service.url).open()
        expect(page.locator("#lately-summary")).to_have_text(
            "They are too few, or those of the training were, to tell whether anything has changed."
        )
        page.set_input_files("#file", table)
        expect(page.locator("#scored-title")).to_be_visible()
        page.get_by_role("button", name="Refresh").click()
        expect(page.locator("#lately-summary")).to_have_text(
            "Not as in training: Probability of leaving, Contract, Monthly charges."
        )
        expect(page.locator("#lately-records")).to_contain_text("customers scored since the start.")
        rows = lately(page)
    assert [*rows][:3] == ["Probability of leaving", "Contract", "Monthly charges"]
    assert rows["Contract"][0] == "changed a lot"
    assert rows["Contract"][2] == "Month-to-month: 0.0%, in training 55.0%"
    assert rows["Monthly charges"][3] == "25.4%"
    assert rows["Total charges"] == ["alike", "0.00", "–", "–", "0.2%", "–"]


def test_lately_waits_for_a_key_without_asking(tabs):
    with running(GUNICORN, SERVING_METRICS_KEY="4d0fa1") as service:
        page = tabs(service.url).open()
        expect(page.locator("#probability")).to_have_text("33.9%")
        expect(page.locator("#lately-problem")).to_have_text("The service wants an API key.")
        expect(page.get_by_role("dialog")).to_be_hidden()
        page.get_by_role("button", name="Refresh").click()
        page.get_by_label("API key").fill("4d0fa1")
        page.keyboard.press("Enter")
        expect(page.locator("#lately-records")).to_contain_text("scored since the start")
        expect(page.locator("#lately-problem")).to_be_hidden()
