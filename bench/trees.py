"""Measure the service with trees beside plain Flask with the libraries that grew them, and write TREES.md.

A forest of 200 trees, 10 tests deep, and 150 boosted trees, 6 deep, of the telecom table. As in run.py every server has
one worker on the first core, and the contenders take short turns.
"""

import argparse
import json
import os
import pickle
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import customers
import requests
import tables
import xgboost as xgb
from servers import (
    GUNICORN,
    HERE,
    LOAD_CORE,
    ROOT,
    SERVER_CORE,
    Contender,
    array_in_a_script,
    arrays_a_second,
    family,
    free_port,
    memory,
    require,
    serving,
    wrk,
)
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer

from serving.training import telecom

ARRAY, TABLE_ROWS, CUSTOMERS = 10_000, 200_000, 2000


class Figures(NamedTuple):
    """What a contender did in one round: requests a second about one customer and about many in turn, seconds to start,
    MB, and records a second."""

    requests: float
    varied: float
    start: float
    single: float  # MB after single requests
    memory: float  # MB after an array too
    array: float
    table: float
    explained: float  # ms for the reasons of one customer


def write_models(folder: Path) -> dict[str, Path]:
    """The pairs of vectorizer and model, trained on all of the telecom table."""
    table = telecom.packaged()
    vectorizer = DictVectorizer(sparse=False)
    matrix = vectorizer.fit_transform(table.records(range(len(table.rows))))
    forest = RandomForestClassifier(200, max_depth=10, random_state=1).fit(matrix, table.target)
    options = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.1, "nthread": 1}
    boosted = xgb.train(options, xgb.DMatrix(matrix, table.target), 150)
    paths = {}
    for name, model in (("forest", forest), ("boosted", boosted)):
        paths[name] = folder / f"{name}.bin"
        paths[name].write_bytes(pickle.dumps((vectorizer, model)))
    return paths


def script_of(path: Path, number: int) -> Path:
    """What wrk sends: so many customers of the table, one after the other."""
    bodies = [json.dumps(customer) for customer in customers.many(number)]
    path.write_text(
        'wrk.method = "POST"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        "local bodies = {\n" + "".join(f"[[{body}]],\n" for body in bodies) + "}\n"
        "local place = 0\n"
        "request = function()\n"
        "  place = place % #bodies + 1\n"
        "  return wrk.format(nil, nil, nil, bodies[place])\n"
        "end\n"
    )
    return path


def alone(contender: Contender, one: Path, many: Path, table: bytes) -> Figures:
    """What a contender does when no other runs; a table only where it takes one."""
    port = free_port()
    with serving(contender, port) as (pid, start):
        answered, varied = wrk(port, one, 2).requests, wrk(port, many, 2).requests
        single = memory(pid)
        array = arrays_a_second(port, ARRAY)
        both = memory(pid)
        rows = explained = 0.0
        if contender.folder == ROOT:
            explained = 1000 * median(seconds_to_explain(port, customer) for customer in customers.many(40)[10:])
            seconds, _ = tables.through_the_service(port, family(pid)[1], table)
            rows = (table.count(b"\n") - 1) / seconds
        return Figures(answered, varied, start, single, both, array, rows, explained)


def seconds_to_explain(port: int, customer: dict) -> float:
    """How long a customer's answer with reasons takes, over HTTP."""
    started = time.perf_counter()
    answer = requests.post(f"http://127.0.0.1:{port}/predict?explain=true", json=customer, timeout=60)
    assert len(answer.json()["reasons"]) == len(customer)
    return time.perf_counter() - started


def in_a_script(model: Path, path: Path) -> tuple[float, float]:
    """Customers a second that the model's own library scores of an array, and of a table with pandas."""
    environment = {"BENCH_MODEL": str(model), "OMP_NUM_THREADS": "1"}
    seconds = tables.in_a_script(path, SERVER_CORE, **environment)
    return array_in_a_script(ARRAY, **environment), TABLE_ROWS / seconds


