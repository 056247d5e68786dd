"""The schema is data: whatever a model's fields are called and take, it is served, described and shown."""

import csv
import io
import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    GUNICORN,
    MODEL_FILE,
    SEED,
    InProcess,
    Service,
    probabilities,
    read,
    reload,
    running,
    wait_until,
    workers,
)
from msgspec import UNSET
from openapi_spec_validator import validate
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from predict import create_app
from serving import schema as schemas
from serving.fields import Constraints, Field
from serving.model.stand_ins import BadModel
from serving.web.metrics import meter
from serving.web.settings import Settings

TELECOM = read(MODEL_FILE)


def trained(records: list[dict[str, Any]], file: Path, **stored: Any) -> tuple[Path, list[float]]:
    """A model of records, the first half of which are yes, and what scikit-learn says of them."""
    vectorizer = DictVectorizer(sparse=False)
    matrix = vectorizer.fit_transform(records)
    classifier = LogisticRegression(solver="newton-cholesky").fit(
        matrix, [2 * i < len(records) for i in range(len(records))]
    )
    for name, value in stored.items():
        setattr(classifier, name, value)
    file.write_bytes(pickle.dumps((vectorizer, classifier)))
    return file, classifier.predict_proba(matrix)[:, 1].tolist()


@pytest.fixture(autouse=True)
def the_meter_goes_back_to_the_telecom_company():
    yield
    meter.follow(TELECOM)


def served(**settings: Any) -> InProcess:
    return InProcess(create_app(Settings(**settings)).test_client())


def as_csv(records: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, [*records[0]])
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


NAMES = {
    "Chinese": ["年龄", "性别 (男/女)"],
    "brackets and dots": ["a[0]", "b.c", "{d}", "<script>alert(1)</script>", "e(f)"],
    "quotes": ['say "hi"', "it's", "back\\slash", "a\nline"],
    "blanks": [" leading", "trailing ", "in between", ""],
    "names of ours": ["customerid", "index", "note", "error", "churn", "churn_probability", "reasons", "unusual"],
    "names of Python's": ["class", "None", "__init__", "f0", "id_", "self"],
    "names of JavaScript's": ["length", "constructor", "__proto__", "submit", "elements"],
    "one field": ["x"],
    "two hundred fields": [f"field {number}" for number in range(200)],
    "nearly the same": ["Newspaper", "newspaper", "news paper", "news_paper"],
}


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("kind", ["number", "text", "either"])
def test_fields_of_any_name_are_served_described_and_shown(case, kind, tmp_path):
    def value(row: int, place: int) -> str | float:
        is_text = kind == "text" or (kind == "either" and (row + place) % 3 == 0)
        return f"value {(row * 7 + place) % 4}" if is_text else float((row * 5 + place) % 9)

    records = [{name: value(row, place) for place, name in enumerate(NAMES[case])} for row in range(24)]
    file, expected = trained(records, tmp_path / "model.bin")
    service = served(model=str(file))
    target = "churn_probability"
    assert [service.predict(each).json[target] for each in records] == pytest.approx(expected, abs=1e-12)
    assert [each[target] for each in service.predict(records).json] == pytest.approx(expected, abs=1e-12)
    turned = [dict(reversed(each.items())) for each in records]
    assert [each[target] for each in service.predict(turned).json] == pytest.approx(expected, abs=1e-12)
    header, *rows = csv.reader(io.StringIO(service.predict(as_csv(records), "text/csv").body.decode(), newline=""))
    assert header[-4:] == [target, "churn", "note", "error"]
    assert [float(row[-4]) for row in rows] == pytest.approx(expected, abs=1e-12)
    assert {row[-2] + row[-1] for row in rows} == {""}
    described = service.get("/openapi.json").json
    validate(described)
    assert {*described["components"]["schemas"]["Record"]["properties"]} == {*NAMES[case]}
    page = service.get("/")
    assert (page.status, b"<script>alert" in page.body) == (200, False)
    assert page.body.count(b' data-of="') == len(NAMES[case])
    assert service.get("/metrics").status == service.get("/health").status == 200
    missing = dict([*records[0].items()][1:])
    assert service.predict(missing).json["errors"][0]["field"] == NAMES[case][0]


