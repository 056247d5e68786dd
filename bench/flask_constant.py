"""The ceiling: what Flask and gunicorn cost when the application does nothing."""

from flask import Flask

app = Flask(__name__)


@app.get("/ping")
def ping() -> str:
    return "PONG"


@app.post("/predict")
def predict() -> str:
    return '{"churn_probability":0.33906403093358023,"churn":false}'
