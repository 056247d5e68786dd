"""docs/monitoring: the rules, their tests and the dashboard, tried with a real Prometheus that scrapes the service."""

import itertools
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import GUNICORN, ROOT, Service, customers, free_port, running, wait_until

MONITORING = ROOT / "docs" / "monitoring"
PROMETHEUS, PROMTOOL = map(shutil.which, ("prometheus", "promtool"))

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="no Prometheus; on Debian: apt-get install prometheus")


@pytest.mark.parametrize(
    "words",
    [["check", "config", "prometheus.yml"], ["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]],
)
def test_promtool_is_content(words):
    done = subprocess.run([PROMTOOL, *words], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def prometheus(service: Service, folder: Path) -> Iterator[Callable[[str], Any]]:
    """A Prometheus with the documented files that looks at the service each second, and calls at once; gives what asks
    it."""
    port = free_port()
    for file in ("prometheus.yml", "rules.yml"):
        text = (MONITORING / file).read_text().replace("localhost:9696", f"127.0.0.1:{service.port}")
        text = re.sub(r"((?:scrape_|evaluation_)?interval): \w+", r"\1: 1s", text)
        (folder / file).write_text(re.sub(r"\bfor: \w+", "for: 0s", text))
    command = [PROMETHEUS, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        listen = f"--web.listen-address=127.0.0.1:{port}"
        process = subprocess.Popen([*command, listen], stdout=log, stderr=log)

    def ask(path: str, **query: str) -> Any:
        answer = requests.get(f"http://127.0.0.1:{port}/{path}", params=query, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def is_ready() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=10).ok
        except requests.ConnectionError:
            return False

    try:
        wait_until(is_ready)
        yield ask
    finally:
        process.terminate()
        process.wait()


def test_what_has_drifted_is_called_under_load(tmp_path):
    changed = [each | {"monthlycharges": each["monthlycharges"] / 2, "contract": "two_year"} for each in customers()]
    with running([*GUNICORN, "--workers", "2"]) as service, prometheus(service, tmp_path) as ask:
        wait_until(lambda: ask("api/v1/query", query="serving_training_bins")["result"])
        stop = threading.Event()
        statuses = set()

        def load(first: int) -> None:
            caller = Service(service.port)
            for record in itertools.cycle(changed[first:]):
                statuses.add(caller.predict(record).status)
                if stop.is_set():
                    break
            caller.close()

        loads = [threading.Thread(target=load, args=(first,)) for first in range(0, 4000, 1000)]
        for each in loads:
            each.start()
        try:
            wait_until(lambda: {"monthlycharges", "contract"} <= drifting(ask))
            for expression in expressions():
                wait_until(lambda: ask("api/v1/query", query=expression)["result"])  # noqa: B023
            assert drifting(ask) == {"monthlycharges", "contract"}
        finally:
            stop.set()
            for each in loads:
                each.join()
        assert statuses == {200}
        rules = [rule for group in ask("api/v1/rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    tried = (MONITORING / "rules_test.yml").read_text()
    for alert in (rule for rule in rules if rule["type"] == "alerting"):
        assert alert["name"] in tried
        assert alert["annotations"]["action"].endswith(".")
        # Nothing is wrong but the fields, and with them the probabilities and charges that are too small.
        assert bool(alert["alerts"]) == (
            alert["name"] in {"ServingFieldDrift", "ServingProbabilityDrift", "ServingUnusualValues"}
        )


def drifting(ask: Callable[..., Any]) -> set[str]:
    """The fields of which the alert is firing."""
    alerts = [each for each in ask("api/v1/alerts")["alerts"] if each["state"] == "firing"]
    return {each["labels"]["field"] for each in alerts if each["labels"]["alertname"] == "ServingFieldDrift"}


def expressions() -> list[str]:
    """What the dashboard's panels ask."""
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return [target["expr"].replace("$job", "churn-serving") for panel in panels for target in panel["targets"]]