def test_names_and_values_of_a_model_are_no_formulas_in_its_scored_tables(tmp_path):
    sums, kinds = ["=HYPERLINK(1)", "x", "x-y", "-5"], ["a,_=b", "c"]
    records = [{"@sum": sums[row % 4], "kind": kinds[row % 2], "size": float(row)} for row in range(24)]
    pipeline = make_pipeline(DictVectorizer(), DecisionTreeClassifier())
    file = tmp_path / "model.bin"
    file.write_bytes(pickle.dumps(pipeline.fit(records, [row % 4 < 2 for row in range(24)])))
    service = served(model=str(file))
    sent = [*records[:4], {"@sum": "X", "kind": "A, =B", "size": 2.0}]
    for query in ("", "?explain=true", "?explain=words"):
        answer = service.request("POST", f"/predict{query}", as_csv(sent), {"Content-Type": "text/csv"})
        assert answer.status == 200, answer.body
        rows = [*csv.DictReader(io.StringIO(answer.body.decode()))]
        assert {row["error"] for row in rows} == {""}
        assert [row["'@sum"] for row in rows] == ["'=HYPERLINK(1)", "x", "x-y", "-5", "X"]
        assert [row["kind"] for row in rows] == ["a,_=b", "c", "a,_=b", "c", "A, '=B"]
        assert not [row for row in rows if row.get("reasons", "").startswith("@")]


def test_three_thousand_values_are_served_and_their_names_stay_with_those_who_have_a_key(tmp_path, monkeypatch):
    records = [{"town": f"town-{number}", "rooms": number % 7} for number in range(3000)]
    file, expected = trained(records, tmp_path / "model.bin")
    service = served(model=str(file))
    assert [each["churn_probability"] for each in service.predict(records).json] == pytest.approx(expected, abs=1e-12)
    [error] = service.predict({"town": "nowhere", "rooms": 1}).json["errors"]
    assert error["allowed"] == sorted(each["town"] for each in records)[:20]
    assert "the first 20 of 3,000" in error["message"]

    closed = served(model=str(file), api_keys="4d0fa1")
    for path in ("/model", "/openapi.json", "/"):
        assert "town-1" in service.get(path).body.decode()
        assert "town-1" not in closed.get(path).body.decode()
        assert "town-1" in closed.request("GET", path, headers={"X-API-Key": "4d0fa1"}).body.decode()
    validate(closed.get("/openapi.json").json)
    told = closed.get("/model").json
    assert told["example"] is None
    assert served(api_keys="4d0fa1").get("/model").json["example"]["probability"] == pytest.approx(0.339064, abs=1e-6)
    assert told["schema"]["fields"][1]["title"].startswith("town (3,000 values")
    assert closed.get("/").body.count(b' data-of="') == 2


def test_nothing_of_values_that_may_be_ids_is_shown_by_the_rest_of_the_schema(tmp_path):
    records = [{"user": f"user-{number}", "n": number} for number in range(60)]
    file, _ = trained(records, tmp_path / "model.bin")
    schema = served(model=str(file)).get("/model").json["schema"]
    user = next(field for field in schema["fields"] if field["name"] == "user")
    user |= {"blank": "user-7"}
    schema["example"] |= {"user": "user-8", "card": "9"}
    schema |= {"id": "card", "words": schema["words"] | {"labels": {"user-9": "Mr user-Nine"}}}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    closed = served(model=str(file), schema=str(tmp_path / "schema.json"), api_keys="4d0fa1")
    for path in ("/model", "/openapi.json", "/", "/metrics"):
        answer = closed.get(path)
        assert (answer.status, b"user-" in answer.body) == (401 if path == "/metrics" else 200, False)
    assert closed.get("/health").status == 200


def test_an_equals_sign_in_a_name_is_split_at_the_first_where_no_schema_says_otherwise(tmp_path):
    records = [{"a=b": "cd"[row % 2], "x=y": float(row)} for row in range(10)]
    file, expected = trained(records, tmp_path / "model.bin")
    assert [(field.name, field.values) for field in read(file).schema.fields] == [("a", ("b=c", "b=d")), ("x", ("y",))]
    fields = [{"name": "x=y", "type": "number"}, {"name": "a=b", "type": "string", "constraints": {"enum": ["c", "d"]}}]
    trained(records, file, serving_schema_={"fields": fields})
    model = read(file)
    assert [*model.schema.names] == ["x=y", "a=b"]
    assert probabilities(model, records) == pytest.approx(expected, abs=1e-12)


