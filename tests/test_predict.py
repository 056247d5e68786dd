"""POST /predict and its neighbours, through the test client and through real servers."""

import json

import pytest
from conftest import Service
from flask import after_this_request, request_tearing_down

from predict import create_app
from serving.errors import error_of
from serving.fields import Constraints, Field
from serving.web.settings import Settings

DEEP = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def problem(answer, status):
    """The problem of an answer that must be one."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json
    assert {"type", "title", "status", "detail"} <= found.keys()
    assert found["status"] == status
    return found


def test_ping(service: Service):
    answer = service.get("/ping")
    assert (answer.status, answer.body) == (200, b"PONG")
    assert answer.headers["content-type"].startswith("text/plain")


def test_health(service: Service):
    answer = service.get("/health")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_functions_of_ones_own_around_a_request_are_called(customer):
    app = create_app(Settings())
    called = []
    app.before_request(lambda: called.append("before"))
    app.teardown_request(lambda _: called.append("teardown"))
    app.teardown_appcontext(lambda _: called.append("application"))

    @app.after_request
    def allow_a_page_elsewhere(response):
        response.headers["Access-Control-Allow-Origin"] = "https://crm.example"
        return response

    answer = app.test_client().post("/predict", json=customer)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://crm.example"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert (answer.mimetype, answer.json["churn"]) == ("application/json", False)
    assert called == ["before", "teardown", "application"]
    many = app.test_client().post("/predict", json=[customer] * 3000)
    assert len(many.json) == 3000
    assert int(many.headers["Content-Length"]) == len(many.data)


def test_other_ways_to_be_called_around_a_request_are_heeded_too(customer):
    app = create_app(Settings())
    called = []
    app.url_value_preprocessor(lambda *_: called.append("address"))

    @request_tearing_down.connect_via(app)
    def hear(*_, **__):
        called.append("signal")

    assert app.test_client().post("/predict", json=customer).status_code == 200
    assert called == ["address", "signal"]
    app = create_app(Settings())

    @app.before_request
    def answer_later():
        @after_this_request
        def name_it(response):
            response.headers["X-Service"] = "churn"
            return response

    assert app.test_client().post("/predict", json=customer).headers["X-Service"] == "churn"


def test_the_course_customer_stays(service: Service, customer):
    answer = service.predict(customer)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"churn_probability": pytest.approx(0.339064, abs=1e-6), "churn": False}


def test_the_same_customer_leaves_in_the_first_month(service: Service, customer):
    answer = service.predict(customer | {"tenure": 1, "totalcharges": 29.85})
    assert answer.json == {"churn_probability": pytest.approx(0.627923, abs=1e-6), "churn": True}


def test_several_customers_are_answered_in_order(service: Service, customer):
    new = customer | {"tenure": 1, "totalcharges": 29.85}
    answers = service.predict([customer, new, customer]).json
    assert [answer["churn"] for answer in answers] == [False, True, False]
    for answer, each in zip(answers, (customer, new, customer), strict=True):
        alone = service.predict(each).json
        assert answer["churn_probability"] == pytest.approx(alone["churn_probability"], abs=1e-15)


def test_no_customers_are_no_error(service: Service):
    answer = service.predict([])
    assert (answer.status, answer.json) == (200, [])


def test_the_raw_spelling_gives_the_same_answer(service: Service, customer):
    raw = {
        "gender": "Female",
        "SeniorCitizen": 0,
        "Partner": "Yes",
        "Dependents": "No",
        "PhoneService": "No",
        "MultipleLines": "No phone service",
        "InternetService": "DSL",
        "OnlineSecurity": "No",
        "OnlineBackup": "Yes",
        "DeviceProtection": "No",
        "TechSupport": "No",
        "StreamingTV": "No",
        "StreamingMovies": "No",
        "Contract": "Month-to-month",
        "PaperlessBilling": "Yes",
        "PaymentMethod": "Electronic check",
        "tenure": 24,
        "MonthlyCharges": 29.85,
        "TotalCharges": 24 * 29.85,
    }
    assert service.predict(raw).json == service.predict(customer).json
    assert service.predict([raw, customer]).json == service.predict([customer, customer]).json


@pytest.mark.parametrize("key", ["customerid", "customerID"])
@pytest.mark.parametrize("customerid", ["xyz-123", 7, "Ünal 1"])
def test_a_customer_id_comes_back_as_it_was(service: Service, customer, key, customerid):
    assert service.predict(customer | {key: customerid}).json["customerid"] == customerid
    assert [each.get("customerid") for each in service.predict([customer | {key: customerid}, customer]).json] == [
        customerid,
        None,
    ]


def test_other_keys_are_ignored(service: Service, customer):
    assert service.predict(customer | {"region": "north", "notes": [{}]}).json == service.predict(customer).json


def test_whole_numbers_may_come_as_floats(service: Service, customer):
    as_floats = customer | {"tenure": 24.0, "seniorcitizen": 0.0, "customerid": 7.0}
    assert service.predict(as_floats).json == service.predict(customer | {"customerid": 7}).json


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"gender":', "truncated"),
        (b"{'gender': 1}", "object keys must be strings"),
        (b'{"tenure": NaN}', "no NaN"),
        (b'{"tenure": -Infinity}', "no NaN and no Infinity"),
        (b"churn", "invalid character"),
        (DEEP, "nested too deeply"),
        (DEEP[5:100_000], "nested too deeply"),
        (b'{"gender": "\xff\xfe"}', "UTF-8"),
        (b'\xff\xfe{\x00"\x00', "UTF-8"),
        (b'{"id": 1' + b"0" * 5000 + b"}", "out of range"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value[:20]),
)
def test_what_is_not_json_is_a_400(service: Service, body, said):
    found = problem(service.predict(body), 400)
    assert said in found["detail"]
    assert service.get("/health").status == 200


def test_non_utf8_bytes_are_refused_even_where_nobody_reads_them(service: Service, customer):
    body = json.dumps(customer | {"notes": "?"}).encode().replace(b"?", b"\xff")
    assert "UTF-8" in problem(service.predict(body), 400)["detail"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_another_content_type_is_a_415_that_names_the_right_one(service: Service, customer, content_type):
    assert "application/json" in problem(service.predict(customer, content_type), 415)["detail"]


@pytest.mark.parametrize(
    ("field", "value", "said", "allowed"),
    [
        ("gender", "divers", 'the text "divers" is not one of the allowed values', ["female", "male"]),
        ("contract", "weekly", "weekly", ["month-to-month", "one_year", "two_year"]),
        ("contract", None, "null", ["month-to-month", "one_year", "two_year"]),
        ("contract", ["one_year"], "an array", ["month-to-month", "one_year", "two_year"]),
        ("partner", True, "true", ["yes", "no"]),
        ("seniorcitizen", "0", 'the text "0"', [0, 1]),
        ("seniorcitizen", True, "true", [0, 1]),
        ("seniorcitizen", 2, "2", [0, 1]),
        ("tenure", "24", 'the text "24" is not a whole number', "a whole number from 0 to 9007199254740991"),
        ("tenure", True, "true is not a whole number", "a whole number from 0 to 9007199254740991"),
        ("tenure", 1.5, "1.5 is not a whole number", "a whole number from 0 to 9007199254740991"),
        ("tenure", -1, "-1 is not a whole number", "a whole number from 0 to 9007199254740991"),
        ("tenure", None, "null is not a whole number", "a whole number from 0 to 9007199254740991"),
        ("tenure", 10**400, "1000", "a whole number from 0 to 9007199254740991"),
        ("monthlycharges", -0.01, "-0.01 is not a number", "a number from 0 to 9007199254740991"),
        ("monthlycharges", True, "true is not a number", "a number from 0 to 9007199254740991"),
        ("totalcharges", "", 'the text "" is not a number', "a number from 0 to 9007199254740991"),
        ("totalcharges", {}, "an object is not a number", "a number from 0 to 9007199254740991"),
        ("totalcharges", 1e17, "1e+17 is not a number", "a number from 0 to 9007199254740991"),
        ("customerid", ["a"], "an array cannot be an id", "text or a whole number"),
    ],
)
def test_a_wrong_value_is_a_422_that_says_what_is_allowed(service: Service, customer, field, value, said, allowed):
    [error] = problem(service.predict(customer | {field: value}), 422)["errors"]
    assert (error["index"], error["field"], error["allowed"]) == (0, field, allowed)
    assert said in error["message"]


@pytest.mark.parametrize("number", [b"1e400", b"9" * 400 + b".5"])
def test_a_number_too_large_to_read_is_named(service: Service, customer, number):
    body = json.dumps(customer | {"monthlycharges": "?"}).encode().replace(b'"?"', number)
    [error] = problem(service.predict(body), 422)["errors"]
    assert error["field"] == "monthlycharges"
    assert "too large" in error["message"]


def test_a_missing_field_is_named(service: Service, customer):
    del customer["contract"]
    [error] = problem(service.predict(customer), 422)["errors"]
    assert (error["field"], error["message"]) == ("contract", "it is missing")
    assert error["allowed"] == ["month-to-month", "one_year", "two_year"]


@pytest.mark.parametrize("misspelt", ["tenur", "tenure_months", "Tenuer"])
def test_a_misspelt_field_is_suggested(service: Service, customer, misspelt):
    customer[misspelt] = customer.pop("tenure")
    [error] = problem(service.predict(customer), 422)["errors"]
    assert error["field"] == "tenure"
    assert f'"{misspelt.lower()}"' in error["message"]


def test_every_error_of_every_customer_is_named_at_once(service: Service, customer):
    two_wrong = customer | {"tenure": -1, "contract": "weekly"}
    one_wrong = customer | {"gender": "x"}
    found = problem(service.predict([customer, two_wrong, customer, one_wrong]), 422)
    assert [(error["index"], error["field"]) for error in found["errors"]] == [
        (1, "contract"),
        (1, "tenure"),
        (3, "gender"),
    ]
    assert "2 customers" in found["detail"]


@pytest.mark.parametrize(
    ("body", "index", "said"),
    [
        (b"[[]]", 0, "an array"),
        (b"[[{}]]", 0, "an array"),
        (b"7", 0, "not 7"),
        (b'"x"', 0, '"x"'),
        (b"null", 0, "null"),
    ],
)
def test_what_is_no_customer_at_all_is_a_422(service: Service, body, index, said):
    [error] = problem(service.predict(body), 422)["errors"]
    assert error["index"] == index
    assert said in error["message"]
    assert "field" not in error


def test_the_errors_of_a_hopeless_array_are_cut_off(service: Service):
    found = problem(service.predict([{}] * 1000), 422)
    assert len(found["errors"]) == 1000
    assert "or more" in found["detail"]


def test_every_answer_names_the_model(service: Service, customer):
    model = service.get("/model").json["sha256"][:12]
    answers = [
        *map(service.get, ("/ping", "/", "/metrics", "/nothing")),
        service.predict(customer),
        service.predict({}),
    ]
    answers.append(service.predict(b"gender\n", "text/csv"))
    assert {answer.headers["x-model"] for answer in answers} == {model}


def test_a_record_may_have_a_thousand_keys_more_and_not_one_more(service: Service, customer):
    raw = {"SeniorCitizen" if key == "seniorcitizen" else key: value for key, value in customer.items()}
    others = {f"key {number}": number for number in range(1000)}
    assert service.predict(raw | others).status == 200
    [error] = problem(service.predict(raw | others | {"one": "more"}), 422)["errors"]
    assert error == {"index": 0, "message": "it has 1,020 keys, and can have 1,000 besides its 19 fields"}


@pytest.mark.parametrize(
    "body", [b"[" + b"[]," * 300_000 + b"[]]", b"{" + b'"":0,' * 501_019 + b'"":0}'], ids=["[]", "{}"]
)
def test_json_that_would_fill_memory_is_a_413(service: Service, body):
    assert "A JSON body can have 501,019 values" in problem(service.predict(body), 413)["detail"]


def test_the_last_customer_that_an_array_may_have_and_one_more(service: Service, customer):
    assert len(service.predict([customer] * 10_000).json) == 10_000
    assert "10,000 customers" in problem(service.predict([customer] * 10_001), 413)["detail"]


def test_misspellings_are_looked_for_in_the_first_errors(service: Service, customer):
    customer["tenur"] = customer.pop("tenure")
    errors = problem(service.predict([customer] * 30), 422)["errors"]
    assert [("tenur" in error["message"]) for error in errors] == [True] * 20 + [False] * 10


def test_the_likely_misspelling_is_found_among_many_keys(service: Service, customer):
    others = {f"crm field {number}": number for number in range(100)}
    customer["montlycharges"] = customer.pop("monthlycharges")
    [error] = problem(service.predict(others | customer), 422)["errors"]
    assert error["message"] == 'it is missing; is "montlycharges" a misspelling of it?'


def test_an_error_names_the_first_values_of_many_and_how_many_there_are():
    towns = tuple(f"town-{number}" for number in range(21))
    error = error_of(Field("town", "string", constraints=Constraints(enum=towns)), "it is missing")
    assert (error.allowed, error.message) == (towns[:20], "it is missing (the first 20 of 21 allowed values are named)")
    few = Field("town", "string", constraints=Constraints(enum=towns[:20]))
    assert error_of(few, "it is missing").message == "it is missing"


def test_unknown_paths_and_methods_are_problems(service: Service):
    problem(service.get("/predictions"), 404)
    assert set(service.get("/predict").headers["allow"].split(", ")) == {"OPTIONS", "POST"}
    assert "POST" in problem(service.request("DELETE", "/predict"), 405)["detail"]