def page(rounds: list[dict[str, Figures]], scripts: list[dict[str, tuple[float, float]]]) -> str:
    """The figures as a page."""

    def middle(name: str, figure: str) -> float:
        return median(getattr(each[name], figure) for each in rounds)

    def ratio(name: str, other: str, figure: str) -> str:
        return f"{median(getattr(each[name], figure) / getattr(each[other], figure) for each in rounds):.2f} ×"

    lines = [
        "# What trees cost",
        "",
        "Made by `make bench`. A forest of 200 trees, 10 tests deep, and 150 boosted trees of XGBoost, 6 tests deep,",
        "of the telecom table. Each server had one worker on one core, and was asked from another about one customer,",
        f"and about {CUSTOMERS:,} in turn, one a request. Figures are medians of {len(rounds)} rounds, and ratios",
        "medians of the ratios within a round.",
        "",
        "| | requests/s, one customer | many in turn | start | memory | after an array too |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for name in rounds[0]:
        lines.append(
            f"| {name} | {middle(name, 'requests'):,.0f} | {middle(name, 'varied'):,.0f} "
            f"| {middle(name, 'start'):.2f} s | {middle(name, 'single'):.0f} MB | {middle(name, 'memory'):.0f} MB |"
        )
    lines += ["", "| | forest | boosted trees |", "| --- | --: | --: |"]
    pairs = [(f"this service, {kind}", f"Flask, {kind}") for kind in KINDS]
    for what, figure in (("one customer", "requests"), (f"{CUSTOMERS:,} customers in turn", "varied")):
        flask = " | ".join(ratio(*pair, figure) for pair in pairs)
        linear = " | ".join(ratio(ours, LINEAR, figure) for ours, _ in pairs)
        lines.append(f"| requests/s, {what}: of plain Flask's | {flask} |")
        lines.append(f"| of this service's with the linear model | {linear} |")
    for what, figure, place in (("an array of 10,000", "array", 0), ("a table", "table", 1)):
        cells = []
        for (ours, _), kind in zip(pairs, KINDS, strict=True):
            each = [
                getattr(figures[ours], figure) / script[kind][place]
                for figures, script in zip(rounds, scripts, strict=True)
            ]
            cells.append(f"{median(each):.2f} × ({middle(ours, figure):,.0f} a second)")
        lines.append(f"| {what}, of a script's with the library itself | {' | '.join(cells)} |")
    times = " | ".join(f"{middle(ours, 'explained'):.1f} ms" for ours, _ in pairs)
    lines.append(f"| one customer's answer with its reasons | {times} |")
    lines += [
        "",
        "The array is sent to the service as JSON, and scored in process by the script: `json.loads`, `dv.transform`,",
        "and `predict_proba` or `predict(DMatrix)`. The script reads and writes the table by pandas; it has",
        f"{TABLE_ROWS:,} rows.",
        "",
    ]
    return "\n".join(lines)


KINDS = ("forest", "boosted")
LINEAR = "this service, linear model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=HERE / "TREES.md")
    options = parser.parse_args()
    require("wrk", "taskset")
    os.sched_setaffinity(0, {LOAD_CORE})
    rounds, scripts = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = write_models(folder)
        scripts_of_wrk = script_of(folder / "one.lua", 1), script_of(folder / "many.lua", CUSTOMERS)
        path = folder / "table.csv"
        tables.write(TABLE_ROWS, path)
        contenders = [Contender(LINEAR, (*GUNICORN, "predict:app"), ROOT)]
        for kind in KINDS:
            model = str(models[kind])
            served, of_peer = (("SERVING_MODEL", model),), (("BENCH_MODEL", model), ("OMP_NUM_THREADS", "1"))
            contenders += [
                Contender(f"this service, {kind}", (*GUNICORN, "predict:app"), ROOT, served),
                Contender(f"Flask, {kind}", (*GUNICORN, "flask_plain:app"), HERE, of_peer),
            ]
        for number in range(options.rounds):
            rounds.append({each.name: alone(each, *scripts_of_wrk, path.read_bytes()) for each in contenders})
            scripts.append({kind: in_a_script(models[kind], path) for kind in KINDS})
            print(f"round {number + 1}: {rounds[-1]} {scripts[-1]}", flush=True)
    options.output.write_text(page(rounds, scripts))
    print(options.output.read_text())


if __name__ == "__main__":
    main()
