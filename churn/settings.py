"""The service's settings, as the environment gives them."""

import os
from collections.abc import Mapping

import msgspec
from msgspec import Struct


class BadSetting(ValueError):
    """A setting's value cannot be used; the message names its environment variable."""


class Settings(Struct, frozen=True, kw_only=True):
    """Each setting is the environment variable `CHURN_` and its name in capitals.

    model: the model file; a relative path starts at the service's folder
    api_keys: the keys that open /predict, separated by commas
    api_keys_file: a file with a key a line, which may change while the service runs
    require_key: 1 closes /predict while there is no key
    max_json_bytes: a larger JSON body is refused unread
    max_csv_bytes: a larger table is refused
    max_customers: a longer JSON array is refused; tables may be longer
    """

    model: str = "model_C=1.0.bin"
    api_keys: str = ""
    api_keys_file: str = ""
    require_key: bool = False
    max_json_bytes: int = 10_000_000
    max_csv_bytes: int = 1_000_000_000
    max_customers: int = 100_000


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"CHURN_{name.upper()}"


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of these environment variables; an empty one counts as not set. Raises `BadSetting`."""
    given = {field.name: environment.get(variable(field.name)) for field in msgspec.structs.fields(Settings)}
    given = {name: text for name, text in given.items() if text}
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.max_customers`"
        name = str(error).rpartition("$.")[2].rstrip("`")
        wanted = "1 or 0" if isinstance(getattr(Settings(), name), bool) else "a whole number"
        raise BadSetting(f"{variable(name)} is {given[name]!r}; it must be {wanted}") from error
