"""A new model that would break callers is refused, and the one before can be had back."""

import contextlib
import pickle
import shutil
import subprocess
import threading

import msgspec
import pytest
from conftest import GUNICORN, MODEL_FILE, ROOT, Service, reload, run, running, wait_until
from msgspec.structs import replace
from test_metrics import Counts
from test_reload import replace as put
from test_reload import sha256

from serving import schema as schemas
from serving.compatibility import broken
from serving.fields import Constraints, Field
from serving.training.telecom import SCHEMA


def changed(name, **more):
    """The telecom schema with one field changed."""
    fields = [replace(field, **more) if field.name == name else field for field in SCHEMA.fields]
    return replace(SCHEMA, fields=tuple(fields))


def values(*allowed):
    return Constraints(required=True, enum=allowed)


NUMBER = Field("age", "number")


@pytest.mark.parametrize(
    ("new", "differences"),
    [
        (SCHEMA, []),
        (replace(SCHEMA, threshold=0.3), []),
        (replace(SCHEMA, fields=SCHEMA.fields[1:]), []),
        (changed("contract", constraints=values("two_year", "one_year", "month-to-month", "daily")), []),
        (changed("contract", constraints=values("Two year", "One year", "Month-to-month")), []),
        (changed("tenure", type="number"), []),
        (changed("tenure", least=5, greatest=6), []),
        (replace(SCHEMA, fields=(replace(SCHEMA.fields[0], name="Gender"), *SCHEMA.fields[1:])), []),
        (replace(SCHEMA, target="left"), ["the answer is called left, and not churn"]),
        (replace(SCHEMA, id=None), ["customerid does not come back as the id"]),
        (replace(SCHEMA, fields=(*SCHEMA.fields, NUMBER)), ["age must be there"]),
        (replace(SCHEMA, fields=(*SCHEMA.fields, replace(NUMBER, blank=0))), ["age must be there"]),
        (changed("contract", constraints=values("one_year", "daily")), ["contract cannot be month-to-month, two_year"]),
        (changed("totalcharges", blank=None), ["totalcharges cannot be blank"]),
        (changed("monthlycharges", type="integer"), ["monthlycharges takes whole numbers alone"]),
        (changed("tenure", type="string", constraints=values("1")), ["tenure takes its values alone, and no numbers"]),
        (changed("tenure", type="integer", constraints=values(1)), ["tenure takes its values alone, and no numbers"]),
        (changed("seniorcitizen", type="string", constraints=values("yes", "no")), ["seniorcitizen cannot be 0, 1"]),
    ],
)
def test_what_callers_could_do_and_cannot_any_more_is_named(new, differences):
    assert broken(SCHEMA, new) == differences
    assert broken(SCHEMA, new, lenient=True) == [each for each in differences if "answer" in each or "the id" in each]


def test_a_number_that_might_be_negative_and_may_not_any_more_is_named():
    signed, unsigned = (
        schemas.checked(schemas.Schema((replace(NUMBER, constraints=each),)))
        for each in (Constraints(required=True), Constraints(required=True, minimum=0))
    )
    assert broken(signed, unsigned) == ["age cannot be less than 0"]
    assert broken(unsigned, signed) == []


@pytest.mark.parametrize(
    ("new", "difference"),
    [
        (NUMBER, "age cannot be true or false"),
        (replace(NUMBER, booleans=True), None),
        (
            replace(NUMBER, type="string", constraints=values("young", "old")),
            "age takes its values alone, and no numbers",
        ),
    ],
)
def test_a_field_that_took_true_and_false_is_told_once(new, difference):
    old = schemas.Schema((replace(NUMBER, booleans=True),))
    assert broken(old, schemas.Schema((new,))) == ([difference] if difference else [])


def test_values_that_may_be_ids_are_not_named():
    old, new = (replace(NUMBER, type="string", constraints=values(*(f"id-{n}" for n in range(n)))) for n in (90, 60))
    [said] = broken(schemas.Schema((old,)), schemas.Schema((new,)))
    assert said == "age cannot be 30 of its 90 values"


def with_schema(schema) -> bytes:
    """The committed model with another schema."""
    vectorizer, classifier = pickle.loads(MODEL_FILE.read_bytes())
    del classifier.serving_figures_
    classifier.serving_schema_ = msgspec.to_builtins(schema)
    return pickle.dumps((vectorizer, classifier))


