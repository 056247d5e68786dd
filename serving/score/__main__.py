"""Score tables, CSV, Excel and Parquet, file by file, on all cores of this machine or on a Dask cluster."""

import argparse
import contextlib
import logging
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

PROGRAM = "serving.score"

try:
    import dask
    from distributed import Client, LocalCluster
    from tqdm import tqdm

    from serving.errors import of_file, said
    from serving.model import trial
    from serving.model.stand_ins import BadModel
    from serving.options import number
    from serving.score import places, work
    from serving.score.places import BadPlace
    from serving.web.settings import BadSetting, from_environment
except ModuleNotFoundError as missing:
    installed = 'install it with: pipenv sync --categories "packages score", and start with: pipenv run score'
    sys.exit(f"{PROGRAM} needs the package {missing.name}; {installed}")

# The service's folder, where its model is.
HERE = Path(__file__).parents[2]

# Seconds in which a scheduler has to answer.
PATIENCE = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {PROGRAM}", description=__doc__)
    add = parser.add_argument
    add(
        "tables", nargs="+", metavar="TABLE", help="a file, a pattern of files, or an address such as s3://bucket/*.csv"
    )
    add("--output", required=True, metavar="FOLDER", help="where the scored files belong; those that are there stay")
    add("--model", metavar="FILE", help="the model file, or two, separated by a comma (default: the service's)")
    add("--scheduler", metavar="ADDRESS", help="a Dask cluster's, such as tcp://10.0.0.1:8786 (default: this machine)")
    add(
        "--workers",
        type=number(1, kind=int),
        metavar="N",
        help="processes on this machine (default: one for each core)",
    )
    return parser.parse_args()


@contextlib.contextmanager
def cluster(address: str | None, workers: int | None) -> Iterator[Client]:
    """A client of the cluster at an address, or of one of this machine alone."""
    if address:
        try:
            client = Client(address, timeout=PATIENCE)
        except (OSError, ValueError) as error:
            raise BadPlace(f"{address}: {said(error)}") from error
        with client:
            yield client
        return
    # A worker gets the part that it works on, and no other that would suffer if it dies.
    dask.config.set({"distributed.scheduler.worker-saturation": 1.0})
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            preload=["serving.score.uninterrupted"],
        ) as local,
        Client(local) as client,
    ):
        yield client


def main() -> int:
    args = arguments()
    settings = from_environment()
    named, folder = (args.model, Path()) if args.model else (settings.model, HERE)
    files = [folder / each.strip() for each in named.split(",")]
    source = trial.tried(files, HERE / settings.schema if settings.schema else None)
    output = places.Output(args.output, run=uuid.uuid4().hex[:12])
    parts = places.parts(args.tables, output)
    missing = [part for part in parts if part.name not in output.names]

    rows = bad = 0
    failed: list[str] = []
    seconds = 0.0
    try:
        if missing:
            with (
                cluster(args.scheduler, args.workers) as client,
                work.model_on_workers(client, source, settings.lenient, output.run),
                tqdm(total=len(missing), unit="part", disable=None) as bar,
            ):
                started = time.monotonic()
                for part, counted in work.score(client, missing, output):
                    rows, bad = rows + counted.rows, bad + counted.bad
                    failed += [f"{part.path}: {counted.reason}"] if counted.reason else []
                    seconds = time.monotonic() - started
                    bar.set_postfix_str(f"{rows:,} rows, {rows / seconds:,.0f} rows/s", refresh=False)
                    bar.update()
    finally:
        output.remove_unfinished()
    for line in failed:
        print(f"{PROGRAM}: {line}", file=sys.stderr)
    skipped = len(parts) - len(missing)
    print(f"parts: {len(missing) - len(failed):,} scored, {skipped:,} skipped, {len(failed):,} failed")
    print(f"rows: {rows:,}, {bad:,} of them bad; in {seconds:.1f} s, {rows / seconds if rows else 0:,.0f} rows/s")
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except (BadSetting, BadModel, BadPlace) as wrong:
        sys.exit(f"{PROGRAM}: {wrong}")
    except OSError as error:
        sys.exit(f"{PROGRAM}: {of_file(error)}")
    except KeyboardInterrupt:
        print(f"{PROGRAM}: stopped; run it again for what is left", file=sys.stderr)
        sys.exit(130)
