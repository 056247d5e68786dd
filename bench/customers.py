"""The customers that the contenders are asked about."""

from serving.customer import SEED_CUSTOMER, features

ONE = features(SEED_CUSTOMER)


def many(number: int) -> list[dict]:
    """The real table's first customers; from its beginning again when it ends."""
    from serving import dataset  # noqa: PLC0415 (it takes half a second, which valgrind makes half a minute)

    table = [features(customer) for customer in dataset.packaged().customers]
    return [table[index % len(table)] for index in range(number)]
