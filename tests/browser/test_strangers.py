"""The page of models that strangers trained: the form has their fields, and the answer is their model's."""

import pytest
from playwright.sync_api import Page, expect
from test_shared_models import ENTRIES, MODELS, NAMES, serving

pytestmark = pytest.mark.skipif(not NAMES, reason=f"there are no model files in {MODELS}")

LINEAR, BOOSTED = ("LogisticRegression",), ("Booster", "XGBClassifier")

# Of each kind of names, values and models one.
SHOWN = (
    *("attrition-xgbclassifier-3.1-two-files", "bank-deposit-xgboost-dots-in-names", "course-2025-pipeline"),
    *("credit-default-linear", "heart-forest-1.6", "job-adverts-tree-1.1", "leads-linear-thousands-of-features"),
    *("stroke-linear-two-files", "telecom-linear-other-spelling"),
)


def fill(page: Page, name: str, value: object) -> None:
    """Put a value into a field of the form, as people do."""
    field = page.locator("#record-form").locator("select, input").and_(page.locator(f'[name="{name}"]'))
    if field.evaluate("field => field.localName") == "select":
        field.select_option(str(value))
    else:
        field.fill(str(int(value) if isinstance(value, bool) else value))


@pytest.mark.parametrize("name", SHOWN)
def test_the_form_has_the_models_fields_and_its_answer(tabs, name):
    entry = ENTRIES[name]
    with serving(name) as service:
        page = tabs(service.url).open()
        example = service.get("/model").json["example"]["probability"]
        expect(page.locator("#probability")).to_have_text(f"{100 * example:.1f}%")
        labels = page.locator("#record-form .field label").all_inner_texts()
        assert sorted(labels) == sorted(entry["fields"])
        for record, probability in [*zip(entry["records"], entry["probabilities"], strict=True)][:2]:
            for field, value in record.items():
                fill(page, field, value)
            expect(page.locator("#probability")).to_have_text(f"{100 * probability:.1f}%")
        expect(page.locator("#record-problem")).to_be_hidden()
        expect(page.locator("#decision")).to_have_text("churn" if probability >= 0.5 else "No churn")
        if entry["classifier"] not in LINEAR:  # those have no averages of their training
            unit = "log-odds" if entry["classifier"] in BOOSTED else "probability"
            expect(page.locator("#reasons-note")).to_contain_text(f"adds to the {unit} of churn")
            expect(page.locator("#reasons li")).to_have_count(len(entry["fields"]))
            # Largest first, and signed: numbers that are rounded, but in order.
            shares = [
                abs(float(text.replace("\N{MINUS SIGN}", "-")))
                for text in page.locator("#reasons .share").all_inner_texts()
            ]
            assert shares == sorted(shares, reverse=True)
            assert shares[0] > 0
