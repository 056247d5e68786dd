"""What a new model's schema would break for those who call the service with the old one's."""

from serving.errors import MOST_ALLOWED
from serving.fields import Field
from serving.schema import Schema


class BreaksCallers(ValueError):
    """A new schema refuses what the old one takes, or answers by other names; the message names each difference."""


def broken(old: Schema, new: Schema, lenient: bool = False) -> list[str]:
    """What callers could send or read with the old schema and cannot with the new one, in words; none where a model
    with the new schema can take the old one's place.

    A `lenient` service scores what is missing or not allowed, so that only its answers can be other ones. Fields that
    are gone break nothing: other keys are ignored.
    """
    found = []
    if new.target != old.target:
        found.append(f"the answer is called {new.target}, and not {old.target}")
    if old.id and new.id != old.id:
        found.append(f"{old.id} does not come back as the id")
    if lenient:
        return found
    fields = {new.meant(field.name) if field.name not in new.names else field.name: field for field in old.fields}
    for field in new.fields:
        if (before := fields.get(field.name)) is None:
            found.append(f"{field.name} must be there")  # whether or not it may be blank
        else:
            found += [f"{field.name} {what}" for what in _narrower(before, field)]
    return found


def _narrower(old: Field, new: Field) -> list[str]:
    """What a field allowed and allows no more."""
    found = []
    if gone := [value for value in old.values if not _takes(new, value)]:
        named = [] if old.is_private else gone[:MOST_ALLOWED]  # since /health tells it to everybody
        more = [f"{len(gone) - len(named):,} of its {len(old.values):,} values"] if len(gone) > len(named) else []
        found.append(f"cannot be {', '.join([*map(str, named), *more])}")
    if old.blank is not None and new.blank is None:
        found.append("cannot be blank")
    if not old.is_category:
        if new.is_category:
            found.append("takes its values alone, and no numbers")
        else:
            if new.minimum > old.minimum:
                found.append(f"cannot be less than {new.minimum}")
            if new.type == "integer" and old.type != "integer":
                found.append("takes whole numbers alone")
    if old.booleans and not new.booleans and not new.is_category:
        found.append("cannot be true or false")
    return found


def _takes(field: Field, value: object) -> bool:
    try:
        field.read(value)
        return True
    except ValueError:
        return False
