"""The requirement files for managers other than Pipenv, held to Pipfile.lock.

What the managers do with them is in tests/environments/.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

FOLDER = ROOT / "docs" / "environments"
LOCK = json.loads((ROOT / "Pipfile.lock").read_text())
LINE = re.compile(
    r"(?P<name>[a-z0-9.-]+)(\[(?P<extras>[a-z,]+)\])?==(?P<version>[\w.]+)(; (?P<markers>[^#;]+?))?"
    r"(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)"
)


def required(file: Path) -> dict[str, dict[str, Any]]:
    """What a requirement file says of each package, as the lock would; any other line is an error."""
    found = {}
    for line in file.read_text().splitlines():
        match = LINE.fullmatch(line)
        assert match, f"{file.name}: {line[:200]}"
        assert match["name"] not in found, match["name"]
        found[match["name"]] = {
            "version": f"=={match['version']}",
            "markers": match["markers"],
            "extras": sorted(match["extras"].split(",")) if match["extras"] else [],
            "hashes": sorted(match["hashes"].replace(" --hash=", " ").split()),
        }
    return found


def locked(*categories: str) -> dict[str, dict[str, Any]]:
    """What the lock says of each package of some categories, which must agree on it."""
    found: dict[str, dict[str, Any]] = {}
    for category in categories:
        for name, package in LOCK[category].items():
            said = {
                "version": package["version"],
                "markers": package.get("markers"),
                "extras": sorted(package.get("extras", [])),
                "hashes": sorted(package["hashes"]),
            }
            assert found.setdefault(name, said) == said, f"{name} is locked differently in {category}"
            assert not {*package} - {*said, "index"}, f"{name}: requirement files would have to say more"
    return found


@pytest.mark.parametrize(
    ("file", "categories"),
    [("requirements.txt", ["default"]), ("requirements-dev.txt", ["default", "develop", "score", "notebook"])],
)
def test_the_requirement_files_are_those_of_the_lock(file, categories):
    # Each line is a package, so that no file names a package index either.
    assert required(FOLDER / file) == locked(*categories), "run: make requirements"