@pytest.fixture
def houses(tmp_path) -> tuple[Path, list[dict[str, Any]], list[float]]:
    records = [{"Street": ["NA", "Main", "High"][row % 3], "Rooms": row % 5 + 1, "House No": row} for row in range(30)]
    return *trained(
        [{k: v for k, v in each.items() if k != "House No"} for each in records], tmp_path / "m.bin"
    ), records


def test_a_schema_beside_the_file_says_what_the_file_does_not(houses, tmp_path):
    file, expected, records = houses
    shown = served(model=str(file)).get("/model").json["schema"]
    assert (shown["target"], shown["id"], shown["threshold"]) == ("churn", None, 0.5)
    rooms = next(field for field in shown["fields"] if field["name"] == "Rooms")
    street = next(field for field in shown["fields"] if field["name"] == "Street")
    assert rooms == {"name": "Rooms", "type": "number", "constraints": {"required": True}, "booleans": True}
    assert street == {
        "name": "Street",
        "type": "string",
        "constraints": {"required": True, "enum": ["High", "Main", "NA"]},
    }
    rooms |= {"type": "integer", "least": 1, "greatest": 4, "title": "Number of rooms"}
    rooms["constraints"]["minimum"] = 0
    del rooms["booleans"]
    street |= {"blank": "NA"}
    shown |= {"target": "sold", "id": "House No", "threshold": 0.25, "fields": [rooms, street]}
    shown["words"] |= {"record": "house", "records": "houses", "question": "Which houses are sold?"}
    (tmp_path / "schema.json").write_text(json.dumps(shown))
    service = served(model=str(file), schema=str(tmp_path / "schema.json"))
    answers = service.predict(records).json
    assert [each["sold_probability"] for each in answers] == pytest.approx(expected, abs=1e-12)
    assert [each["sold"] for each in answers] == [each >= 0.25 for each in expected]
    assert [each["House No"] for each in answers] == [*range(30)]
    assert [each.get("unusual") for each in answers] == [["Rooms"] if each["Rooms"] == 5 else None for each in records]
    blank = service.predict({"street": None, "ROOMS": 2.0, "house no": "12b"}).json
    assert blank == {"sold_probability": service.predict({"Street": "NA", "Rooms": 2}).json["sold_probability"]} | {
        "sold": blank["sold"],
        "House No": "12b",
    }
    [error] = service.predict([{"Street": "Main", "Rooms": -1}, {"Street": "NA", "Rooms": 1}]).json["errors"]
    assert error["message"] == "-1 is not a whole number from 0 to 9007199254740991"
    assert "One house is invalid" in service.predict({}).json["detail"]
    table = service.predict(b"House No;rooms;street\n1;5;\n2;1;n/a\n3;1;Low\n", "text/csv").body.decode().splitlines()
    assert table[0] == "House No;rooms;street;sold_probability;sold;note;error"
    assert [line.split(";")[5] for line in table[1:]] == ["unusual: Rooms", "", ""]
    assert table[3].endswith(';"street: the text ""Low"" is not one of the allowed values"'.replace("street", "Street"))
    page = service.get("/").body.decode()
    assert "Which houses are sold?" in page
    assert "Number of rooms" in page
    assert service.get("/openapi.json").json["info"]["description"].startswith("Which houses are sold?")


