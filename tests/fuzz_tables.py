"""Tables for schemathesis, since no schema describes one; SCHEMATHESIS_HOOKS names this module."""

import csv
import io
from typing import Any

import schemathesis
from conftest import SEED
from hypothesis import strategies as st

NAMES = [*SEED]
ANY_CELL = st.text(st.characters(codec="utf-8"), max_size=8) | st.integers().map(str) | st.floats().map(str)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A table with all columns in any order, and rows that are customers or nearly so."""
    columns = draw(st.permutations([*NAMES, "notes"]))
    given = st.fixed_dictionaries(
        {}, optional=dict.fromkeys([*draw(st.sets(st.sampled_from(NAMES))), "notes"], ANY_CELL)
    )
    rows = [SEED | changes for changes in draw(st.lists(given, max_size=4))]
    text = io.StringIO()
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(text, delimiter=draw(st.sampled_from(",;\t")), lineterminator=line_end)
    writer.writerow(columns)
    writer.writerows([row.get(column, "") for column in columns] for row in rows)
    return text.getvalue().encode()


schemathesis.openapi.media_type("text/csv", tables())


@schemathesis.hook
def before_load_schema(ctx: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Leave out the example in CSV: schemathesis takes none where tables are generated."""
    del raw_schema["paths"]["/predict"]["post"]["requestBody"]["content"]["text/csv"]["examples"]
