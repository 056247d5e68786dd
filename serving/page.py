"""What the page for people shows, ready for its template."""

from typing import Any, NamedTuple

from serving.about import Served
from serving.customer import FIELDS, SEED_CUSTOMER, Field

# Names and values that read better than their own words do.
WORDS = {
    "seniorcitizen": "Senior citizen",
    "phoneservice": "Phone service",
    "multiplelines": "Multiple lines",
    "internetservice": "Internet service",
    "onlinesecurity": "Online security",
    "onlinebackup": "Online backup",
    "deviceprotection": "Device protection",
    "techsupport": "Tech support",
    "streamingtv": "Streaming TV",
    "streamingmovies": "Streaming movies",
    "paperlessbilling": "Paperless billing",
    "paymentmethod": "Payment method",
    "tenure": "Tenure, in months",
    "monthlycharges": "Monthly charges",
    "totalcharges": "Total charges",
    "dsl": "DSL",
    "0": "No",
    "1": "Yes",
}

# The form's parts, by the field that each begins with.
PARTS = {"gender": "Person", "phoneservice": "Services", "contract": "Contract"}

# The field whose values the form also has as buttons: what a campaign can offer.
WHAT_IF = "contract"

# The side of a picture's square, in its own units.
SIDE = 300


class Input(NamedTuple):
    """A field as the form shows it; one without options is a number."""

    name: str
    label: str
    value: str
    options: list[tuple[str, str]]
    is_number: bool
    step: str


def parts() -> list[tuple[str, list[Input]]]:
    """The form's parts with their fields, filled with the seed customer."""
    found: list[tuple[str, list[Input]]] = []
    for field in FIELDS:
        if field.name in PARTS or not found:
            found.append((PARTS.get(field.name, ""), []))
        found[-1][1].append(_input(field))
    return found


def _input(field: Field) -> Input:
    value = getattr(SEED_CUSTOMER, field.name)
    values = field.allowed if not isinstance(field.allowed, str) else ()
    return Input(
        name=field.name,
        label=_words(field.name),
        value=str(round(value, 2) if isinstance(value, float) else value),
        options=[(str(each), _words(str(each))) for each in values],
        is_number=not isinstance(value, str),
        step="1" if isinstance(value, int) else "any",
    )


def _words(name: str) -> str:
    spelt_out = name.replace("_", " ")
    return WORDS.get(name, spelt_out[:1].upper() + spelt_out[1:])


def line(pairs: list[tuple[float, float]]) -> str:
    """Pairs of numbers from 0 to 1 as the points of an SVG line, from the lower left."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in dots(pairs))


def dots(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same pairs as places in the square of a picture."""
    return [(SIDE * x, SIDE * (1 - y)) for x, y in pairs]


def context(model: Served) -> dict[str, Any]:
    """What the template needs."""
    tenths = model.training.calibration if model.training else []
    return {
        "parts": parts(),
        "what_if": WHAT_IF,
        "model": model,
        "calibration": [(tenth.predicted, tenth.observed) for tenth in tenths],
        "line": line,
        "dots": dots,
        "side": SIDE,
    }
