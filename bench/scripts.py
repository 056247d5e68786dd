"""A model and what its own library says with it, as a data scientist has it in a script or behind Flask."""

import os
import pickle
from pathlib import Path
from typing import Any

MODEL = Path(os.environ.get("BENCH_MODEL", Path(__file__).parent.parent / "model_C=1.0.bin"))


def load() -> tuple[Any, Any]:
    """The vectorizer and the model."""
    with MODEL.open("rb") as file:
        pair: tuple[Any, Any] = pickle.load(file)
    return pair


def probabilities(model: Any, matrix: Any) -> Any:
    """How probable yes is for each row; XGBoost's Booster wants a DMatrix each time."""
    if hasattr(model, "predict_proba"):
        return model.predict_proba(matrix)[:, 1]
    import xgboost as xgb  # noqa: PLC0415 (only its own models need it)

    return model.predict(xgb.DMatrix(matrix))