@contextlib.contextmanager
def load(service, customer):
    """Three clients that ask all the time, and get an answer each time."""
    stop, wrong = threading.Event(), []

    def client():
        mine = Service(service.port)
        while not stop.is_set():
            answer = mine.predict(customer)
            if answer.status != 200 or "churn" not in answer.json:
                wrong.append(answer)
        mine.close()

    clients = [threading.Thread(target=client) for _ in range(3)]
    for each in clients:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in clients:
            each.join()
    assert not wrong, wrong[:3]


def test_a_model_that_would_break_callers_is_refused_under_load(customer, tmp_path):
    file = tmp_path / "model.bin"
    shutil.copy(MODEL_FILE, file)
    new = with_schema(replace(SCHEMA, target="left"))
    with running([*GUNICORN, "--workers", "2"], SERVING_MODEL=str(file)) as service, load(service, customer):
        before = sha256(service)
        assert service.get("/health").json == {"status": "ok"}
        put(file, new)
        reload(service)
        assert sha256(service) == before
        said = "it would break callers: the answer is called left, and not churn (SERVING_ALLOW_SCHEMA_CHANGE=1"
        assert said in service.log()
        health = service.get("/health")
        assert health.status == 200
        assert said in health.json["detail"]
        assert Counts(service).of("serving_model_files_total", outcome="refused") == 1
        put(file, MODEL_FILE.read_bytes())
        reload(service)
        assert service.get("/health").json == {"status": "ok"}


def test_where_it_is_allowed_callers_are_broken(customer, tmp_path):
    file = tmp_path / "model.bin"
    shutil.copy(MODEL_FILE, file)
    allowed = {"SERVING_MODEL": str(file), "SERVING_ALLOW_SCHEMA_CHANGE": "1"}
    with running([*GUNICORN, "--workers", "1"], **allowed) as service:
        put(file, with_schema(replace(SCHEMA, target="left")))
        reload(service)
        assert "left" in service.predict(customer).json


def test_training_keeps_the_model_that_it_replaces(tmp_path):
    """And only that: the same model again keeps the other one."""
    output = tmp_path / "model_C=1.0.bin"
    previous = tmp_path / "model_C=1.0.bin.previous"
    words = ["--output", str(output)]
    assert run("train.py", *words).returncode == 0
    first = output.read_bytes()
    assert not previous.exists()
    for _ in range(2):
        assert run("train.py", "--C", "0.01", *words).returncode == 0
        assert output.read_bytes() != first
        assert previous.read_bytes() == first


def test_make_rollback_puts_the_previous_model_back_and_takes_it_over_under_load(customer, tmp_path):
    for name in ("Makefile", "predict.py", "gunicorn.conf.py", "serving", "templates", "static"):
        (tmp_path / name).symlink_to(ROOT / name)
    file = tmp_path / "model_C=1.0.bin"
    shutil.copy(MODEL_FILE, file)
    (tmp_path / ".venv").mkdir()
    make = ["make", "--no-print-directory", "rollback"]
    done = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "There is no model_C=1.0.bin.previous" in done.stderr
    worse = tmp_path / "worse.bin"
    vectorizer, classifier = pickle.loads(MODEL_FILE.read_bytes())
    del classifier.serving_figures_
    classifier.intercept_ = classifier.intercept_ + 1
    worse.write_bytes(pickle.dumps((vectorizer, classifier)))
    server = [*GUNICORN, "--workers", "2", "--pid", str(tmp_path / ".venv" / "serve-9696.pid")]
    with running(server, SERVING_MODEL=str(file)) as service, load(service, customer):
        good = service.predict(customer).json
        shutil.copy(file, tmp_path / "model_C=1.0.bin.previous")
        put(file, worse.read_bytes())
        reload(service)
        bad = service.predict(customer).json
        assert bad != good
        for expected in (good, bad):  # and the same command takes it back
            service.close()
            old = service.pids()[1:]
            assert subprocess.run(make, cwd=tmp_path, check=False).returncode == 0
            wait_until(lambda old=old: not {*old} & {*service.pids()[1:]} and len(service.pids()) == 3)
            assert service.predict(customer).json == expected
