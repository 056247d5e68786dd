"""GET /metrics: what is counted, summed over the workers whatever becomes of them."""

import contextlib
import errno
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import GUNICORN, ROOT, WAITRESS, Running, Service, customers, reload, running, wait_until, workers
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString
from test_scripts import run

from serving import schema as schemas
from serving.records import Records
from serving.training.telecom import SCHEMA
from serving.web import counts as counting
from serving.web import metrics

CSV = "text/csv"


class Counts(dict[tuple[str, frozenset], float]):
    """The samples of GET /metrics."""

    def __init__(self, service: Service):
        answer = service.get("/metrics")
        assert answer.status == 200, answer
        assert answer.headers["content-type"].startswith("text/plain; version=")
        for family in text_string_to_metric_families(answer.body.decode()):
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self, "a sample is there twice"
                self[key] = sample.value

    def of(self, name: str, **labels: str) -> float:
        return self.get((name, frozenset(labels.items())), 0)

    def total(self, name: str) -> float:
        return sum(value for (each, _), value in self.items() if each == name)


def growth(before: Counts, after: Counts, name: str, **labels: str) -> float:
    return after.of(name, **labels) - before.of(name, **labels)


def after(service: Service, before: Counts, requests: int) -> Counts:
    """The metrics when so many requests more are in them; other workers may take a second to tell."""
    found = [before]

    def all_there() -> bool:
        found.append(Counts(service))
        return found[-1].total("serving_requests_total") - before.total("serving_requests_total") >= requests

    wait_until(all_there)
    assert found[-1].total("serving_requests_total") - before.total("serving_requests_total") == requests
    return found[-1]


def csv(*customers: dict[str, Any]) -> bytes:
    rows = [list(customers[0]), *(each.values() for each in customers)]
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


def test_customers_are_counted_by_outcome_and_form(service: Service, customer):
    before = Counts(service)
    service.predict(customer)
    service.predict([customer] * 3)
    service.predict(csv(customer, customer, customer | {"tenure": "x"}, customer | {"gender": "a,b"}), CSV)
    service.predict(customer | {"tenure": "x"})
    service.predict([customer, customer | {"tenure": -1, "contract": ""}, []])
    now = after(service, before, 5)

    def customers(outcome: str, form: str) -> float:
        return growth(before, now, "serving_records_total", outcome=outcome, form=form)

    assert [customers("scored", form) for form in ("object", "array", "csv")] == [1, 3, 2]
    assert [customers("invalid", form) for form in ("object", "array", "csv")] == [1, 2, 2]
    assert growth(before, now, "serving_invalid_fields_total", field="tenure") == 3
    assert growth(before, now, "serving_invalid_fields_total", field="contract") == 1
    assert growth(before, now, "serving_requests_total", route="/predict", status="200") == 3
    assert growth(before, now, "serving_requests_total", route="/predict", status="422") == 2
    assert growth(before, now, "serving_request_seconds_count", route="/predict") == 5
    assert growth(before, now, "serving_request_seconds_bucket", route="/predict", le="+Inf") == 5


def test_what_was_asked_and_answered_is_a_distribution(service: Service, customer):
    before = Counts(service)
    new = customer | {"tenure": 1, "totalcharges": 29.85, "contract": "two_year"}
    service.predict(customer)
    probabilities = [each["churn_probability"] for each in service.predict([customer, new]).json]
    service.predict(csv(*[new] * 1000), CSV)
    now = after(service, before, 3)
    assert growth(before, now, "serving_field_values_total", field="contract", value="month-to-month") == 2
    assert growth(before, now, "serving_field_values_total", field="contract", value="two_year") == 1001
    assert growth(before, now, "serving_field_values_total", field="seniorcitizen", value="0") == 1003
    assert growth(before, now, "serving_field_values_total", field="seniorcitizen", value="1") == 0
    assert growth(before, now, "serving_number_bucket", field="tenure", le="0.0") == 0
    assert growth(before, now, "serving_number_bucket", field="tenure", le="2.0") == 1001
    assert growth(before, now, "serving_number_bucket", field="tenure", le="29.0") == 1003
    assert growth(before, now, "serving_number_sum", field="tenure") == 1001 + 2 * 24
    assert growth(before, now, "serving_number_sum", field="monthlycharges") == pytest.approx(1003 * 29.85)
    assert growth(before, now, "serving_number_sum", field="totalcharges") == pytest.approx(
        1001 * 29.85 + 2 * 24 * 29.85
    )
    assert growth(before, now, "serving_probability_count") == 1003
    assert growth(before, now, "serving_probability_sum") == pytest.approx(
        2 * probabilities[0] + 1001 * probabilities[1]
    )


