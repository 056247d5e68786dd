"""What is said to people: the templates beside this file, filled in."""

from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).parent
# The report looks like the page, and has its pictures.
FOLDERS = [HERE, *(HERE.parents[1] / each for each in ("templates", "static"))]

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDERS), autoescape=jinja2.select_autoescape(), undefined=jinja2.StrictUndefined
)


def page(template: str, **what: Any) -> str:
    """A template filled in."""
    return _templates.get_template(template).render(what)


def lines(template: str, **what: Any) -> list[str]:
    """A template's lines, filled in; blank ones, and those that are only its logic, are none."""
    return [line for line in page(template, **what).splitlines() if line.strip()]
