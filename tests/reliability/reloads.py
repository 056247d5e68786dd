"""Reloads under load, every fifth with a model file that cannot be served."""

import pickle
import shutil
import tempfile
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from conftest import GUNICORN, MODEL_FILE, reload, running
from load import Question, load
from test_reload import broken, replace, sha256

CLIENTS = 4
REFUSED = "model refused"


class Reloads(NamedTuple):
    """What a number of reloads has shown."""

    taken_over: int
    refused: int
    right: int


def reloads(asked: list[Question], number: int) -> Reloads:
    """Reload so many times; asserts that no request failed and that always a good model answered.

    The two models that take turns score alike, and only their SHA-256 differs, so that whichever
    answers must give scikit-learn's values; tests/test_reload.py has two that score differently.
    """
    original = MODEL_FILE.read_bytes()
    same_in_other_bytes = pickle.dumps(pickle.loads(original), protocol=4)
    good = cycle([same_in_other_bytes, original])
    bad = cycle(broken())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.bin"
        shutil.copy(MODEL_FILE, file)
        with (
            running([*GUNICORN, "--workers", "2"], SERVING_MODEL=str(file)) as service,
            load(service, CLIENTS, asked) as seen,
        ):
            for turn in range(1, number + 1):
                before = sha256(service)
                is_bad = turn % 5 == 0
                replace(file, next(bad if is_bad else good))
                reload(service)
                assert service.log().count(REFUSED) == turn // 5
                assert (sha256(service) == before) == is_bad
    assert not seen.wrong, seen.wrong[:3]
    assert not seen.cut_off, seen.cut_off[:3]
    assert "Traceback" not in service.log()
    return Reloads(number - number // 5, number // 5, seen.right)
