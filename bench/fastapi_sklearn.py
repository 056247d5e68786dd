"""The peer that newer tutorials end with: FastAPI, pydantic, scikit-learn, and uvicorn."""

import pickle
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

with (Path(__file__).parent.parent / "model_C=1.0.bin").open("rb") as file:
    dv, model = pickle.load(file)

YesNo = Literal["yes", "no"]
PhoneOption = Literal["yes", "no", "no_phone_service"]
InternetOption = Literal["yes", "no", "no_internet_service"]


class Customer(BaseModel):
    gender: Literal["female", "male"]
    seniorcitizen: Literal[0, 1]
    partner: YesNo
    dependents: YesNo
    phoneservice: YesNo
    multiplelines: PhoneOption
    internetservice: Literal["dsl", "fiber_optic", "no"]
    onlinesecurity: InternetOption
    onlinebackup: InternetOption
    deviceprotection: InternetOption
    techsupport: InternetOption
    streamingtv: InternetOption
    streamingmovies: InternetOption
    contract: Literal["month-to-month", "one_year", "two_year"]
    paperlessbilling: YesNo
    paymentmethod: Literal["electronic_check", "mailed_check", "bank_transfer_(automatic)", "credit_card_(automatic)"]
    tenure: Annotated[int, Field(ge=0)]
    monthlycharges: Annotated[float, Field(ge=0)]
    totalcharges: Annotated[float, Field(ge=0)]


class Prediction(BaseModel):
    churn_probability: float
    churn: bool


app = FastAPI()


@app.get("/ping", response_class=PlainTextResponse)
def ping() -> str:
    return "PONG"


@app.post("/predict")
def predict(customers: Customer | list[Customer]) -> Prediction | list[Prediction]:
    single = isinstance(customers, Customer)
    rows = [customer.model_dump() for customer in ([customers] if single else customers)]
    probabilities = model.predict_proba(dv.transform(rows))[:, 1]
    answers = [Prediction(churn_probability=p, churn=p >= 0.5) for p in probabilities.tolist()]
    return answers[0] if single else answers
