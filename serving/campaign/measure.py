"""What a campaign was worth: its two groups compared, and the model held to what came of the control group."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import confint_proportions_2indep

from serving import reporting, whole_file
from serving.campaign import FOLDER, BadCampaign
from serving.campaign.letters import Person, read
from serving.campaign.plan import CONTROL, LETTER, made_beside, plain
from serving.errors import BadTable
from serving.fields import CANONICAL_BLANKS
from serving.schema import Schema
from serving.tables.formulas import inert
from serving.training import table
from serving.training.target import NO, YES, matcher, spelt

# With fewer in a group, or fewer yes or no in all, nothing is claimed (a rule of thumb).
LEAST_GROUP, LEAST_ANSWERS = 30, 5


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
        """The share of yes; 0 where nobody is known."""
        return self.positives / self.people if self.people else 0.0

    @property
    def planned(self) -> int:
        """All of them, known or not."""
        return self.people + self.unknown


class Kept(NamedTuple):
    """How much smaller the share of yes is with a letter than without, and its 95 % interval."""

    share: float
    low: float
    high: float


# Of the difference: that the groups are too small to say anything, that it may be chance, or what it is beyond chance.
Verdict = Literal["too small", "chance", "good", "harm"]


class Figures(NamedTuple):
    """What is measured; `kept` is None without two groups, `auc` without two answers in the control group. `tenths` are
    of the control group by probability: people, mean probability, share of yes."""

    letter: Group
    control: Group
    kept: Kept | None
    verdict: Verdict | None
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
    """The figures of a plan's people and the outcomes that are known, by the `key` of the id."""
    pairs: dict[str, list[tuple[float, bool | None]]] = {LETTER: [], CONTROL: []}
    for each in people:
        pairs[each.group].append((each.probability, known.get(key(each.id))))
    counts = [Counter(answer for _, answer in of_group) for of_group in pairs.values()]
    letter, control = (Group(each[True] + each[False], each[True], each[None]) for each in counts)
    both = kept(letter, control) if letter.people and control.people else None
    alone = [pair for pair in pairs[CONTROL] if pair[1] is not None]
    # By probability alone: where it is the same, the answers must not sort.
    ordered = np.array(sorted(alone, key=lambda pair: pair[0]), dtype=float).reshape(-1, 2)
    probabilities, came = ordered.T
    parts = np.array_split(ordered, min(10, len(ordered))) if alone else []
    tenths = [(len(part), *part.mean(axis=0).tolist()) for part in parts]
    auc = float(roc_auc_score(came, probabilities)) if 0 < control.positives < control.people else None
    return Figures(letter, control, both, _verdict(letter, control, both), auc, tenths, float(probabilities.sum()))


def key(id_: str) -> str:
    """What an id is found by, whatever was put before a sign in it; an address in whatever capitals."""
    text = inert(plain(id_))
    return text.lower() if "@" in text else text


def _verdict(letter: Group, control: Group, found: Kept | None) -> Verdict | None:
    positives = letter.positives + control.positives
    fewer = min(positives, letter.people + control.people - positives)
    if found is None:
        return None
    if min(letter.people, control.people) < LEAST_GROUP or fewer < LEAST_ANSWERS:
        return "too small"
    return "chance" if found.low <= 0 <= found.high else "good" if found.low > 0 else "harm"


def outcomes(path: Path, id_: str, target: str, positive: str | None) -> dict[str, bool | None]:
    """By id whether it came to yes. Raises `BadCampaign`, and `OSError` where the file cannot be read."""
    try:
        text = table.read(path)
        of_id, of_target = table.place_of(text, id_), table.place_of(text, target)
        written = text.conventions()[of_target]
        is_yes = matcher(positive, {row[of_target] for row in text.rows}, written) if positive is not None else None
    except BadTable as error:
        hint = " (--id and --target name the columns)" if "column" in str(error) else ""
        raise BadCampaign(f"{path}: {error}{hint}") from error
    found: dict[str, bool | None] = {}
    for row, cells in zip(text.numbers, text.rows, strict=True):
        cell, of_row = cells[of_target], key(cells[of_id])
        if not of_row:
            continue
        word = spelt(cell, written)
        if not is_yes and word not in (*YES, *NO, *CANONICAL_BLANKS):
            raise BadCampaign(f"{path}: row {row}: {cell!r} is neither yes nor no (--positive VALUE)")
        answer = None if word in CANONICAL_BLANKS else is_yes(cell) if is_yes else word in YES
        if found.setdefault(of_row, answer) != answer:
            raise BadCampaign(f"{path}: row {row}: {cells[of_id]!r} is there before, with another outcome")
    if is_yes and True not in found.values():
        raise BadCampaign(f"{path}: no row's {target} is {positive!r} (--positive)")
    return found


def measure(plan: Path, path: Path, asked: Asked, report: Path) -> list[str]:
    """Join what happened to a plan, and write the report; gives what it says, in lines.

    Raises `BadCampaign`, and `OSError` where a file cannot be read or written.
    """
    people, made = read(plan), made_beside(plan)
    if not (target := asked.target or (made.served.schema.target if made else "")):
        raise BadCampaign(f"say with --target which column of {path} is the outcome: {plan.stem}.json is not there")
    id_ = asked.id or (made.id if made else "id")
    known = outcomes(path, id_, target, asked.positive)
    if not any(key(each.id) in known for each in people):
        such_as = f"such as {people[0].id!r} (--id COLUMN)"
        raise BadCampaign(f"{path}: its column {id_} has none of the plan's ids, {such_as}")
    found, earned = figures(people, known), []
    if found.kept and asked.value is not None:
        cost = found.letter.planned * (asked.cost or 0)  # all were written to, whatever came of them
        earned = [found.letter.people * each * asked.value - cost for each in found.kept]
    schema = made.served.schema if made else Schema((), target=target)
    said = {"found": found, "earned": earned, "words": schema.spoken, "training": made and made.served.training}
    lines = reporting.lines(FOLDER / "measured.txt", **said)
    page = reporting.page(FOLDER / "report.html", **said, lines=lines, plan=plan.name, made=made)
    whole_file.write(report, page.encode(errors="replace"))
    return [*lines, f"the report is saved to {report}"]