def test_every_customer_of_arrays_and_tables_is_counted(service: Service):
    everyone = customers()
    before = Counts(service)
    assert service.predict(everyone).status == 200
    assert service.predict(csv(*everyone[:1234]), CSV).status == 200
    for each in everyone[:10]:
        assert service.predict(each).status == 200
    now = after(service, before, 12)
    asked = everyone + everyone[:1234] + everyone[:10]
    for field in (each for each in SCHEMA.fields if each.values):
        for value in field.values:
            expected = sum(each[field.name] == value for each in asked)
            assert growth(before, now, "serving_field_values_total", field=field.name, value=str(value)) == expected
    for field in (each for each in service.get("/model").json["schema"]["fields"] if "deciles" in each):
        name, bounds = field["name"], [field["least"], *field["deciles"], field["greatest"]]
        total = sum(each[name] for each in asked)
        assert growth(before, now, "serving_number_sum", field=name) == pytest.approx(total)
        for bound in bounds:
            expected = sum(each[name] <= bound for each in asked)
            assert growth(before, now, "serving_number_bucket", field=name, le=str(float(bound))) == expected
    assert growth(before, now, "serving_probability_count") == len(asked)


def test_the_training_table_stands_beside_it(service: Service):
    counts = Counts(service)

    def labels(metric: str) -> set[frozenset]:
        return {labels for name, labels in counts if name == metric}

    model = service.get("/model").json["sha256"][:12]
    assert labels("serving_training_bins") == labels("serving_bins_total")
    tables = [{"field": field.name, "bin": str(value)} for field in SCHEMA.fields for value in field.values]
    assert {frozenset({"model": model, **each}.items()) for each in tables} < labels("serving_training_bins")
    assert counts.of("serving_training_bins", model=model, field="contract", bin="one_year") == pytest.approx(1473)
    longest = sum(each["tenure"] > 69 for each in customers())
    assert counts.of("serving_training_bins", model=model, field="tenure", bin="over 69") == pytest.approx(longest)
    answers = [value for (name, labels), value in counts.items() if ("field", "probability of churn") in labels]
    assert sum(answers) == 1409 + counts.of("serving_probability_count")
    assert counts.of("serving_training_average", field="contract", value="one_year") == pytest.approx(0.2105, abs=1e-4)
    assert counts.of("serving_training_average", field="tenure", value="") == pytest.approx(32.4, abs=0.3)


def test_whatever_is_asked_for_the_labels_are_few(service: Service):
    before = Counts(service)
    for number in range(20):
        service.get(f"/predictions/{number}")
        service.request(f"METHOD{number}", "/predict")
        service.predict([{f"field{number}": 1}, number])
    now = after(service, before, 60)
    assert growth(before, now, "serving_requests_total", route="unknown", status="404") == 20
    assert growth(before, now, "serving_requests_total", route="/predict", status="405") == 20
    assert growth(before, now, "serving_invalid_fields_total", field="gender") == 20
    fields = {dict(labels)["field"] for name, labels in now if name == "serving_invalid_fields_total"}
    assert len(fields) <= 20  # the nineteen, and the customer's id


def test_health_checks_and_metrics_are_left_out(service: Service):
    before = Counts(service)
    for _ in range(3):
        service.get("/ping")
        service.get("/health")
    service.get("/model")
    service.get("/docs/swagger-ui.css")
    now = after(service, before, 2)
    assert growth(before, now, "serving_requests_total", route="/model", status="200") == 1
    assert growth(before, now, "serving_requests_total", route="/docs/<path:file>", status="200") == 1


def test_the_model_is_named(service: Service):
    served = service.get("/model").json
    counts = Counts(service)
    assert counts.of("serving_model_test_auc", sha256=served["sha256"]) == served["training"]["auc"]["test"]
    assert [dict(labels) for name, labels in counts if name == "serving_model_info"] == [
        {name: served[name] for name in ("file", "sha256", "classifier")}
    ]


def ask_all(service: Running, customer, requests: int) -> None:
    """Ask over connections of their own, so that the workers share them."""
    for _ in range(requests):
        with contextlib.closing(Service(service.port)) as another:
            another.predict(customer)


def test_a_killed_workers_counts_stay_and_its_files_go_to_the_next(customer, tmp_path):
    with running([*GUNICORN, "--workers", "2"], PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) as service:
        wait_until(lambda: len(workers(service)) == 2)
        before = Counts(service)
        for round_ in range(1, 4):
            ask_all(service, customer, 20)
            after(service, before, 20 * round_)
            killed, _ = workers(service)
            os.kill(killed, signal.SIGKILL)
            service.close()  # it may have been to that one
            wait_until(lambda gone=killed: gone not in workers(service) and len(workers(service)) == 2)
        assert scored(service) == 60
        assert len(list(tmp_path.glob("*.serving-metrics"))) == 2


