"""What the model file tells of its training, and the reasons for a score."""

import math
import pickle

import msgspec
import numpy as np
import pytest
from conftest import GUNICORN, MODEL_FILE, customers, packaged, read, running
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

from serving.model.stand_ins import BadModel
from serving.training.fitting import fingerprint
from serving.training.telecom import SCHEMA


@pytest.fixture(scope="module")
def parts(pair):
    """The course's training and test part, as scikit-learn sees them: matrix, churn, probabilities."""
    vectorizer, classifier = pair

    def part(rows):
        matrix = vectorizer.transform(packaged().records(rows))
        return matrix, np.array(packaged().target)[rows], classifier.predict_proba(matrix)[:, 1]

    return [part(rows) for rows in train_test_split(range(7043), test_size=0.2, random_state=1)]


def test_the_service_tells_what_it_serves(service, parts):
    answer = service.get("/model")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    told = answer.json
    assert told["file"] == "model_C=1.0.bin"
    assert len(told["sha256"]) == 64
    assert (told["classifier"], told["threshold"]) == ("LogisticRegression", 0.5)
    assert [field["name"] for field in told["schema"]["fields"]] == [*SCHEMA.names]
    assert told["schema"]["fields"][0]["constraints"]["enum"] == ["female", "male"]
    assert told["example"]["record"]["contract"] == "month-to-month"
    assert told["example"]["probability"] == pytest.approx(0.339064, abs=1e-6)

    training, (_, churn, probabilities) = told["training"], parts[1]
    assert (training["rows"], training["training_rows"], training["test_rows"]) == (7043, 5634, 1409)
    assert training["positive_rate"] == pytest.approx(1869 / 7043)
    assert training["test_positives"] == churn.sum()
    assert training["auc"]["test"] == pytest.approx(roc_auc_score(churn, probabilities))
    assert training["auc"]["mean"] == pytest.approx(0.842, abs=0.0005)
    assert training["log_loss"] == pytest.approx(log_loss(churn, probabilities))
    assert training["table_sha256"] == fingerprint(packaged())
    assert training["versions"].keys() == {"python", "scikit-learn", "numpy"}

    thresholds = training["thresholds"]
    assert [each["threshold"] for each in thresholds] == [round(0.05 * step, 2) for step in range(1, 20)]
    for each in thresholds:
        written = probabilities >= each["threshold"]
        assert each["chosen"] == written.sum()
        assert each["positives"] == (written & churn).sum()
        assert each["negatives"] == (written & ~churn).sum()

    deciles = training["calibration"]
    assert sum(each["records"] for each in deciles) == 1409
    assert [each["predicted"] for each in deciles] == sorted(each["predicted"] for each in deciles)
    assert sum(each["observed"] * each["records"] for each in deciles) == pytest.approx(churn.sum())
    assert (training["roc"][0], training["roc"][-1]) == ([0, 0], [1, 1])


def test_reasons_add_up_to_the_difference_from_the_average_customer(service, customer, parts, pair):
    vectorizer, classifier = pair
    average = classifier.decision_function(parts[0][0]).mean()
    for asked in (customer, customer | {"tenure": 70, "contract": "two_year", "seniorcitizen": 1}):
        answer = explained(service, asked)
        shares = [reason["share"] for reason in answer["reasons"]]
        log_odds = classifier.decision_function(vectorizer.transform([asked]))[0]
        assert math.fsum(shares) == pytest.approx(log_odds - average, abs=1e-9)
        assert [abs(share) for share in shares] == sorted(map(abs, shares), reverse=True)
        assert {reason["field"]: reason["value"] for reason in answer["reasons"]} == asked
        assert answer["churn_probability"] == service.predict(asked).json["churn_probability"]


def explained(service, asked):
    return service.request(
        "POST", "/predict?explain=true", msgspec.json.encode(asked), {"Content-Type": "application/json"}
    ).json


def test_every_customer_of_an_array_has_reasons(service, customer):
    answers = explained(service, [customer, customer | {"tenure": 1}])
    assert [len(answer["reasons"]) for answer in answers] == [19, 19]


@pytest.mark.parametrize("query", ["", "?", "?explain=false", "?explain=0", "?other=1"])
def test_reasons_come_only_when_asked_for(service, customer, query):
    answer = service.request(
        "POST", f"/predict{query}", msgspec.json.encode(customer), {"Content-Type": "application/json"}
    )
    assert "reasons" not in answer.json


def test_explain_is_true_or_false(service, customer):
    answer = service.request(
        "POST", "/predict?explain=perhaps", msgspec.json.encode(customer), {"Content-Type": "application/json"}
    )
    assert answer.status == 400
    assert "perhaps" in answer.json["detail"]


@pytest.mark.parametrize(
    "classifier", [BaggingClassifier(n_estimators=3, random_state=1), LogisticRegression(max_iter=50)]
)
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_a_model_without_reasons_says_so(pair, customer, tmp_path, classifier):
    # What scikit-learn itself scores has none; a logistic regression that another script trained has no averages.
    vectorizer, _ = pair
    matrix = vectorizer.transform(customers()[:300])
    file = tmp_path / "model.bin"
    file.write_bytes(pickle.dumps((vectorizer, classifier.fit(matrix, packaged().target[:300]))))
    with running(GUNICORN, SERVING_MODEL=str(file)) as service:
        assert service.predict(customer).status == 200
        assert service.get("/model").json["training"] is None
        for body, content_type in ((msgspec.json.encode(customer), "application/json"), (csv(customer), "text/csv")):
            answer = service.request("POST", "/predict?explain=true", body, {"Content-Type": content_type})
            assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
            assert "training averages" in answer.json["detail"] or "linear models and trees" in answer.json["detail"]


def csv(customer) -> bytes:
    return "\n".join([",".join(customer), ",".join(map(str, customer.values())), ""]).encode()


EDGES = {"edges": [0.2, 0.4], "shares": [0.5, 0.3, 0.2, 0.0]}


@pytest.mark.parametrize(
    "damage",
    [
        {"rows": "many"},
        {"rows": 0},
        {"test_rows": 0},
        {"rows": 10**400},
        {"log_loss": math.nan},
        {"shares": {"tenure": {"up to 2": 2.0}}},
        {"shares": {"tenure": {"up to 2": -0.1}}},
        {"edges": {"tenure": [2, 1]}},
        {"edges": {"tenure": [2, 2]}},
        {"edges": {"tenure": []}},
        {"edges": {"tenure": [math.inf]}},
        {"probabilities": EDGES | {"shares": [0.5, 0.5]}},
        {"probabilities": EDGES | {"edges": [0.4, 0.2]}},
        {"probabilities": {"edges": [], "shares": [1.0, 0.0]}},
    ],
    ids=str,
)
def test_damaged_figures_are_refused(tmp_path, damage):
    vectorizer, classifier = pickle.loads(MODEL_FILE.read_bytes())
    classifier.serving_figures_ = {**classifier.serving_figures_, **damage}
    file = tmp_path / "model.bin"
    file.write_bytes(pickle.dumps((vectorizer, classifier)))
    with pytest.raises(BadModel, match="its training figures cannot be used"):
        read(file)


def test_figures_of_before_there_were_bins_are_served(tmp_path):
    vectorizer, classifier = pickle.loads(MODEL_FILE.read_bytes())
    for name in ("shares", "edges", "probabilities"):
        del classifier.serving_figures_[name]
    file = tmp_path / "model.bin"
    file.write_bytes(pickle.dumps((vectorizer, classifier)))
    assert read(file).about.figures.rows == 7043
