"""A new model file is taken over while the service runs, or refused while the old model serves."""

import concurrent.futures
import os
import pickle
import shutil
import threading

import pytest
from conftest import GUNICORN, MODEL_FILE, SEED, Service, customers, packaged, reload, running
from sklearn.linear_model import LogisticRegression


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> bytes:
    """Another good model file."""
    vectorizer, classifier = pickle.loads(MODEL_FILE.read_bytes())
    del classifier.serving_figures_
    matrix = vectorizer.transform(customers())
    other = LogisticRegression(C=0.001, solver="newton-cholesky").fit(matrix, packaged().target)
    other.serving_schema_ = classifier.serving_schema_
    return pickle.dumps((vectorizer, other))


def untrue() -> bytes:
    """A model file whose model does not score as its training said."""
    vectorizer, classifier = pickle.loads(MODEL_FILE.read_bytes())
    classifier.coef_ = classifier.coef_ + 0.1
    return pickle.dumps((vectorizer, classifier))


def broken() -> list[bytes]:
    """Model files that cannot be served: empty, cut off, untrue, and none at all."""
    return [b"", MODEL_FILE.read_bytes()[:1000], untrue(), pickle.dumps(os.system)]


def replace(file, content: bytes) -> None:
    """As `train.py` does: there is no moment at which the file is incomplete."""
    (file.parent / "new").write_bytes(content)
    (file.parent / "new").replace(file)


def sha256(service: Service) -> str:
    service.close()  # a kept connection may be an old worker's
    return service.get("/model").json["sha256"]


def test_models_are_taken_over_or_refused_under_load_without_a_failed_request(other, customer, tmp_path):
    file = tmp_path / "model.bin"
    shutil.copy(MODEL_FILE, file)
    good = [MODEL_FILE.read_bytes(), other]
    with running([*GUNICORN, "--workers", "2"], SERVING_MODEL=str(file)) as service:
        stop = threading.Event()

        def client() -> set[tuple[str, float]]:
            answers = set()
            mine = Service(service.port)
            while not stop.is_set():
                answer = mine.predict(customer)
                assert answer.status == 200, answer
                answers.add((answer.headers["x-model"], answer.json["churn_probability"]))
            mine.close()
            return answers

        def told() -> tuple[str, float]:
            return sha256(service)[:12], service.predict(customer).json["churn_probability"]

        expected = {told()}
        with concurrent.futures.ThreadPoolExecutor() as pool:
            clients = [pool.submit(client) for _ in range(4)]
            try:
                for turn, wrong in enumerate(broken(), start=1):
                    before = sha256(service)
                    replace(file, good[turn % 2])
                    reload(service)
                    assert sha256(service) != before
                    expected.add(told())

                    before = sha256(service)
                    replace(file, wrong)
                    reload(service)
                    assert service.log().count("model refused") == turn
                    assert sha256(service) == before
            finally:
                stop.set()
            seen = [each.result() for each in clients]
        assert len(expected) == 2
        assert set().union(*seen) == expected
        assert "gives its example" in service.log()
        assert "Traceback" not in service.log()


def test_a_model_that_is_not_true_to_its_training_is_refused_at_start(tmp_path):
    file = tmp_path / "model.bin"
    file.write_bytes(untrue())
    with pytest.raises(AssertionError, match="gives its example"), running(GUNICORN, SERVING_MODEL=str(file)):
        pass


def test_the_committed_model_gives_the_courses_answer(service: Service):
    answer = service.predict(SEED).json
    assert answer["churn_probability"] == pytest.approx(0.339064, abs=1e-6)
