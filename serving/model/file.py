"""The model file: written, read, and tested on an example."""

import hashlib
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from serving import schema as schemas
from serving import whole_file
from serving.model import figures, grown_by_sklearn, grown_by_xgboost, packing, pickles
from serving.model.base import About, Model
from serving.model.figures import TrainingFigures
from serving.model.linear import LinearModel, is_linear
from serving.model.packing import Parts, features
from serving.model.stand_ins import FLOAT32, FLOAT64, BadModel, Global, names
from serving.model.through_sklearn import SklearnModel
from serving.model.tree_model import TreeModel
from serving.model.trees import Ensemble
from serving.prediction import Predictor
from serving.schema import BadSchema, Schema

# The classifier's attribute that holds the schema, as plain dictionaries and lists.
ATTRIBUTE = "serving_schema_"

# Names that an error shows.
MOST_NAMED = 10

# How files begin that are often taken for a model, and what to do about them.
OTHERS = {
    b"version https://git-lfs": "it is a pointer of Git LFS, and not the file itself: fetch that with git lfs pull",
    b"binf": "it is in XGBoost's old binary format: load it in XGBoost, and save it as .json or .ubj",
}


class Source(NamedTuple):
    """What a model is read from: the names and the bytes of its file or its two files, and a schema's JSON."""

    names: list[str]
    data: list[bytes]
    schema: bytes = b""


def attach(schema: Schema, found: TrainingFigures, classifier: Any) -> None:
    """Put a schema and figures into a classifier, so that they are pickled with it."""
    setattr(classifier, ATTRIBUTE, msgspec.to_builtins(schema))
    setattr(classifier, figures.ATTRIBUTE, msgspec.to_builtins(found))


def write(pair: tuple[Any, Any], path: Path) -> None:
    """Write the pair of vectorizer and classifier as a pickle, whole or not at all. Raises `OSError`.

    Another file that is replaced is kept as `.previous`: `make rollback` puts it back.
    """
    data = pickle.dumps(pair)
    if path.is_file() and (old := path.read_bytes()) != data:
        whole_file.write(path.with_name(f"{path.name}.previous"), old)
    whole_file.write(path, data)


def of(source: Source) -> Model:
    """The model of files' bytes, untested; linear ones and trees without their libraries, whatever version wrote them.

    Nothing in the files is run. Raises `BadModel`.
    """
    try:
        found = _read(source)
    except BadSchema as error:
        raise BadModel(f"its schema cannot be used: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, BadModel):
            raise
        raise BadModel(f"its vectorizer or its classifier is damaged or not fitted: {error!r}") from error
    if found.absent.blank == 0 and any(field.may_be_missing for field in found.schema.fields):
        raise BadModel(f"its schema leaves blanks missing, and its {found.about.classifier} knows no missing values")
    return found


def _read(source: Source) -> Model:
    parts = packing.parts([_inspected(data) for data in source.data])
    about = About(
        file=",".join(source.names),
        sha256=hashlib.sha256(b"".join(source.data)).hexdigest(),
        classifier=parts.classifier.stands_for[1],
        figures=figures.of(parts.classifier.state),
    )
    schema = _schema(parts, source.schema)
    named = names(parts.all)
    others = named - {*map(packing.name_of, parts.all)}
    if is_linear(parts):
        pickles.require_helpers(others)
        _require_two_classes(parts)
        return LinearModel(parts, schema, about)
    if (found := _trees(parts, others)) is not None:
        return TreeModel(parts, schema, about, found)
    return SklearnModel(source.data, parts, named, schema, about)


def _inspected(data: bytes) -> Any:
    for start, reason in OTHERS.items():
        if data.startswith(start):
            raise BadModel(reason)
    return grown_by_xgboost.saved(data) if grown_by_xgboost.is_saved(data) else pickles.inspect(data)


def _trees(parts: Parts, named: set[Global]) -> Ensemble | None:
    """The trees of stand-ins; None where they are no trees, or there is more to them than can be read."""
    name, vectorizer = parts.classifier.stands_for, parts.vectorizer.state
    width = len(vectorizer["feature_names_"])
    # Scalers compute in the vectorizer's type, which here is done in float64 alone.
    is_single = vectorizer["dtype"] is FLOAT32 and not parts.scalers
    is_readable = parts.scaling is not None and (vectorizer["dtype"] is FLOAT64 or is_single)
    if name in grown_by_xgboost.CLASSES:
        if not is_readable:
            raise BadModel("its vectorizer makes other numbers than float64, or its scaler does more than arithmetic")
        pickles.require_helpers(named, grown_by_xgboost.PARTS)
        return grown_by_xgboost.ensemble(parts.classifier, width, vectorizer["sparse"])
    if name not in grown_by_sklearn.CLASSES or not is_readable:
        return None
    _require_two_classes(parts)
    found = grown_by_sklearn.ensemble(parts.classifier, width)
    if found:
        # scikit-learn takes missing values in dense matrices alone.
        found = found._replace(
            is_single=found.is_single or is_single, knows_missing=found.knows_missing and not vectorizer["sparse"]
        )
        has_categories = parts.classifier.state.get("_preprocessor") is not None
        more = grown_by_sklearn.PARTS_OF_CATEGORIES if has_categories else set()
        pickles.require_helpers(named, grown_by_sklearn.PARTS | more)
    return found


def _require_two_classes(parts: Parts) -> None:
    if (classes := len(parts.classifier.state["classes_"].values)) != 2:
        raise BadModel(f"it has {classes} classes, and a yes/no question two")


def test(model: Model, is_its_own: bool) -> None:
    """Raise `BadModel` where a model does not score its example as its training did, or not all of three records.

    The example is its own, unless it came with another schema.
    """
    schema, found = model.schema, model.about.figures
    probability = Predictor(model).of_example()
    expected = found.example_probability if found and is_its_own else probability
    if not 0 <= probability <= 1 or abs(probability - expected) > 1e-9:
        raise BadModel(f"it gives its example {probability}, where its training gave it {expected}")
    columns = [[field.values[0], field.values[-1]] if field.values else [0.0, 0.0] for field in schema.fields]
    others = model.probabilities([*columns])
    if not all(0 <= each <= 1 for each in others):
        raise BadModel(f"it gives records {others} instead of probabilities")


def _schema(parts: Parts, overriding: bytes) -> Schema:
    """The schema of a model: a given one, or what training stored, or what its features tell."""
    names, separator = parts.vectorizer.state["feature_names_"], parts.vectorizer.state["separator"]
    if overriding:
        try:
            schema = schemas.from_json(msgspec.json.decode(overriding))
        except msgspec.DecodeError as error:
            raise BadSchema(f"it is not JSON: {error}") from error
    elif stored := parts.classifier.state.get(ATTRIBUTE):
        schema = schemas.from_json(stored)
    else:
        return schemas.from_features(names, separator)
    by_field = {field.name: {*features(field, separator)} for field in schema.fields}
    if strangers := [name for name in names if not any(name in each for each in by_field.values())][:MOST_NAMED]:
        raise BadSchema(f"it lacks what the model was trained on: {', '.join(strangers)}")
    if unused := [name for name, each in by_field.items() if each.isdisjoint(names)][:MOST_NAMED]:
        raise BadSchema(f"it has what the model was trained without: {', '.join(unused)}")
    return schema
