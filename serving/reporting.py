"""What is said to people, in lines or as a page: templates, filled in."""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

ROOT = Path(__file__).parents[1]


def page(template: Path, **what: Any) -> str:
    """A template filled in. It can include the service's page's own parts and style, so that a report looks like it."""
    return _templates(template.parent).get_template(template.name).render(what)


def lines(template: Path, **what: Any) -> list[str]:
    """A template's lines, filled in; blank ones, and those that are only its logic, are none."""
    return [line for line in page(template, **what).splitlines() if line.strip()]


@cache
def _templates(folder: Path) -> jinja2.Environment:
    folders = [folder, ROOT / "templates", ROOT / "static"]
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), autoescape=jinja2.select_autoescape(), undefined=jinja2.StrictUndefined
    )
