"""Write LICENCES.md: the licences of the packages that the service is served with, as they themselves say.

`make licences` runs it after the lock has changed.
"""

import json
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

HERE = Path(__file__).parent


def locked() -> dict[str, str]:
    """The versions of the packages that Pipfile.lock has for serving, by name."""
    packages = json.loads((HERE.parent / "Pipfile.lock").read_text())["default"]
    return {name: packages[name]["version"].removeprefix("==") for name in sorted(packages)}


def licence(name: str) -> str:
    """A package's licence in one line, as its metadata has it."""
    try:
        about = metadata(name)
    except PackageNotFoundError:
        return "not installed on this platform"
    if expression := about.get("License-Expression"):
        return expression
    classifiers = [each for each in about.get_all("Classifier", []) if each.startswith("License ::")]
    if classifiers:
        return ", ".join(each.rpartition(" :: ")[2] for each in classifiers)
    return (about.get("License") or "its metadata has none").splitlines()[0]


def page() -> str:
    """The page, with a line a package."""
    rows = [f"| {name} | {version} | {licence(name)} |" for name, version in locked().items()]
    return "\n".join(
        [
            "# Licences",
            "",
            "Made by `make licences`: what the packages that serve (`default` in `Pipfile.lock`) say of themselves.",
            "",
            "| package | version | licence |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    (HERE / "LICENCES.md").write_text(page())
