"""docs/LICENCES.md names every package that serves, in its locked version, with a licence."""

import json
import re

from conftest import ROOT


def test_the_licences_are_those_of_the_lock():
    packages = json.loads((ROOT / "Pipfile.lock").read_text())["default"]
    listed = re.findall(
        r"^\| ([\w.-]+) \| ([\w.]+) \| (.+) \|$", (ROOT / "docs" / "LICENCES.md").read_text(), re.MULTILINE
    )
    listed = [row for row in listed if row[0] != "package" and not row[0].startswith("---")]
    assert {name: f"=={version}" for name, version, _ in listed} == {
        name: package["version"] for name, package in packages.items()
    }, "run: make licences"
    assert not [name for name, _, licence in listed if "none" in licence or "not installed" in licence]