NUMBER = {"name": "Rooms", "type": "number"}
STREET = {"name": "Street", "type": "string", "constraints": {"enum": ["NA", "Main", "High"]}}
BAD = {
    "no JSON": ("{", "it is not JSON"),
    "no object": ([], "Expected `object`"),
    "a field less": ({"fields": [NUMBER]}, "it lacks what the model was trained on: Street=High, Street=Main"),
    "a field more": (
        {"fields": [NUMBER, STREET, NUMBER | {"name": "x"}]},
        "it has what the model was trained without: x",
    ),
    "a number as a category": (
        {"fields": [STREET | {"name": "Rooms"}, STREET]},
        "it lacks what the model was trained on: Rooms",
    ),
    "a field twice": ({"fields": [NUMBER, NUMBER, STREET]}, "it has two fields called 'Rooms'"),
    "an id that is a field": ({"fields": [NUMBER, STREET], "id": "Rooms"}, "it has two fields called 'Rooms'"),
    "an id like the target": ({"fields": [NUMBER, STREET], "id": "churn"}, "an answer cannot have the keys"),
    **{
        f"a target called {name}": ({"fields": [NUMBER, STREET], "target": name}, "an answer cannot have the keys")
        for name in ("unusual", "reasons", "reasons_unit")
    },
    "a target in quotes": ({"fields": [NUMBER, STREET], "target": 'a"b'}, "an answer cannot have the keys"),
    "no fields": ({"fields": []}, "it has no fields"),
    "a type of another kind": ({"fields": [NUMBER | {"type": "date"}, STREET]}, "Invalid enum value 'date'"),
    "a threshold beyond": ({"fields": [NUMBER, STREET], "threshold": 2}, "Expected `float` <= 1"),
    "a text without values": ({"fields": [NUMBER, {"name": "Street", "type": "string"}]}, "a category has an enum"),
    "numbers as text": ({"fields": [NUMBER, STREET | {"constraints": {"enum": ["NA", 1]}}]}, "not of its type"),
    "a value twice": ({"fields": [NUMBER, STREET | {"constraints": {"enum": ["NA", "NA"]}}]}, "a value twice"),
    "a blank that is no value": ({"fields": [NUMBER, STREET | {"blank": "none"}]}, "the field 'Street'"),
    "bounds the wrong way": ({"fields": [NUMBER | {"least": 2, "greatest": 1}, STREET]}, "not in order"),
    "an example that is none": (
        {"fields": [NUMBER, STREET], "example": {"Rooms": 1}},
        "the field 'Street' is not in the example",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_schema_that_contradicts_itself_or_the_model_is_refused_with_a_line(houses, case):
    schema, said = BAD[case]
    with pytest.raises(BadModel, match="its schema cannot be used") as refused:
        read(houses[0], schema=(schema if isinstance(schema, str) else json.dumps(schema)).encode())
    assert said in str(refused.value)


def test_of_many_features_that_a_schema_lacks_ten_are_named(tmp_path):
    file, _ = trained([{"town": f"{row % 12:02}", "rooms": row} for row in range(24)], tmp_path / "model.bin")
    ten = ", ".join(f"town={number:02}" for number in range(10))
    with pytest.raises(BadModel, match=rf"it lacks what the model was trained on: {ten}$"):
        read(file, schema=json.dumps({"fields": [NUMBER | {"name": "rooms"}]}).encode())
    more = [NUMBER | {"name": f"x{number:02}"} for number in range(12)]
    town = {"name": "town", "type": "string", "constraints": {"enum": [f"{number:02}" for number in range(12)]}}
    ten = ", ".join(f"x{number:02}" for number in range(10))
    with pytest.raises(BadModel, match=rf"it has what the model was trained without: {ten}$"):
        read(file, schema=json.dumps({"fields": [NUMBER | {"name": "rooms"}, town, *more]}).encode())


def test_values_are_shown_in_words():
    schema = TELECOM.schema
    told = {"internetservice": "dsl", "seniorcitizen": 1, "contract": "one_year", "tenure": 24, "totalcharges": 716.4}
    assert [schema.told(*each) for each in told.items()] == [
        "Internet service: DSL",
        "Senior citizen: Yes",
        "Contract: One year",
        "Tenure, in months: 24",
        "Total charges: 716.4",
    ]
    assert schema.told("contract", UNSET) == "Contract: unknown"
    own = schemas.from_json(
        {"fields": [{"name": "kind", "type": "string", "constraints": {"enum": ["Any Case", "b_c"]}}]}
    )
    assert [own.told("kind", value) for value in ("Any Case", "b_c")] == ["kind: Any Case", "kind: B c"]


def test_the_telecom_schema_is_a_table_schema_that_reads_back():
    described = json.loads(json.dumps(InProcess(create_app(Settings()).test_client()).get("/model").json["schema"]))
    assert schemas.from_json(described) == TELECOM.schema
    assert described["missingValues"][0] == ""
    by_name = {field["name"]: field for field in described["fields"]}
    assert by_name["tenure"]["constraints"] == {"required": True, "minimum": 0}
    assert (by_name["tenure"]["least"], by_name["tenure"]["greatest"], len(by_name["tenure"]["deciles"])) == (0, 72, 9)
    assert (by_name["totalcharges"]["least"], by_name["totalcharges"]["blank"]) == (18.8, 0)
    assert "required" not in by_name["totalcharges"]["constraints"]


SOME = Field("some", "any", categories=("yes", "NA", "1.5"), booleans=True)


@pytest.mark.parametrize(
    ("given", "from_text", "meant"),
    [
        *[("yes", False, "yes"), (" Yes ", False, "yes"), ("NA", True, "NA"), ("na", True, "NA"), (2, False, 2.0)],
        *[
            (True, False, True),
            ("true", True, True),
            ("1.5", True, "1.5"),
            ("1.50", True, 1.5),
            ("-2e3", True, -2000.0),
        ],
        *[("+.5", True, 0.5), ("5.", True, 5.0), ("2", False, None), ("NaN", True, None), ("1_000", True, None)],
        *[("inf", True, None), ("٣", True, None), ("1e400", True, None), (None, False, None), ([], False, None)],
        *[(2**53 - 1, False, 2.0**53 - 1), (2**53, False, None), ("no", False, None), (float("inf"), False, None)],
    ],
)
def test_what_is_meant_by_a_value_of_a_field_that_takes_either(given, from_text, meant):
    if meant is None:
        with pytest.raises(ValueError, match=r"^$"):
            SOME.read(given, from_text)
    else:
        assert (found := SOME.read(given, from_text)) == meant
        assert type(found) is type(meant)


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        (("False", "True"), ["True", "False"]),
        (("false", "true", "NA"), ["true", "false"]),
        (("no", "yes"), None),
        (("false", "true", "perhaps"), None),
        ((0, 1), None),
    ],
)
def test_true_and_false_are_the_two_texts_that_say_so(values, meant):
    is_text = isinstance(values[0], str)
    field = Field("f", "string" if is_text else "integer", constraints=Constraints(enum=values))
    if meant is None:
        with pytest.raises(ValueError, match=r"^$"):
            field.read(True)
    else:
        assert [field.read(True), field.read(False)] == meant


