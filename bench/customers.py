"""The customers that the contenders are asked about."""

ONE = {
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


def many(number: int) -> list[dict]:
    """The real table's first customers; from its beginning again when it ends."""
    # Imported where it is needed: the servers of this folder import this module too.
    from churn import dataset  # noqa: PLC0415
    from churn.customer import features  # noqa: PLC0415

    table = [features(customer) for customer in dataset.packaged().customers]
    return [table[index % len(table)] for index in range(number)]
