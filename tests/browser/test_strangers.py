"""The page of models that strangers trained: the form has their fields, and the answer is their model's."""

import pytest
from playwright.sync_api import Page, expect
from test_shared_models import ENTRIES, MODELS, NAMES, serving

pytestmark = pytest.mark.skipif(not NAMES, reason=f"there are no model files in {MODELS}")


def fill(page: Page, name: str, value: object) -> None:
    """Put a value into a field of the form, as people do."""
    field = page.locator("#record-form").locator("select, input").and_(page.locator(f'[name="{name}"]'))
    if field.evaluate("field => field.localName") == "select":
        field.select_option(str(value))
    else:
        field.fill(str(value))


@pytest.mark.parametrize("name", NAMES)
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
