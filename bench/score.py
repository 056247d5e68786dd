"""Score ten million rows with `python -m serving.score`, kill a worker in the middle, and write SCORE.md.

The real table again and again, each row with an id of its own, in parts. One worker and two take turns.
"""

import argparse
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

from serving.model import trial
from serving.prediction import Predictor
from serving.score.work import Counted
from serving.tables import scored
from serving.training.telecom import packaged_frame

HERE = Path(__file__).parent
ROOT = HERE.parent


# How many workers, and whether one of them is killed.
ONE = "one worker"
CONTENDERS = {ONE: (1, False), "two workers": (2, False), "two, one of them killed": (2, True)}


# A run during which others took more than so much of a core is tried again, so many times in all.
MOST_LOST, TRIES = 0.2, 3


class Run(NamedTuple):
    """What a run took: seconds in all, rows a second while it scored, and MB of its largest worker, early and late."""

    seconds: float
    rate: float
    early: float
    late: float
    lost: float  # CPU seconds that others took meanwhile


class Table:
    """The real table's rows, as they are and as the service's function scores them, without their ids."""

    def __init__(self) -> None:
        frame = packaged_frame().drop(columns="customerid", errors="ignore")
        frame.insert(0, "customerid", "0")
        text = frame.to_csv(index=False)
        predictor = Predictor(trial.read([ROOT / "model_C=1.0.bin"]))
        with scored.score(io.BytesIO(text.encode()), predictor, None, Counted()).file as file:
            self.header, *self.rows = text.splitlines(keepends=True)
            self.scored_header, *self.scored = file.read().decode().splitlines(keepends=True)

    def write(self, folder: Path, parts: int, rows: int) -> None:
        """Write it in parts of so many rows."""
        for part in range(parts):
            ids = range(part * rows, (part + 1) * rows)
            with (folder / f"part-{part:03}.csv").open("w") as file:
                file.writelines(chain([self.header], (f"{id_}{self.rows[id_ % len(self.rows)][1:]}" for id_ in ids)))

    def check(self, folder: Path, parts: int, rows: int) -> None:
        """Every row is there once, in its place, with the service's scores, and nothing else is."""
        assert sorted(path.name for path in folder.iterdir()) == [f"part-{part:03}.csv" for part in range(parts)]
        for part in range(parts):
            ids = range(part * rows, (part + 1) * rows)
            expected = chain([self.scored_header], (f"{id_}{self.scored[id_ % len(self.scored)][1:]}" for id_ in ids))
            with (folder / f"part-{part:03}.csv").open(newline="") as file:
                for line, wanted in zip(file, expected, strict=True):
                    assert line == wanted, (part, line, wanted)


@contextlib.contextmanager
def scoring(tables: Path, output: Path, workers: int) -> Iterator[subprocess.Popen]:
    command = ["-m", "serving.score", f"{tables}/*.csv", "--output", str(output), "--workers", str(workers)]
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield process


def workers_of(pid: int) -> list[int]:
    threads = [*Path(f"/proc/{pid}/task").iterdir()]
    found = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return [child for child in found if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def resident(pid: int) -> float:
    """MB of a process that are in memory; 0 where it is gone."""
    with contextlib.suppress(OSError, TypeError):
        return int(re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]) / 1000
    return 0.0


def busy() -> float:
    """CPU seconds of the machine so far, idle ones left out."""
    user, nice, system, _, _, irq, soft, steal, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def run(tables: Path, output: Path, parts: int, workers: int, kill: bool) -> Run:
    """Score the tables; with `kill` one of the workers is killed when a third of the parts are there."""
    started, before, spent = time.perf_counter(), busy(), sum(os.times()[:4])
    peaks = {False: 0.0, True: 0.0}
    with scoring(tables, output, workers) as process:
        while process.poll() is None:
            done = len([*output.glob("part-*")])
            with contextlib.suppress(OSError):
                pids = workers_of(process.pid)
                half = done > parts / 2
                peaks[half] = max([peaks[half], *map(resident, pids)])
                if kill and done >= parts / 3:
                    os.kill(pids[0], signal.SIGKILL)
                    kill = False
            time.sleep(0.2)
        said = process.stdout.read()
        seconds = time.perf_counter() - started
        assert process.returncode == 0, said
    assert not kill
    rate = float(re.search(r"([\d,]+) rows/s", said)[1].replace(",", ""))
    # Without what this process took, and those that it has waited for.
    lost = busy() - before - (sum(os.times()[:4]) - spent)
    print(f"{workers} workers: {seconds:.1f} s, others {lost:.1f}; {said.splitlines()[-1]}", flush=True)
    return Run(seconds, rate, peaks[False], peaks[True], max(0.0, lost))


def page(options: argparse.Namespace, rounds: list[dict[str, Run]]) -> str:
    """The figures as a page."""

    def middle(figure: str, form: str) -> str:
        return " | ".join(format(median(getattr(each[name], figure) for each in rounds), form) for name in CONTENDERS)

    def ratios(figure: str) -> str:
        shares = ([getattr(each[name], figure) / getattr(each[ONE], figure) for each in rounds] for name in CONTENDERS)
        return " | ".join(f"{median(each):.2f} ×" for each in shares)

    rows = options.parts * options.rows
    taken = max(run.lost / run.seconds for each in rounds for run in each.values())
    lines = [
        "# What tables beyond one service cost",
        "",
        f"Made by `make bench`. {rows:,} rows: the real table again and again, in {options.parts} parts of",
        f"{options.rows:,} rows, scored by `python -m serving.score` on two cores. Figures are medians of",
        f"{len(rounds)} rounds, and ratios medians of the ratios within a round.",
        "",
        f"| | {' | '.join(CONTENDERS)} |",
        "| --- | --: | --: | --: |",
        f"| rows/s | {middle('rate', ',.0f')} |",
        f"| of one worker's | {ratios('rate')} |",
        f"| seconds of the whole run, with its start | {middle('seconds', '.0f')} |",
        f"| MB of the largest worker, until half of the parts were there | {middle('early', '.0f')} |",
        f"| and from then on | {middle('late', '.0f')} |",
        "",
        "After each run every row was there once, in its place, with the scores that the service's function gives it,",
        "and no other file was left. The killed worker got SIGKILL when a third of the parts were there. Other",
        f"programs took at most {taken:.2f} of a core meanwhile.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=100)
    parser.add_argument("--rows", type=int, default=100_000, help="of a part")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE / "SCORE.md")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        sys.exit("it needs two cores")
    table = Table()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        tables = Path(name) / "tables"
        tables.mkdir()
        table.write(tables, options.parts, options.rows)

        def once(name: str, tries: int = TRIES) -> Run:
            with tempfile.TemporaryDirectory(dir=tables.parent) as output:
                found = run(tables, Path(output), options.parts, *CONTENDERS[name])
                table.check(Path(output), options.parts, options.rows)
            # Two workers need both cores.
            return found if found.lost < MOST_LOST * found.seconds or tries == 1 else once(name, tries - 1)

        rounds = []
        for number in range(options.rounds):
            order = [*CONTENDERS] if number % 2 else [*CONTENDERS][::-1]
            rounds.append({name: once(name) for name in order})
    options.output.write_text(page(options, rounds))
    print(options.output.read_text())


if __name__ == "__main__":
    main()
