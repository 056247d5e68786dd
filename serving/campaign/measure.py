"""What a campaign was worth: its two groups compared, and the model held to what came of the control group."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import confint_proportions_2indep

from serving import reporting, whole_file
from serving.campaign import FOLDER, BadCampaign
from serving.campaign.letters import Person, read
from serving.campaign.plan import CONTROL, LETTER, Made, plain, value
from serving.errors import BadTable
from serving.fields import Constraints, Field, canonical
from serving.schema import Schema
from serving.training import table

# With fewer in a group, or fewer yes or no in all, nothing is claimed (a rule of thumb).
LEAST_GROUP, LEAST_ANSWERS = 30, 5

# An outcome, as tables write yes and no; a blank one is not known yet.
_OUTCOME = Field("outcome", "string", constraints=Constraints(enum=("no", "yes")), blank="no")


class Asked(Struct, frozen=True, kw_only=True):
    """What marketing says of the outcomes: the columns of the id and the answer, which value is a yes, what one who was
    kept is worth, and what a letter cost."""

    id: str | None = None
    target: str | None = None
    positive: str | None = None
    value: float | None = None
    cost: float | None = None


class Group(NamedTuple):
    """The people of a group whose outcome is known, how many of them came to yes, and those who are not known."""

    people: int
    positives: int
    unknown: int

    @property
    def share(self) -> float:
        return self.positives / self.people


class Kept(NamedTuple):
    """How much smaller the share of yes is with a letter than without, and its 95 % interval."""

    share: float
    low: float
    high: float


class Figures(NamedTuple):
    """What is measured; `kept` is None without two groups, `auc` without two answers in the control group. `tenths` are
    of the control group by probability: people, mean probability, share of yes."""

    letter: Group
    control: Group
    kept: Kept | None
    verdict: str
    auc: float | None
    tenths: list[tuple[int, float, float]]
    expected: float


def kept(letter: Group, control: Group) -> Kept:
    """The difference of two groups' shares, with the hybrid score interval (Newcombe, "Interval estimation for the
    difference between independent proportions", Statistics in Medicine 17, 1998, method 10) as statsmodels has it."""
    counts = control.positives, control.people, letter.positives, letter.people
    low, high = confint_proportions_2indep(*counts, method="newcomb", compare="diff", alpha=0.05)
    return Kept(control.share - letter.share, float(low), float(high))


def figures(people: Sequence[Person], known: dict[str, bool | None]) -> Figures:
    """The figures of a plan's people and the outcomes that are known, by id."""
    answers = {name: [known.get(each["id"]) for each in people if each["group"] == name] for name in (LETTER, CONTROL)}
    letter, control = (
        Group(len(each) - each.count(None), each.count(True), each.count(None)) for each in answers.values()
    )
    both = kept(letter, control) if letter.people and control.people else None
    alone = sorted(
        (value(each["probability"]), answer)
        for each in people
        if each["group"] == CONTROL and (answer := known.get(each["id"])) is not None
    )
    probabilities, came = np.array(alone).reshape(-1, 2).T
    parts = np.array_split(np.array(alone), min(10, len(alone))) if alone else []
    tenths = [(len(part), *part.mean(axis=0).tolist()) for part in parts]
    auc = float(roc_auc_score(came, probabilities)) if 0 < control.positives < control.people else None
    return Figures(letter, control, both, _verdict(letter, control, both), auc, tenths, probabilities.sum())


def _verdict(letter: Group, control: Group, found: Kept | None) -> str:
    positives = letter.positives + control.positives
    fewer = min(positives, letter.people + control.people - positives)
    if found is None or min(letter.people, control.people) < LEAST_GROUP or fewer < LEAST_ANSWERS:
        return "the groups are too small to say anything"
    if found.low <= 0 <= found.high:
        return "this may be chance"
    return "beyond chance, the letters kept some" if found.low > 0 else "beyond chance, the letters did harm"


def outcomes(path: Path, id_: str, target: str, positive: str | None) -> dict[str, bool | None]:
    """By id whether it came to yes. Raises `BadCampaign`, and `OSError` where the file cannot be read."""
    try:
        text = table.read(path)
        of_id, of_target = table.place_of(text, id_), table.place_of(text, target)
        written = text.conventions()[of_target]
    except BadTable as error:
        raise BadCampaign(f"{path}: {error} (--id and --target name the columns)") from error
    found: dict[str, bool | None] = {}
    for row, cells in zip(text.numbers, text.rows, strict=True):
        cell = cells[of_target]
        try:
            read_as = canonical(cell) if positive else _OUTCOME.read(written(cell), from_text=True)
        except ValueError as error:
            raise BadCampaign(f"{path}: row {row}: {cell!r} is neither yes nor no (--positive VALUE)") from error
        answer = read_as == canonical(positive or "yes") if read_as else None
        if found.setdefault(plain(cells[of_id]), answer) != answer:
            raise BadCampaign(f"{path}: row {row}: {cells[of_id]!r} is there before, with another outcome")
    return found


def measure(plan: Path, path: Path, asked: Asked, report: Path) -> list[str]:
    """Join what happened to a plan, and write the report; gives what it says, in lines.

    Raises `BadCampaign`, and `OSError` where a file cannot be read or written.
    """
    people, beside = read(plan), plan.with_suffix(".json")
    made = msgspec.json.decode(beside.read_bytes(), type=Made) if beside.exists() else None
    if not (target := asked.target or (made.served.schema.target if made else "")):
        raise BadCampaign(f"say with --target which column of {path} is the outcome: {beside} is not there")
    id_ = asked.id or (made.id if made else "id")
    known = outcomes(path, id_, target, asked.positive)
    if not any(each["id"] in known for each in people):
        raise BadCampaign(
            f"{path}: its column {id_} has none of the plan's ids, such as {people[0]['id']!r} (--id COLUMN)"
        )
    found, earned = figures(people, known), []
    if found.kept and asked.value is not None:
        earned = [found.letter.people * (each * asked.value - (asked.cost or 0)) for each in found.kept]
    schema = made.served.schema if made else Schema((), target=target)
    said = {"found": found, "earned": earned, "words": schema.spoken, "training": made and made.served.training}
    lines = reporting.lines(FOLDER / "measured.txt", **said)
    whole_file.write(
        report, reporting.page(FOLDER / "report.html", **said, lines=lines, plan=plan.name, made=made).encode()
    )
    return [*lines, f"the report is saved to {report}"]
