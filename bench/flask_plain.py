"""The peer that most tutorials end with: Flask, the model's own library, and gunicorn as it comes."""

import scripts
from flask import Flask, jsonify, request

dv, model = scripts.load()

app = Flask(__name__)


@app.get("/ping")
def ping():
    return "PONG"


@app.post("/predict")
def predict():
    customers = request.get_json()
    single = isinstance(customers, dict)
    matrix = dv.transform([customers] if single else customers)
    probabilities = scripts.probabilities(model, matrix)
    answers = [{"churn_probability": float(p), "churn": bool(p >= 0.5)} for p in probabilities]
    return jsonify(answers[0] if single else answers)