def scored(service: Service) -> float:
    return Counts(service).of("serving_records_total", form="object", outcome="scored")


def test_a_reload_keeps_the_counts_and_what_was_just_answered(customer, tmp_path):
    with running([*GUNICORN, "--workers", "2"], PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) as service:
        for round_ in range(1, 4):
            ask_all(service, customer, 10)
            reload(service)
            assert scored(service) == 10 * round_
        assert len(list(tmp_path.glob("*.serving-metrics"))) <= 5  # with that of the main process


def folders(process: subprocess.Popen) -> list[Path]:
    """The folders that a gunicorn has made for its metrics."""
    return [each for parent in ("/dev/shm", "/tmp") for each in Path(parent).glob(f"serving-metrics-{process.pid}-*")]


def test_the_folder_is_made_emptied_and_removed(customer, tmp_path):
    with running(GUNICORN) as service:
        assert len(folders(service.process)) == 1
        service.predict(customer)
    assert folders(service.process) == []

    own = tmp_path / "own"
    for _ in range(2):
        with running(GUNICORN, PROMETHEUS_MULTIPROC_DIR=str(own)) as service:
            assert Counts(service).total("serving_requests_total") == 0
            service.predict(customer)
            assert scored(service) <= 1
    assert any(own.iterdir())


@pytest.mark.parametrize("environment", [{"SERVING_MODEL": "/none"}, {"PORT": "http"}], ids=str)
def test_a_start_that_fails_leaves_no_folder(environment):
    command = [sys.executable, "-m", "gunicorn", "predict:app", "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.DEVNULL) as process:
        assert process.wait(timeout=60) == 1
    assert folders(process) == []


def test_a_gunicorn_that_replaces_another_one_keeps_metrics_of_its_own(customer):
    gunicorn = [str(Path(sys.executable).with_name("gunicorn")), *GUNICORN[3:], "--workers", "2"]
    with running(gunicorn) as service:
        reload(service)
        old = {service.process.pid, *workers(service)}
        service.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: len({*service.pids()} - old) == 3)
        [successor, *_] = [pid for pid in service.pids() if pid not in old]
        try:
            service.close()
            service.process.terminate()
            service.process.wait(timeout=60)
            ask_all(service, customer, 20)
            wait_until(lambda: scored(service) == 20)
            service.close()
            assert folders(service.process) == []
        finally:
            os.kill(successor, signal.SIGTERM)


def test_without_a_place_for_the_metrics_the_start_stops_with_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("-m", "gunicorn", "predict:app", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "file" / "folder"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("There is no folder for the metrics: ")
    assert "Traceback" not in done.stderr


def amounts_around(bounds: tuple[float, ...]) -> list[float]:
    return [0.0, *bounds[:-1], *(bound + 1e-9 for bound in bounds[:-1]), *(bound * 0.999 for bound in bounds[:-1]), 0.5]


def test_counts_that_cannot_be_written_leave_nothing_behind(monkeypatch, tmp_path):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        metrics.write(counting.Counts({("serving_records", "scored", "csv"): 1}), tmp_path / "1.serving-metrics")
    assert [*tmp_path.iterdir()] == []


def test_the_buckets_are_those_that_dashboards_were_made_for():
    millis = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)
    assert (*millis, 1, 2.5, 5, 10, 30, 60, math.inf) == counting.SECONDS
    schema = schemas.from_json({"fields": [{"name": "size", "type": "number"}]})
    found: dict[str, list[str]] = {}
    for name, *labels in counting.zeros(schema):
        found.setdefault(name, []).append(labels[-1])
    twentieths = [str(step / 20) for step in range(1, 20)]
    assert found["serving_probability"] == [*twentieths, "1.0", "inf", "sum"]
    tens = ["1.0", "10.0", "100.0", "1000.0", "10000.0", "100000.0", "1000000.0"]
    assert found["serving_number"] == ["0.0", *tens, "inf", "sum"]


HISTOGRAMS = [counting.SECONDS, counting.PROBABILITIES, counting.ANY_NUMBER]


@pytest.mark.parametrize(
    ("bounds", "amounts"),
    [*((bounds, amounts_around(bounds)) for bounds in HISTOGRAMS), ((0.5, 1, counting.INFINITY), [])],
)
def test_many_observations_at_once_are_those_one_by_one(bounds, amounts):
    registry = CollectorRegistry()
    one_by_one = Histogram("amounts", "Amounts.", buckets=bounds, registry=registry)
    for amount in amounts:
        one_by_one.observe(amount)
    counts = counting.Counts()
    counting.observe(counts, ("amounts",), bounds, amounts[:7])
    counting.observe(counts, ("amounts",), bounds, amounts[7:])
    for bound in bounds:
        le = floatToGoString(bound)
        assert counts["amounts", str(float(bound))] == registry.get_sample_value("amounts_bucket", {"le": le})
    assert counts["amounts", counting.SUM] == pytest.approx(registry.get_sample_value("amounts_sum"))


