"""Tables as pandas, LibreOffice, Excel and people write them say the same as the plain one."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from conftest import InProcess

import predict
from serving import schema as schemas
from serving.errors import BadTable
from serving.tables import reader
from serving.tables.rows import RowReader
from serving.training import any_table, table, telecom
from serving.training.any_table import Asked

CSV = "text/csv"
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
in_process = InProcess(predict.app.test_client())

ROWS = 700  # more than are read at once
NUMBERS = ["MonthlyCharges", "TotalCharges"]


@pytest.fixture(scope="session")
def typed(published) -> pd.DataFrame:
    """The published table as pandas reads it, with letters that are not ASCII."""
    frame = published.head(ROWS).copy()
    for name in ("SeniorCitizen", "tenure"):
        frame[name] = frame[name].astype(int)
    frame["MonthlyCharges"] = frame["MonthlyCharges"].astype(float)
    frame["TotalCharges"] = pd.to_numeric(frame["TotalCharges"], errors="coerce")
    assert frame["TotalCharges"].isna().any()
    frame["Name"] = [f"Zoë {number}, Straße 5; links" for number in range(ROWS)]
    return frame


@pytest.fixture(scope="session")
def plain(typed) -> bytes:
    return typed.to_csv(index=False).encode()


def in_csv(frame: pd.DataFrame, encoding: str = "utf-8", **options) -> bytes:
    return frame.to_csv(index=False, **options).encode(encoding)


def with_text(frame: pd.DataFrame, name: str, written: Callable) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].map(lambda value: "" if pd.isna(value) else written(value))})


def with_thousands(frame: pd.DataFrame, thousands: str, decimal: str) -> pd.DataFrame:
    """The charges as accountants write them: 1,234.50 or 1.234,50."""

    def written(value: float) -> str:
        return f"{value:,.2f}".translate({ord(","): thousands, ord("."): decimal})

    for name in NUMBERS:
        frame = with_text(frame, name, written)
    return frame


def in_excel(frame: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.to_excel(file, index=False, engine="openpyxl")
    return file.getvalue()


def for_yes_and_no(frame: pd.DataFrame, yes: object, no: object) -> pd.DataFrame:
    """The columns of yes and no, and of 1 and 0, with other words."""
    words = {"Yes": yes, "No": no, 1: yes, 0: no}
    names = ["SeniorCitizen", "Partner", "Dependents", "PhoneService", "PaperlessBilling", "Churn"]
    return frame.assign(**{name: frame[name].map(lambda value: words[value]) for name in names})


def by_hand(frame: pd.DataFrame) -> bytes:
    """A workbook that begins further down and to the right, and ends with rows that are only painted."""
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    for row, cells in enumerate([list(frame.columns), *frame.astype(object).to_numpy().tolist()], start=3):
        for column, value in enumerate(cells, start=2):
            sheet.cell(row, column, None if value != value else value)
    for row in range(ROWS + 4, ROWS + 9):
        sheet.cell(row, 2).fill = openpyxl.styles.PatternFill("solid", "FFFF00")
    workbook.create_sheet("notes")["A1"] = "not this one"
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


FORMS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    **{
        f"{encoding}, {delimiter!r}, decimal {decimal}": lambda frame, e=encoding, s=delimiter, d=decimal: in_csv(
            frame, e, sep=s, decimal=d
        )
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "windows-1252")
        for delimiter in ",;\t|"
        for decimal in ".,"
        if delimiter != "," or decimal == "."
    },
    "utf-16, big end first": lambda frame: b"\xfe\xff" + in_csv(frame, "utf-16-be", sep="\t"),
    **{
        f"blanks are {word!r}": lambda frame, word=word: in_csv(frame, na_rep=word)
        for word in ("NA", "N/A", "<NA>", "NaN", "null", "None", "?", "nan", " ")
    },
    "True and False": lambda frame: in_csv(for_yes_and_no(frame, True, False)),
    "yes and no": lambda frame: in_csv(for_yes_and_no(frame, "yes", "no")),
    "1 and 0": lambda frame: in_csv(for_yes_and_no(frame, 1, 0)),
    "1.0 and 0.0": lambda frame: in_csv(for_yes_and_no(frame, 1.0, 0.0)),
    "1,0 and 0,0": lambda frame: in_csv(for_yes_and_no(frame, 1.0, 0.0), sep=";", decimal=","),
    "whole numbers as floats": lambda frame: in_csv(frame.assign(tenure=frame["tenure"].astype(float))),
    "thousands in quotes": lambda frame: in_csv(with_thousands(frame, ",", ".")),
    "thousands with points": lambda frame: in_csv(with_thousands(frame, ".", ","), sep=";"),
    "LibreOffice": lambda frame: in_csv(frame, sep=";", decimal=",", quoting=csv.QUOTE_NONNUMERIC),
    "LibreOffice, all in quotes, tabs": lambda frame: in_csv(frame, sep="\t", decimal=",", quoting=csv.QUOTE_ALL),
    "Excel's CSV in Europe": lambda frame: in_csv(frame, "windows-1252", sep=";", decimal=",", lineterminator="\r\n"),
    "Excel's Unicode text": lambda frame: in_csv(frame, "utf-16", sep="\t", lineterminator="\r\n"),
    "a header over lines": lambda frame: in_csv(frame.rename(columns={"Name": "name;\tand\r\n\nstreet, |"}), sep=";"),
    "Excel": in_excel,
    "Excel, with booleans": lambda frame: in_excel(for_yes_and_no(frame, True, False)),
    "Excel, numbers as text": lambda frame: in_excel(with_thousands(frame, ",", ".").astype({"tenure": str})),
    "Excel, by hand": by_hand,
}


def probabilities(body: bytes, kind: str = CSV) -> list[float]:
    """What the service says of a table; every row of it must be a record."""
    answer = in_process.predict(body, kind)
    assert answer.status == 200, answer
    with reader.Table(io.BytesIO(body)) as found:
        dialect = found.dialect
    text = answer.body.decode(dialect.encoding).removeprefix("\ufeff")
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter)
    assert header[-4:] == ["churn_probability", "churn", "note", "error"]
    assert {row[-1] for row in rows} == {""}
    sign = "," if "29,85" in text else "."  # the charges of the first customer
    assert {sign in row[-4] for row in rows} == {True}
    return [float(row[-4].replace(",", ".")) for row in rows]


@pytest.fixture(scope="session")
def expected(plain) -> list[float]:
    return probabilities(plain)


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_another_form_gets_the_same_scores(typed, expected, form):
    assert probabilities(FORMS[form](typed)) == expected


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_another_form_trains_the_same(typed, plain, tmp_path, form):
    def read(body: bytes) -> table.TrainingTable:
        Path(tmp_path, "table").write_bytes(body)
        return telecom.of_text(table.read(tmp_path / "table"))

    assert read(FORMS[form](typed)) == read(plain)


# How one column of charges is written in a table with this delimiter, and what its cells are: None is a row's error.
CHARGES = [
    (",", ["29.85", "1,234.5", "1,234", "12,34.5", "29,85", "1234,567"], [29.85, 1234.5, 1234, None, None, None]),
    (",", ["70", "7.5", "0,123", "012,345", "1,2345", ",5"], [70, 7.5, None, None, None, None]),
    (";", ["29,85", "1.234,5", "12.345", "12.34,5", "29.85", "1,234.5"], [29.85, 1234.5, 12345, None, None, None]),
    ("\t", ["29.85", "70.5", "30.5", "1,5", "1.234,5", "9,234"], [29.85, 70.5, 30.5, None, None, 9234]),
    ("\t", ["29.85", "70.5", "1,234.5", "9,234", "1,5", "1,234,567"], [29.85, 70.5, 1234.5, 9234, None, 1234567]),
    (";", ["9,234", "1,234,567", "1,234,567.5", "12", "9.234", "x"], [9234, 1234567, 1234567.5, 12, 9.234, None]),
    (",", ["$84,835.00 ", "-$5", "€ 12.5", "12.5%", "7 %", "$ 5 €"], [84835, -5, 12.5, 12.5, 7, None]),
    (
        ";",
        ["1\u202f234,5", "1\xa0234\xa0567", "12,5\xa0€", "84 835,00", "1 2", "12 34"],
        [1234.5, 1234567, 12.5, 84835, None, None],
    ),
    (
        ",",
        ["1'234.5", "CHF 5", "1\u2019234\u2019567", "84 835", "1 234 56", "1 234,567"],
        [1234.5, None, 1234567, 84835, None, None],
    ),
    (";", ["1.234,50 €", "€12,5", "-3 %", "84.835 $", "12,5 x", "%"], [1234.5, 12.5, -3, 84835, None, None]),
    ("\t", ["29.85 %", "$1,234.5", "£1", "¥-1", "+₹1", "1.5$%"], [29.85, 1234.5, 1, -1, 1, None]),
    (",", ["(1,191.38)", "($5)", "(7", "()", "(a)", "12"], [-1191.38, -5, None, None, None, 12]),
    ("\t", ["950", "870", "$1,234", "2,345", "£-7", "x"], [950, 870, 1234, 2345, -7, None]),
    ("|", ["70", "1.234", "12.345", "1,5", ",5", "1.5"], [70, 1234, 12345, 1.5, 0.5, None]),
    (";", ["70", "1.2345", "1.234", "0.125", "1e-3", "1,5"], [70, 1.2345, 1.234, 0.125, 0.001, None]),
    (";", ["1,5e-3", " 7,5 ", "+1,5", "0,0", "1.234.567,8", ","], [0.0015, 7.5, 1.5, 0, 1234567.8, None]),
    (";", ["1,5E2", "-1.234,5E1", "\u0661,\u0665", "1.5E2"], [150, -12345, None, None]),  # no Arabic digits
]


@pytest.mark.parametrize(("delimiter", "cells", "values"), CHARGES)
def test_a_column_has_one_way_of_writing_numbers_and_else_a_rows_error(delimiter, cells, values):
    schema = schemas.from_features(["amount", "kind=a", "kind=b"], "=")
    rows = [[cell, "a"] for cell in cells]
    records, wrong = RowReader(schema, ["amount", "kind"], delimiter=delimiter)(rows)
    assert [*wrong] == [place for place, value in enumerate(values) if value is None]
    assert records.columns[0] == [value for value in values if value is not None]


def test_what_the_first_rows_have_shown_holds_for_the_others():
    schema = schemas.from_features(["amount", "price"], "=")
    read_rows = RowReader(schema, ["amount", "price"], delimiter=";")
    found = read_rows([["70", "80"]])  # nothing is shown yet
    assert found.records.columns == [[70], [80]]
    read_rows([["70", "29.85"]])
    found = read_rows([["1.234", "1.234"], ["70", "1,5"]])  # as the other column has it
    assert (found.records.columns, [*found.wrong]) == ([[1.234], [1.234]], [1])
    other = RowReader(schema, ["amount", "price"], delimiter="\t")
    found = other([["1.5", "70"], ["2.5", "1,234"]])  # so that it is no 1.234
    assert (found.records.columns, [*found.wrong]) == ([[1.5, 2.5], [70, 1234]], [])


@pytest.mark.parametrize(
    "cell",
    [" " * 100_000 + "x", "1 111" + "\t" * 100_000 + "x", "$" * 100_000, "1,111" * 20_000, "(" * 50_000 + ")" * 50_000],
)
@pytest.mark.parametrize("delimiter", ",;")
def test_what_is_not_quite_a_number_takes_no_time(cell, delimiter):
    schema = schemas.from_features(["amount", "kind=a"], "=")
    assert [*RowReader(schema, ["amount", "kind"], delimiter=delimiter)([["7", "a"], [cell, "a"]]).wrong] == [1]


def test_a_value_that_looks_like_a_number_is_itself():
    schema = schemas.from_features(["share=50%", "share=5", "paid=free", "paid=$5", "paid"], "=")
    rows = [["50%", "free"], [" 50% ", "$5"], ["5", " $5 "], ["5 %", "7"], ["$5", "$7"], ["50 %", "8 %"]]
    records, wrong = RowReader(schema, ["share", "paid"])(rows)
    assert records.columns == [["50%", "50%", "5"], ["free", "$5", "$5"]]
    assert [*wrong] == [3, 4, 5]


def test_numbers_are_trained_on_as_the_first_500_rows_show_them_which_is_how_they_are_scored(tmp_path):
    lines = [f"{1 + row % 8}.{row % 9}{row % 7}{row % 5};{'yes' if row % 3 else 'no'}" for row in range(600)]
    file = tmp_path / "table.csv"
    file.write_text("\n".join(["price;churn", *lines, "2,5;yes"]))
    [field] = any_table.read(file, Asked())[0].schema.fields
    assert (field.least, field.greatest) == (2.5, max(int(line[:5].replace(".", "")) for line in lines))
    file.write_text("\n".join(["price;churn", *lines, "2.5;yes"]))
    with pytest.raises(BadTable, match=r"price has numbers, and 2\.5, a number that is written otherwise"):
        any_table.read(file, Asked())


def test_the_note_says_that_a_row_was_read_as_windows_1252(rows_of):
    header, *rows = rows_of(["Ana", "Zoë", "Bob", "Ÿ"])
    cells = rows[3].split(",")
    cells[header.split(",").index("MonthlyCharges")] = "1189.35"
    rows[3] = ",".join(cells)
    text = "\n".join([header, *rows])
    answer = in_process.predict(text.encode("windows-1252"), CSV)
    assert answer.headers["content-type"] == "text/csv; charset=windows-1252"
    found = [*csv.reader(io.StringIO(answer.body.decode("windows-1252")))]
    assert [row[-2] for row in found[1:]] == [
        *("", "read as Windows-1252", ""),
        "unusual: monthlycharges; read as Windows-1252",
    ]
    assert [row[0] for row in found[1:]] == ["Ana", "Zoë", "Bob", "Ÿ"]
    header, *rows = rows_of(["Ana", "Bob"])
    answer = in_process.predict("\n".join(["Größe" + header, *rows]).encode("windows-1252"), CSV)
    assert [line.rsplit(b",", 2)[1] for line in answer.body.splitlines()[1:]] == [b"read as Windows-1252", b""]
    answer = in_process.predict(text.encode("windows-1252").replace(b"\xff", b"\x81").replace(b"\x9f", b"\x81"), CSV)
    assert (answer.status, "line 5 is neither UTF-8 nor Windows-1252" in answer.json["detail"]) == (400, True)


@pytest.fixture
def rows_of(published):
    """The lines of a table of customers with these ids."""

    def written(ids: list[str]) -> list[str]:
        frame = published.head(len(ids)).assign(customerID=ids)
        return frame.to_csv(index=False).splitlines()

    return written


def test_17_000_columns_more_are_ignored_and_too_many_are_refused(rows_of):
    header, row = rows_of(["Ana"])
    wide = [",".join([header, *(f"c{number}" for number in range(14_000))]), ",".join([row, *["1"] * 14_000])]
    answer = in_process.predict("\n".join(wide).encode(), CSV)
    assert answer.status == 200
    assert answer.body.splitlines()[1].startswith(row.encode())
    wide[0] += "".join(f",and so on {number}" for number in range(3000))
    answer = in_process.predict("\n".join(wide).encode(), CSV)
    assert (answer.status, "line 1 has more than 100,000 characters" in answer.json["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("values", "cells", "expected"),
    [
        (["yes", "no"], ["True", "FALSE", "1", "0", "1.0", "0.0", "no"], ["yes", "no", "yes", "no", "yes", "no", "no"]),
        (["True", "False"], ["yes", "No", "1", "0.0", "1,000"], ["True", "False", "True", "False", None]),
        (["0", "1"], ["yes", "false", "1.0", "0"], ["1", "0", "1", "0"]),
        (["1", "2", "3"], ["1.0", "3.00", "2", "3,000", "1.000"], ["1", "3", "2", None, None]),
        (["yes", "no", "unknown"], ["True", "1", "0"], [None, None, None]),
        (["none", "some"], ["None", "NONE", "NA"], ["none", "none", None]),
        (["NA", "1"], ["NA", "na", ""], ["NA", "NA", None]),
    ],
)
def test_other_words_for_a_fields_values(values, cells, expected):
    schema = schemas.from_features([f"kind={value}" for value in values], "=")
    records, wrong = RowReader(schema, ["kind"])([[cell] for cell in cells])
    assert records.columns[0] == [value for value in expected if value is not None]
    assert [*wrong] == [place for place, value in enumerate(expected) if value is None]
