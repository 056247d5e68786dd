"""Ask a running service about one customer, or with --example about the example that its model comes with.

Prints the answer, and whether the customer gets a promo email; exit status 1 where the service cannot be reached,
answers an error, or says something else of its example than its model does.
"""

from __future__ import annotations  # the one script that older Pythons run too

import argparse
import os
import sys
from typing import Any
from urllib.parse import urljoin, urlsplit

try:
    import requests
except ModuleNotFoundError:
    installed = "install it with: pipenv sync --dev, and start with: pipenv run python predict-test.py"
    sys.exit(f"predict-test.py needs the package requests; {installed}")

CUSTOMER_ID = "xyz-123"
CUSTOMER = {
    "gender": "female",
    "seniorcitizen": 0,
    "partner": "yes",
    "dependents": "no",
    "phoneservice": "no",
    "multiplelines": "no_phone_service",
    "internetservice": "dsl",
    "onlinesecurity": "no",
    "onlinebackup": "yes",
    "deviceprotection": "no",
    "techsupport": "no",
    "streamingtv": "no",
    "streamingmovies": "no",
    "contract": "month-to-month",
    "paperlessbilling": "yes",
    "paymentmethod": "electronic_check",
    "tenure": 24,
    "monthlycharges": 29.85,
    "totalcharges": 24 * 29.85,
}


def predict_url(text: str) -> str:
    """The address of /predict for what a user types: a bare host, a service's root, or all of it."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        (url.hostname or "").encode("idna")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no address: {error}") from error
    return url._replace(path="/predict" if url.path in ("", "/") else url.path).geturl()


def why(error: BaseException) -> str:
    """What keeps a service from being reached: what to do about it, or else what requests says."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there; start the service in another terminal, with: make serve"
        if isinstance(cause, ConnectionResetError):  # or closed without an answer
            return "the connection ended without an answer; of a container, look at docker logs and at -p 9696:9696"
        cause = cause.__cause__ or cause.__context__
    return str(error)


def ask(url: str, headers: dict[str, str | bytes], record: Any = None) -> Any:
    """The decoded answer to a record, or without one to a GET; others end the script with a line."""
    try:
        response = requests.request("GET" if record is None else "POST", url, json=record, headers=headers, timeout=10)
    except requests.RequestException as error:
        sys.exit(f"predict-test.py: {url} cannot be reached: {why(error)}")
    try:
        answer = response.json()
        if response.ok:
            return answer
        remedy = " (--api-key, or SERVING_API_KEY)" if response.status_code == 401 else ""
        sys.exit(f"predict-test.py: {url} answered {response.status_code}: {answer['detail']}{remedy}")
    except (ValueError, TypeError, KeyError):
        guess = "is that another program's port, or a proxy's whose service does not run?"
        sys.exit(f"predict-test.py: {url} answered {response.status_code}, and not as a churn service does; {guess}")


def ask_about_the_example(url: str, headers: dict[str, str | bytes]) -> None:
    """Ask /predict what /model says that it answers."""
    model_url = urljoin(url, "model")
    model = ask(model_url, headers)
    try:
        if not (example := model["example"]):
            sys.exit(f"predict-test.py: {model_url} shows its example to holders of a key: --api-key")
        record, expected = example["record"], example["probability"]
        print(record)
        answer = ask(url, headers, record)
        print(answer)
        found = answer[f"{model['schema']['target']}_probability"]
    except (TypeError, KeyError):
        sys.exit(f"predict-test.py: {url} answered, and not as a churn service does")
    if abs(found - expected) > 1e-9:
        sys.exit(f"predict-test.py: {url} answered {found}, and its model says {expected}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a running service about one customer.")
    parser.add_argument(
        "--url",
        type=predict_url,
        default="http://localhost:9696/predict",
        help="the service; a bare host works (default: %(default)s)",
    )
    parser.add_argument("--api-key", default=os.environ.get("SERVING_API_KEY"), help="(default: $SERVING_API_KEY)")
    parser.add_argument(
        "--example", action="store_true", help="ask about the example that the service's model comes with"
    )
    args = parser.parse_args()
    if "CHURN_API_KEY" in os.environ:
        sys.exit("predict-test.py: CHURN_API_KEY is now called SERVING_API_KEY; set that one instead")
    # As the bytes that were typed: requests would send text as Latin-1.
    headers: dict[str, str | bytes] = {"X-API-Key": os.fsencode(args.api_key).strip()} if args.api_key else {}
    if args.example:
        ask_about_the_example(args.url, headers)
        return
    answer = ask(args.url, headers, CUSTOMER)
    if not (isinstance(answer, dict) and isinstance(answer.get("churn"), bool)):
        sys.exit(f"predict-test.py: {args.url} answered 200, and not as a churn service does")
    print(answer)
    print(f"{'' if answer['churn'] else 'not '}sending promo email to {CUSTOMER_ID}")


if __name__ == "__main__":
    main()