def test_a_number_beyond_the_training_table_is_said_and_a_filled_blank_is_not(service: Service, customer):
    cents = customer | {"monthlycharges": 2985, "totalcharges": 71640}
    assert service.predict(cents).json["unusual"] == ["monthlycharges", "totalcharges"]
    bounds = [
        customer | {"tenure": tenure, "totalcharges": total} for tenure, total in ((0, None), (72, 18.8), (73, 18.7))
    ]
    answers = service.predict(bounds).json
    assert [each.get("unusual") for each in answers] == [None, None, ["tenure", "totalcharges"]]
    zero = service.predict(customer | {"tenure": 0, "totalcharges": 0}).json
    assert "unusual" not in zero
    assert answers[0]["churn_probability"] == zero["churn_probability"]
    body = service.predict(as_csv([customer | {"totalcharges": " "}, cents]), "text/csv").body.decode()
    notes = [row["note"] for row in csv.DictReader(io.StringIO(body))]
    assert notes == ["", "unusual: monthlycharges, totalcharges"]


def test_unusual_is_what_the_bounds_say_however_it_is_asked_for(tmp_path):
    records = [{"y": float(row), "z": "no" if row % 3 else float(row)} for row in range(40)]
    fields = [
        {"name": "y", "type": "number", "greatest": 39, "blank": 999},
        {"name": "z", "type": "any", "categories": ["no"], "least": 0, "greatest": 39},
    ]
    file, _ = trained(records, tmp_path / "model.bin", serving_schema_={"fields": fields})
    service = served(model=str(file))
    for asked, expected in (
        ({"y": None, "z": "no"}, None),
        ({"y": 999, "z": 39}, None),
        ({"y": 40, "z": -1}, ["y", "z"]),
        ({"y": -5, "z": 40.5}, ["z"]),
    ):
        assert service.predict(asked).json.get("unusual") == expected
        assert [each.get("unusual") for each in service.predict([records[0], asked]).json] == [None, expected]
        [row] = csv.DictReader(io.StringIO(service.predict(as_csv([asked]), "text/csv").body.decode()))
        assert row["note"] == (f"unusual: {', '.join(expected)}" if expected else "")


def test_an_id_comes_back_from_a_record_that_spells_it_otherwise_than_the_others(tmp_path):
    file, _ = trained([{"n": float(row)} for row in range(10)], tmp_path / "model.bin")
    for name, others in (("Id", ["ID", "id", " iD"]), ("Número", ["NÚMERO", "número "])):
        (tmp_path / "schema.json").write_text(json.dumps({"id": name, "fields": [{"name": "n", "type": "number"}]}))
        service = served(model=str(file), schema=str(tmp_path / "schema.json"))
        for other in others:
            assert service.predict({"n": 1, other: 7}).json[name] == 7
            answers = service.predict([{"n": 1, name: "a"}, {"n": 1, other: "b"}, {"n": 1}]).json
            assert [each.get(name) for each in answers] == ["a", "b", None]


