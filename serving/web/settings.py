"""The service's settings, as the environment gives them."""

import os
from collections.abc import Mapping

import msgspec
from msgspec import Struct


class BadSetting(ValueError):
    """A setting's value cannot be used; the message names its environment variable."""


class Settings(Struct, frozen=True, kw_only=True):
    """Each setting is the environment variable `SERVING_` and its name in capitals.

    model: the model file, or two, separated by a comma; a relative path starts at the service's folder
    schema: a file with the schema of a model file that has none or another one, as /model shows it
    lenient: 1 scores what is missing or not allowed as nothing, as scikit-learn does, and lists it as unusual
    allow_schema_change: 1 takes over models that break callers too: with another target, a new field, a value gone
    api_keys: the keys that open /predict, /metrics and /drift, separated by commas
    api_keys_file: a file with a key a line, which may change while the service runs
    require_key: 1 closes /predict, /metrics and /drift while there is no key
    metrics_key: a key that opens /metrics and /drift, and nothing else
    max_json_bytes: a larger JSON body is refused unread
    max_table_bytes: a larger table is refused
    max_records: a longer JSON array is refused; tables may be longer
    """

    model: str = "model_C=1.0.bin"
    schema: str = ""
    lenient: bool = False
    allow_schema_change: bool = False
    api_keys: str = ""
    api_keys_file: str = ""
    require_key: bool = False
    metrics_key: str = ""
    max_json_bytes: int = 5_500_000
    max_table_bytes: int = 1_000_000_000
    max_records: int = 10_000


# The variables of this service while it served one table, and what is asked for now.
RENAMED = {
    "CHURN_MAX_CSV_BYTES": "SERVING_MAX_TABLE_BYTES",
    "CHURN_MAX_CUSTOMERS": "SERVING_MAX_RECORDS",
    **{
        f"CHURN_{name}": f"SERVING_{name}"
        for name in ("MODEL", "API_KEYS", "API_KEYS_FILE", "API_KEY", "REQUIRE_KEY", "MAX_JSON_BYTES")
    },
}


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"SERVING_{name.upper()}"


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of these environment variables; an empty one counts as not set. Raises `BadSetting`."""
    for old, new in RENAMED.items():
        if old in environment:
            # Ignored, a list of keys would leave the service open.
            raise BadSetting(f"{old} is now called {new}; set that one instead")
    given = {field.name: environment.get(variable(field.name)) for field in msgspec.structs.fields(Settings)}
    given = {name: text for name, text in given.items() if text}
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.max_records`"
        name = str(error).rpartition("$.")[2].rstrip("`")
        wanted = "1 or 0" if isinstance(getattr(Settings(), name), bool) else "a whole number"
        raise BadSetting(f"{variable(name)} is {given[name]!r}; it must be {wanted}") from error
