"""The peer that most tutorials end with: Flask, scikit-learn, and gunicorn as it comes."""

import os
import pickle
from pathlib import Path

from flask import Flask, jsonify, request

MODEL = Path(os.environ.get("BENCH_MODEL", Path(__file__).parent.parent / "model_C=1.0.bin"))

with MODEL.open("rb") as file:
    dv, model = pickle.load(file)

app = Flask(__name__)


@app.get("/ping")
def ping():
    return "PONG"


@app.post("/predict")
def predict():
    customers = request.get_json()
    single = isinstance(customers, dict)
    matrix = dv.transform([customers] if single else customers)
    probabilities = model.predict_proba(matrix)[:, 1]
    answers = [{"churn_probability": float(p), "churn": bool(p >= 0.5)} for p in probabilities]
    return jsonify(answers[0] if single else answers)
