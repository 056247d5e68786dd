"""Whether a new model can take an old one's place: `python -m serving.compare OLD NEW TABLE`.

Exit status 0 where it can, 1 where callers would break, 2 where it is worse beyond doubt, 3 where that cannot be told.
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

CANNOT_TELL = 3

try:
    from serving import reporting, whole_file
    from serving.compare.comparison import compare
    from serving.errors import BadTable, of_file
    from serving.model import trial
    from serving.model.stand_ins import BadModel
except ModuleNotFoundError as error:
    installed = "install it with: pipenv sync --dev, and start with: pipenv run compare"
    print(f"serving.compare needs the package {error.name}; {installed}", file=sys.stderr)
    sys.exit(CANNOT_TELL)

FOLDER = Path(__file__).parent


class Parser(argparse.ArgumentParser):
    """One that ends with a status of its own."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        _stop(message)


def _stop(message: str) -> NoReturn:
    print(f"serving.compare: {message}", file=sys.stderr)
    sys.exit(CANNOT_TELL)


def main() -> int:
    parser = Parser(prog="python -m serving.compare", description="Compare two models of one question.")
    add = parser.add_argument
    add("old", type=Path, metavar="OLD", help="the model file that is served")
    add("new", type=Path, metavar="NEW", help="the one that is to take its place")
    add("table", type=Path, metavar="TABLE", help="a table that neither was trained on")
    add("--target", metavar="COLUMN", help="the column with the answers (default: the new model's target)")
    add("--positive", action="append", default=[], metavar="VALUE", help="a value of it that is a yes")
    add("--report", type=Path, metavar="FILE", help="write the comparison as a page (compare.html)")
    args = parser.parse_args()
    try:
        old, new = trial.read([args.old]), trial.read([args.new])
        found = compare(old, new, args.table, args.target, args.positive)
        said = {"found": found, "words": new.schema.spoken}
        lines = reporting.lines(FOLDER / "compare.txt", **said)
        if args.report:
            names = {"old": old.about, "new": new.about, "table": args.table.name}
            whole_file.write(
                args.report, reporting.page(FOLDER / "compare.html", **said, **names, lines=lines).encode()
            )
    except BadTable as error:
        _stop(f"{args.table}: {error}")
    except BadModel as error:
        _stop(str(error))
    except OSError as error:
        _stop(of_file(error))
    print(*lines, sep="\n")
    return found.status


if __name__ == "__main__":
    sys.exit(main())
