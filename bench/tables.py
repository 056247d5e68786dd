"""A table of a million rows: through this service, and as a data scientist would score it in a script."""

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import requests
import scripts

ROOT = Path(__file__).parent.parent


class TableFigures(NamedTuple):
    """Rows a second of the service and of the script, and by how many MB the worker grew."""

    service: float
    script: float
    growth: float


def write(rows: int, path: Path) -> None:
    """The real table in canonical spelling, as the script needs it, again and again."""
    from serving.training import telecom  # noqa: PLC0415 (the script's process does without)

    table = telecom.packaged()
    frame = pd.DataFrame(table.records(range(len(table.rows))))
    header, *lines = frame.to_csv(index=False).splitlines(keepends=True)
    with path.open("w") as file:
        file.write(header)
        for row in range(rows):
            file.write(lines[row % len(lines)])


def through_the_service(port: int, worker: int, table: bytes) -> tuple[float, float]:
    """Seconds from the first byte sent to the last one received, and the worker's growth in MB."""
    before = memory(worker, "VmRSS")
    started = time.perf_counter()
    answer = requests.post(
        f"http://127.0.0.1:{port}/predict", data=table, headers={"Content-Type": "text/csv"}, timeout=600
    )
    seconds = time.perf_counter() - started
    assert answer.status_code == 200, answer.text
    assert answer.content.count(b"\n") == table.count(b"\n")
    return seconds, memory(worker, "VmHWM") - before


def memory(pid: int, figure: str) -> float:
    """A process's resident memory (VmRSS), or its peak (VmHWM), in MB."""
    return int(re.search(rf"^{figure}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]) / 1000


def in_a_script(path: Path, core: int, **environment: str) -> float:
    """Seconds that pandas and the model's own library take, imports left out, in a process on this core."""
    done = subprocess.run(
        ["taskset", "-c", str(core), sys.executable, __file__, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def score_with_pandas(path: Path) -> str:
    """The scored table as text."""
    dv, model = scripts.load()
    frame = pd.read_csv(path)
    frame["churn_probability"] = scripts.probabilities(model, dv.transform(frame.to_dict("records")))
    frame["churn"] = frame["churn_probability"] >= 0.5
    written = io.StringIO()
    frame.to_csv(written, index=False)
    return written.getvalue()


if __name__ == "__main__":
    started = time.perf_counter()
    score_with_pandas(Path(sys.argv[1]))
    print(time.perf_counter() - started)
