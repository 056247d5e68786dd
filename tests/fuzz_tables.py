"""Tables for schemathesis, since no schema describes one; SCHEMATHESIS_HOOKS names this module."""

import csv
import io
from typing import Any

import openpyxl
import schemathesis
from conftest import SEED
from hypothesis import strategies as st
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from serving.web.flask_service import EXCEL

NAMES = [*SEED]
# A table with a NUL in it is no text, which no schema of OpenAPI can say.
LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
ANY_CELL = st.text(LETTERS, max_size=8) | st.integers().map(str) | st.floats().map(str)


@st.composite
def rows(draw: st.DrawFn) -> list[list[Any]]:
    """A header with all columns in any order, and rows that are customers or nearly so."""
    columns = draw(st.permutations([*NAMES, "notes"]))
    given = st.fixed_dictionaries(
        {}, optional=dict.fromkeys([*draw(st.sets(st.sampled_from(NAMES))), "notes"], ANY_CELL)
    )
    found = [SEED | changes for changes in draw(st.lists(given, max_size=4))]
    return [columns, *([row.get(column, "") for column in columns] for row in found)]


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Rows in CSV."""
    text = io.StringIO()
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    csv.writer(text, delimiter=draw(st.sampled_from(",;\t|")), lineterminator=line_end).writerows(draw(rows()))
    return text.getvalue().encode()


@st.composite
def workbooks(draw: st.DrawFn) -> bytes:
    """Rows in Excel, which takes no control characters."""
    workbook = openpyxl.Workbook()
    for row in draw(rows()):
        workbook.active.append([ILLEGAL_CHARACTERS_RE.sub("", cell) if isinstance(cell, str) else cell for cell in row])
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


schemathesis.openapi.media_type("text/csv", tables())
schemathesis.openapi.media_type(EXCEL, workbooks())


@schemathesis.hook
def before_load_schema(ctx: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Leave out the example in CSV: schemathesis takes none where tables are generated."""
    del raw_schema["paths"]["/predict"]["post"]["requestBody"]["content"]["text/csv"]["examples"]
