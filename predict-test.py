"""Ask a running churn service about one customer.

Prints the answer and whether the customer gets a promo email; exit status 1 where the service
cannot be reached or answers an error.
"""

import argparse
import os
import sys
from urllib.parse import urlsplit

try:
    import requests
except ModuleNotFoundError:
    sys.exit("predict-test.py needs the package requests; install it with: pipenv sync --dev")

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
    url = urlsplit(text if "://" in text else f"http://{text}")
    return url._replace(path="/predict" if url.path in ("", "/") else url.path).geturl()


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a running churn service about one customer.")
    parser.add_argument(
        "--url",
        type=predict_url,
        default="http://localhost:9696/predict",
        help="the service; a bare host works (default: %(default)s)",
    )
    parser.add_argument("--api-key", default=os.environ.get("SERVING_API_KEY"), help="(default: $SERVING_API_KEY)")
    args = parser.parse_args()
    if "CHURN_API_KEY" in os.environ:
        sys.exit("predict-test.py: CHURN_API_KEY is now called SERVING_API_KEY; set that one instead")
    url = args.url
    # As the bytes that were typed: requests would send text as Latin-1.
    headers = {"X-API-Key": os.fsencode(args.api_key).strip()} if args.api_key else {}
    try:
        response = requests.post(url, json=CUSTOMER, headers=headers, timeout=10)
    except requests.RequestException as error:
        sys.exit(f"predict-test.py: {url} cannot be reached (does the service run?): {error}")
    try:
        answer = response.json()
        if not response.ok:
            sys.exit(f"predict-test.py: {url} answered {response.status_code}: {answer['detail']}")
        churn = answer["churn"]
    except (ValueError, TypeError, KeyError):
        sys.exit(f"predict-test.py: {url} answered {response.status_code}, and not as a churn service does")
    print(answer)
    print(f"{'' if churn else 'not '}sending promo email to {CUSTOMER_ID}")


if __name__ == "__main__":
    main()
