"""The made-up table that write_sklearn.py and write_xgboost.py train on, the same on every version of Python."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

FILES = Path(__file__).parent / "files"

CITIES = ["New York", "São Paulo", "Zürich", "Łódź"]
HISTORIES = ["late", "none yet", "paid back"]
CONTRACTS = ["monthly", "one year", "two years"]
NUMBERS = ["age", "balance", "bonus", "grade", "income"]

BLANKS = ["age", "balance", "income"]
GRADES = [0, 1, 2, 3, 4, 5, 6, 8, 9]
STRANGE_GRADES = [7, 12, -1, math.nan]  # between those of training, beyond them, below them, none

Record = dict  # of str to str, int or float


def table(seed: int, length: int) -> tuple[list[Record], list[int]]:
    """Records, and for each a 1 (yes) or 0 that depends on it, with noise.

    The decimals are none that a float32 can hold: libraries that compare float32 numbers must round them.
    """
    dice = random.Random(seed)
    records, answers = [], []
    for _ in range(length):
        record: Record = {
            "city": dice.choice(CITIES),
            "credit.history": dice.choice(HISTORIES),
            "contract": dice.choice(CONTRACTS),
            "age": dice.randint(18, 90),
            "grade": dice.choice(GRADES),
            "balance": round(dice.gauss(0, 2), 3),
            "bonus": 0.0 if dice.random() < 0.6 else round(dice.random() * 9, 2),
            "income": round(math.exp(dice.gauss(9.5, 0.8)), 3),
        }
        score = (
            -0.6
            + 1.2 * (record["credit.history"] == "late")
            - 0.9 * (record["contract"] == "two years")
            + 0.8 * (record["city"] in ("Zürich", "Łódź"))
            + 1.5 * (record["grade"] in (1, 4, 8))  # as a category's: no order of the codes tells them from the others
            - 0.03 * (record["age"] - 50)
            + 0.5 * record["balance"]
            - 0.7 * (record["bonus"] > 0)
            + 0.8 * (record["income"] > 12345.678)
        )
        records.append(record)
        answers.append(int(dice.random() < 1 / (1 + math.exp(-score))))
    return records, answers


def without(records: list[Record], answers: list[int], fields: list[str], seed: int) -> list[Record]:
    """The records with NaN in some of these fields, more often where the answer is yes: a blank tells something."""
    dice = random.Random(seed)
    blanked = []
    for record, answer in zip(records, answers):  # noqa: B905 (Python 3.8 knows no strict)
        blanks = {name: math.nan for name in fields if dice.random() < (0.35 if answer else 0.12)}
        blanked.append({**record, **blanks})
    return blanked


def with_strange_grades(records: list[Record]) -> list[Record]:
    """The records, every third of them with a grade that training never saw."""
    return [
        {**record, "grade": STRANGE_GRADES[i // 3 % len(STRANGE_GRADES)]} if i % 3 == 0 else record
        for i, record in enumerate(records)
    ]


TRAINING, ANSWERS = table(seed=1, length=300)
VALIDATION, VALIDATION_ANSWERS = table(seed=2, length=100)

# What the models are asked: a part of the training table, whose values are those that splits lie at, and new records.
_NEW, _NEW_ANSWERS = table(seed=3, length=20)
_ASKED, _ASKED_ANSWERS = TRAINING[:20] + _NEW, ANSWERS[:20] + _NEW_ANSWERS
_ASKED_BLANKS = without(_ASKED, _ASKED_ANSWERS, BLANKS, seed=4)

TRAININGS: dict[str, list[Record]] = {"plain": TRAINING, "blanks": without(TRAINING, ANSWERS, BLANKS, seed=5)}
TRAININGS["codes"] = TRAINING
TRAININGS["codes and blanks"] = without(TRAINING, ANSWERS, [*BLANKS, "grade"], seed=5)
RECORDS: dict[str, list[Record]] = {
    "plain": _ASKED,
    "blanks": _ASKED_BLANKS,
    "codes": with_strange_grades(_ASKED),
    "codes and blanks": with_strange_grades(_ASKED_BLANKS),
}


def blanks(name: str) -> list[str]:
    """The fields that are blank in any of these records."""
    return sorted({field for record in RECORDS[name] for field, value in record.items() if value != value})


def contributions(names: list[str], values: Any) -> list[dict[str, float]]:
    """The contributions of each record's features, by their names; those of nothing are left out."""
    return [{name: float(row[i]) for i, name in enumerate(names) if row[i]} for row in values]


def write_json(path: Path, content: Any) -> None:
    """A file of JSON, in few bytes. Its numbers are exact: Python writes as many digits as it takes."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")


def write_records() -> None:
    """The sets of records, with null for NaN, which JSON lacks. All versions of all libraries are asked the same."""
    sets = {
        name: [{field: None if value != value else value for field, value in record.items()} for record in records]
        for name, records in RECORDS.items()
    }
    write_json(FILES / "records.json", sets)
