"""The same with XGBoost, as it is written most often: a DMatrix for each request."""

import os
import pickle
from pathlib import Path

import xgboost as xgb
from flask import Flask, jsonify, request

with Path(os.environ["BENCH_MODEL"]).open("rb") as file:
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
    probabilities = model.predict(xgb.DMatrix(matrix))
    answers = [{"churn_probability": float(p), "churn": bool(p >= 0.5)} for p in probabilities]
    return jsonify(answers[0] if single else answers)