def test_a_lenient_service_explains_what_it_ignored_and_shows_it_as_it_came(customer):
    service = served(lenient=True)
    asked = customer | {"contract": "=HYPERLINK(1)", "tenure": "many"}
    body, json_type = json.dumps(asked).encode(), {"Content-Type": "application/json"}
    answer = service.request("POST", "/predict?explain=true", body, json_type).json
    assert answer["unusual"] == ["contract", "tenure"]
    assert {each["field"]: each["value"] for each in answer["reasons"]}["contract"] is None
    [row] = csv.DictReader(io.StringIO(service.predict(as_csv([asked]), "text/csv").body.decode()))
    assert (row["contract"], row["note"]) == ("'=HYPERLINK(1)", "unusual: contract, tenure")
    assert float(row["churn_probability"]) == answer["churn_probability"]


def test_the_example_may_be_another_than_that_of_training(tmp_path):
    schema = json.loads(json.dumps(served().get("/model").json["schema"]))
    schema["example"] |= {"tenure": 3}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    with running(GUNICORN, SERVING_SCHEMA=str(tmp_path / "schema.json")) as service:
        assert service.get("/model").json["example"]["record"]["tenure"] == 3


def test_one_service_changes_between_tables_under_load(tmp_path, customer):
    stroke = [{"age": float(row % 80), "work type": ["Private", "children", "Govt_job"][row % 3]} for row in range(60)]
    schema = {"target": "stroke", "words": {"question": "Who is at risk?"}, "fields": [
        {"name": "age", "type": "number", "constraints": {"minimum": 0}, "least": 0, "greatest": 79},
        {"name": "work type", "type": "string", "constraints": {"enum": ["Govt_job", "Private", "children"]}},
    ]}  # fmt: skip
    other, _ = trained(stroke, tmp_path / "stroke.bin", serving_schema_=schema)
    files = {"churn": MODEL_FILE.read_bytes(), "stroke": other.read_bytes()}
    asked = {"churn": customer, "stroke": stroke[3]}
    served_file = tmp_path / "model.bin"
    served_file.write_bytes(files["churn"])
    settings = {"SERVING_MODEL": str(served_file), "SERVING_ALLOW_SCHEMA_CHANGE": "1"}
    with running([*GUNICORN, "--workers", "2"], **settings) as service:
        wait_until(lambda: len(workers(service)) == 2)
        stop, wrong, seen = threading.Event(), [], set()

        def client() -> None:
            while not stop.is_set():
                mine = Service(service.port)
                for target, record in asked.items():
                    answer = mine.predict(record)
                    model = answer.headers["x-model"]
                    right = 200 if ids.get(target) == model else 422
                    if model not in ids.values() or answer.status != right:
                        wrong.append((target, model, answer))
                    elif right == 200:
                        seen.add((target, answer.body))
                mine.close()

        ids = {"churn": read(MODEL_FILE).about.id, "stroke": read(other).about.id}
        clients = [threading.Thread(target=client) for _ in range(3)]
        for each in clients:
            each.start()
        try:
            for target in ("stroke", "churn", "stroke"):
                (tmp_path / "new").write_bytes(files[target])
                (tmp_path / "new").replace(served_file)
                reload(service)
                service.close()
                described = service.get("/openapi.json").json["components"]["schemas"]
                assert [*described["Record"]["required"]] == [*asked[target]]
                question = {"churn": "Who is about to leave?", "stroke": "Who is at risk?"}[target]
                assert f"<h1>{question}</h1>" in service.get("/").body.decode()
                counts = service.get("/metrics").body.decode()
                assert ('field="age"' in counts, 'field="tenure"' in counts) == (target == "stroke", target == "churn")
        finally:
            stop.set()
            for each in clients:
                each.join()
        assert not wrong, wrong[:3]
        assert {target for target, _ in seen} == {*asked}
        assert len(seen) == 2
    assert "Traceback" not in service.log()


def test_nothing_in_the_package_but_the_example_names_a_field_of_the_telecom_company():
    files = [file for file in (Path(schemas.__file__).parent).rglob("*.py") if file.name != "telecom.py"]
    for file in [*files, *Path("templates").iterdir(), *Path("static").iterdir()]:
        words = file.read_text().lower()
        assert not [name for name in SEED if len(name) > 7 and name in words], file
