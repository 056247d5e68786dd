"""For information: the same decoding and scoring as the service's, without Flask around it."""

from pathlib import Path

import msgspec

from serving.model import trial
from serving.prediction import Predictor

predictor = Predictor(trial.read([Path(__file__).parent.parent / "model_C=1.0.bin"]))


def app(environ, start_response):
    body = b"PONG"
    if environ["REQUEST_METHOD"] == "POST":
        length = int(environ["CONTENT_LENGTH"])
        records = predictor.read(environ["wsgi.input"].read(length), most=10_000)
        body = msgspec.json.encode(predictor.predict(records)[1])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