def test_a_category_of_many_values_is_one_time_series():
    def counted(number: int) -> dict[str, float]:
        """What is counted of a record of a town that is allowed, and of one that is not, where so many are."""
        town = {"name": "town", "type": "string", "constraints": {"enum": [f"town-{each}" for each in range(number)]}}
        tally = counting.Tally(schemas.from_json({"fields": [town]}))
        tally.scored(Records("array", [["town-7", msgspec.UNSET]], {1: ["town"]}, {}), [0.5, 0.5])
        return {key[-1]: count for key, count in tally.counts.items() if key[0] == "serving_field_values"}

    assert (counted(50), counted(51)) == ({"town-7": 1, "": 1}, {"known": 1, "unknown": 1})


@pytest.mark.parametrize("command", [WAITRESS, [sys.executable, "predict.py"]], ids=["waitress", "predict.py"])
def test_other_servers_count_too(customer, command):
    with running(command) as service:
        service.predict([customer] * 3)
        service.predict(customer)
        counts = Counts(service)
        assert counts.of("serving_records_total", form="array", outcome="scored") == 3
        assert counts.of("serving_field_values_total", field="contract", value="month-to-month") == 4
        assert counts.of("serving_request_seconds_count", route="/predict") == 2


def test_a_folder_without_a_name_is_none_and_other_files_are_left_alone(customer, tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "broken.serving-metrics").write_text("[")
    with running(WAITRESS, PROMETHEUS_MULTIPROC_DIR="") as service:
        service.predict(customer)
        assert scored(service) == 1
    with running([*GUNICORN, "--workers", "1"], PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) as service:
        (tmp_path / "broken.serving-metrics").write_text("[")
        service.predict(customer)
        assert scored(service) == 1
    assert f'"The counts in {tmp_path / "broken.serving-metrics"} cannot be read: ' in service.log()
    assert (tmp_path / "notes.json").read_text() == "{}"


def test_processes_that_share_a_folder_add_up_without_gunicorn(customer, tmp_path):
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with running(WAITRESS, **shared) as one, running(WAITRESS, **shared) as another:
        one.predict(customer)
        another.predict(customer)
        wait_until(lambda: scored(one) == scored(another) == 2)


def test_everything_known_is_there_from_the_start_with_0():
    with running(GUNICORN) as service:
        counts = Counts(service)
    assert set(counts.values()) - {1.0, 0.0} == {
        value for (name, _), value in counts.items() if name.startswith(("serving_training", "serving_model_test"))
    } - {1.0, 0.0}
    for name, labels in [
        ("serving_records_total", {"form": "csv", "outcome": "invalid"}),
        ("serving_model_files_total", {"outcome": "taken_over"}),
        ("serving_model_files_total", {"outcome": "refused"}),
        ("serving_invalid_fields_total", {"field": "contract"}),
        ("serving_field_values_total", {"field": "contract", "value": "one_year"}),
        ("serving_number_bucket", {"field": "tenure", "le": "72.0"}),
        ("serving_unusual_fields_total", {"field": "tenure"}),
        ("serving_blank_fields_total", {"field": "totalcharges"}),
        ("serving_number_sum", {"field": "totalcharges"}),
        ("serving_probability_bucket", {"le": "+Inf"}),
    ]:
        assert counts[name, frozenset(labels.items())] == 0


def test_each_metric_says_what_it_is(service: Service):
    lines = service.get("/metrics").body.decode().splitlines()
    found = dict(line.removeprefix("# HELP ").split(" ", 1) for line in lines if line.startswith("# HELP serving_"))
    assert found == {
        "serving_requests_total": "Requests answered.",
        "serving_request_seconds": "Time until an answer was ready to be sent.",
        "serving_records_total": "Records asked about.",
        "serving_probability": "Probabilities answered.",
        "serving_invalid_fields_total": "Errors in records.",
        "serving_unusual_fields_total": "Values that no record of the training table had.",
        "serving_blank_fields_total": "Blanks that were filled as in training.",
        "serving_field_values_total": "Records scored, by a field's value, or by the bin that it is in.",
        "serving_model_files_total": "Model files that were to be taken over.",
        "serving_number": "Records scored, by a field that is a number.",
        "serving_model_info": "The model that answers.",
        "serving_model_test_auc": "Its AUC on the test part.",
        "serving_training_average": "Training records: a number's mean, or a value's share.",
        "serving_bins_total": "Records scored, by a field's bin.",
        "serving_training_bins": "Training records, by a field's bin.",
    }
