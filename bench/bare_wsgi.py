"""For information: the same decoding and scoring as the service's, without Flask around it."""

from pathlib import Path

import msgspec

from serving import model, prediction
from serving.metrics import meter
from serving.records import from_json


def nothing(*args):
    """Take the place of what counts."""


meter.scored = meter.scored_alone = nothing
churn_model = model.read(Path(__file__).parent.parent / "model_C=1.0.bin")


def app(environ, start_response):
    body = b"PONG"
    if environ["REQUEST_METHOD"] == "POST":
        length = int(environ["CONTENT_LENGTH"])
        body = msgspec.json.encode(
            prediction.predict(churn_model, from_json(environ["wsgi.input"].read(length), most=10_000), explain=False)
        )
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
