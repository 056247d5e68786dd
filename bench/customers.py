"""The customers that the contenders are asked about."""

from pathlib import Path

from serving.model import file

MODEL = Path(__file__).parent.parent / "model_C=1.0.bin"

# The course's customer.
ONE = file.of(file.Source([MODEL.name], [MODEL.read_bytes()])).schema.example


def many(number: int) -> list[dict]:
    """The real table's first customers; from its beginning again when it ends."""
    from serving.training import telecom  # noqa: PLC0415 (it takes half a second, which valgrind makes half a minute)

    found = telecom.packaged()
    table = found.records(range(len(found.rows)))
    return [table[index % len(table)] for index in range(number)]
