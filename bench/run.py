"""Measure this service against what a user would pick instead, and write RESULTS.md.

Every server runs on the first core, with one worker, and is asked alone; the load comes from the
second. Shared machines swing for seconds and for minutes, so the contenders take short turns. What
counts are the ratios within a turn, of which the median is given, and the instructions a request,
which do not swing.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import customers
import tables
from servers import (
    CONNECTIONS,
    GUNICORN,
    HERE,
    LOAD_CORE,
    ROOT,
    SERVER_CORE,
    Contender,
    Load,
    array_in_a_script,
    arrays_a_second,
    family,
    free_port,
    memory,
    require,
    serving,
    wrk,
)
from tables import TableFigures

ARRAYS = (1, 100, 10_000)
TABLE_ROWS = 1_000_000


OURS = Contender("this service", (*GUNICORN, "predict:app"), ROOT)
WITHOUT = Contender("this service without metrics", (*GUNICORN, "without_metrics:app"), ROOT)
FLASK = Contender("Flask, scikit-learn, gunicorn as it comes", (*GUNICORN, "flask_plain:app"), HERE)
# In this service's folder, so that it runs under its gunicorn.conf.py.
FLASK_GEVENT = Contender("the same under this service's settings", (*GUNICORN, "flask_plain:app"), ROOT)
FASTAPI = Contender("FastAPI, scikit-learn, uvicorn", (sys.executable, "-m", "uvicorn", "fastapi_sklearn:app"), HERE)
CONSTANT = Contender("a Flask route that returns a constant", (*GUNICORN, "flask_constant:app"), ROOT)
BARE = Contender("bare WSGI: decode and score alone", (*GUNICORN, "bare_wsgi:app"), ROOT)
GRANIAN = Contender(
    "this service under granian",
    (sys.executable, "-m", "granian", "--interface", "wsgi", "--blocking-threads", "1", "predict:app"),
    ROOT,
)
CONTENDERS = (OURS, WITHOUT, GRANIAN, FLASK, FLASK_GEVENT, FASTAPI, CONSTANT, BARE)


PEERS = (FLASK, FLASK_GEVENT, FASTAPI, CONSTANT)


class Alone(NamedTuple):
    """What one contender did in one round, when no other ran."""

    memory: float  # MB: the proportional set size of all its processes
    start: float  # s, from exec to the first answered prediction
    customers: dict[int, float]  # a second, by the size of the array


def measure(contender: Contender, script: Path) -> Alone:
    port = free_port()
    with serving(contender, port) as (pid, start):
        wrk(port, script, 1)  # memory is that of a server that has worked
        scores = contender is not CONSTANT
        by_size = {size: arrays_a_second(port, size) for size in ARRAYS} if scores else {}
        return Alone(memory(pid), start, by_size)


def loads(script: Path, number: int, seconds: int) -> list[dict[Contender, Load]]:
    """What each contender does under load, turn by turn; those whose turn it is not have nothing to do."""
    with contextlib.ExitStack() as running:
        ports = {contender: free_port() for contender in CONTENDERS}
        for contender, port in ports.items():
            running.enter_context(serving(contender, port))
            wrk(port, script, 1)  # warm up
        turns = []
        for turn in range(number):
            order = CONTENDERS if turn % 2 else CONTENDERS[::-1]
            turns.append({contender: wrk(ports[contender], script, seconds) for contender in order})
            for contender in CONTENDERS:
                print(f"turn {turn + 1}: {contender.name}: {turns[-1][contender]}", flush=True)
        return turns


def array_turn(port: int) -> tuple[float, float]:
    """Customers a second in arrays of 10,000: of a running service, and right after it of scikit-learn in process."""
    return arrays_a_second(port, ARRAYS[-1]), array_in_a_script(ARRAYS[-1])


def table_round(path: Path) -> TableFigures:
    """A table through this service with one worker, and by a script on the same core."""
    table, port = path.read_bytes(), free_port()
    rows = table.count(b"\n") - 1
    with serving(OURS, port) as (pid, _):
        _, worker = family(pid)
        seconds, growth = tables.through_the_service(port, worker, table)
    return TableFigures(rows / seconds, rows / tables.in_a_script(path, SERVER_CORE), growth)


def instructions(application: str) -> int:
    """Instructions a request of a WSGI application that is called in process: a long run minus a short one."""
    # Both pass on all that they counted, so that the metrics' share is in the difference.
    short, long = (_callgrind(application, requests) for requests in (600, 1600))
    return round((long - short) / 1000)


def _callgrind(application: str, requests: int) -> int:
    done = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(sys.executable, str(HERE / "in_process.py"), application, str(requests)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}", "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def results(
    turns: list[dict[Contender, Load]],
    rounds: list[dict[Contender, Alone]],
    of_arrays: list[tuple[float, float]],
    of_tables: list[TableFigures],
    counted: dict[str, int],
    seconds: int,
) -> str:
    """The figures as a page."""

    def middle(of: Sequence[dict[Contender, Any]], contender: Contender, figure: str) -> float:
        return median(getattr(each[contender], figure) for each in of)

    def ratios(of: Sequence[dict[Contender, Any]], figure: str, inverse: bool = False) -> str:
        """The medians of the ratios to the peers' within a turn or a round, as cells of a table."""
        cells = []
        for peer in PEERS:
            each_time = [getattr(each[OURS], figure) / getattr(each[peer], figure) for each in of]
            cells.append(f"{median(1 / ratio if inverse else ratio for ratio in each_time):.2f} ×")
        return " | ".join(cells)

    largest = ARRAYS[-1]
    times = median(service / peer for service, peer in of_arrays)
    in_process = median(peer for _, peer in of_arrays)
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    lines = [
        "# What a request costs",
        "",
        "Made by `make bench`. Each server had one worker. All ran on one core, where one at a time had work, and the",
        f"load came from another: wrk with {CONNECTIONS} kept-alive connections, one customer a request. They took",
        f"{len(turns)} turns of {seconds} s each; figures are medians, and ratios medians of the ratios within a turn.",
        "",
        f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores; {platform.system()}; "
        f"Python {platform.python_version()}.",
        "",
        "| | requests/s | p50 | p99 | memory | start |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for each in CONTENDERS:
        lines.append(
            f"| {each.name} | {middle(turns, each, 'requests'):,.0f} | {middle(turns, each, 'p50'):.1f} ms "
            f"| {middle(turns, each, 'p99'):.1f} ms | {middle(rounds, each, 'memory'):.0f} MB "
            f"| {middle(rounds, each, 'start'):.2f} s |"
        )
    lines += [
        "",
        "Memory is the proportional set size of all processes, after the arrays below; start is from exec to the first",
        f"answered prediction. For these two and the arrays each server ran alone, in {len(rounds)} rounds.",
        "",
        "| this service's | against Flask | against Flask, same settings | against FastAPI | against the constant |",
        "| --- | --: | --: | --: | --: |",
        f"| requests/s | {ratios(turns, 'requests')} |",
        f"| p99 | {ratios(turns, 'p99')} |",
        f"| memory | {ratios(rounds, 'memory')} |",
        f"| start, times faster | {ratios(rounds, 'start', inverse=True)} |",
        "",
        "Customers/s in arrays, one request after the other:",
        "",
        "| | " + " | ".join(f"{size:,}" for size in ARRAYS) + " |",
        "| --- |" + " --: |" * len(ARRAYS),
    ]
    for each in CONTENDERS:
        if each != CONSTANT:
            by_size = [median(figures[each].customers[size] for figures in rounds) for size in ARRAYS]
            lines.append(f"| {each.name} | " + " | ".join(f"{figure:,.0f}" for figure in by_size) + " |")
    lines += [
        f"| `json.loads`, `dv.transform`, `predict_proba` in process | | | {in_process:,.0f} |",
        "",
        f"For arrays of {largest:,} this service does over HTTP {times:.2f} times what the last line does in process,",
        f"measured in turns, {len(of_arrays)} times one right after the other.",
        "",
        f"A CSV of {TABLE_ROWS:,} rows, sent in one go to one worker, beside a script of `pandas.read_csv`, `to_dict`,",
        "`dv.transform`, `predict_proba` and `to_csv` on the same core:",
        "",
        "| this service | the script | ratio | the worker grew by |",
        "| --: | --: | --: | --: |",
        f"| {median(each.service for each in of_tables):,.0f} rows/s "
        f"| {median(each.script for each in of_tables):,.0f} rows/s "
        f"| {median(each.service / each.script for each in of_tables):.2f} × "
        f"| {median(each.growth for each in of_tables):.1f} MB |",
        "",
        "Instructions a request, called in process (valgrind's callgrind; they do not swing):",
        "",
        "| | instructions | |",
        "| --- | --: | --: |",
    ]
    for name, count in counted.items():
        lines.append(f"| {name} | {count:,} | {count / counted[CONSTANT.name]:.2f} × the constant |")
    granian = median(each[GRANIAN].requests / each[OURS].requests for each in turns)
    share = median(each[OURS].requests / each[WITHOUT].requests for each in turns)
    more = counted[OURS.name] / counted[WITHOUT.name] - 1
    lines += [
        "",
        f"With metrics it answered {share:.2f} times the requests/s that it did without, and took {100 * more:.0f} %",
        "more instructions a request.",
        "",
        f"Under granian it answered {granian:.2f} times the requests/s that it did under gunicorn.",
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=9, help="of load, and of arrays")
    parser.add_argument("--seconds", type=int, default=2, help="of load for each contender and turn")
    parser.add_argument("--rounds", type=int, default=3, help="of starts, and of tables")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    require("wrk", "valgrind", "taskset")
    os.sched_setaffinity(0, {LOAD_CORE})  # the arrays and tables come from here
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(
            'wrk.method = "POST"\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
            f"wrk.body = [[{json.dumps(customers.ONE)}]]\n"
        )
        for number in range(options.rounds):
            figures = {}
            for contender in CONTENDERS:
                figures[contender] = measure(contender, script)
                print(f"round {number + 1}: {contender.name}: {figures[contender]}", flush=True)
            rounds.append(figures)
        turns = loads(script, options.turns, options.seconds)
        port = free_port()
        with serving(OURS, port):
            arrays_a_second(port, ARRAYS[-1])  # warm up
            of_arrays = [array_turn(port) for _ in range(options.turns)]
        print(f"arrays in turns: {of_arrays}", flush=True)
        path = Path(folder) / "table.csv"
        tables.write(TABLE_ROWS, path)
        of_tables = []
        for number in range(options.rounds):
            of_tables.append(table_round(path))
            print(f"round {number + 1}: {of_tables[-1]}", flush=True)
    counted = {
        OURS.name: instructions("predict:app"),
        WITHOUT.name: instructions("without_metrics:app"),
        CONSTANT.name: instructions("flask_constant:app"),
        BARE.name: instructions("bare_wsgi:app"),
    }
    page = results(turns, rounds, of_arrays, of_tables, counted, options.seconds)
    options.output.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
