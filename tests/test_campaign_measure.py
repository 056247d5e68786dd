"""What a campaign was worth: figures that are known beforehand, and outcomes that are not as they should be."""

import csv
import hashlib
import io
import json
import random
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import pytest
from conftest import run
from sklearn.metrics import roc_auc_score

import campaign
from serving.campaign import measure
from serving.campaign.letters import Person

HEADER = ["id", "email", "probability", "reasons", "group"]


def planned(folder: Path, letters: int = 300, control: int = 100) -> Path:
    """A plan with probabilities from 0.5 to 0.9, and what would be kept beside it."""
    plan = folder / "campaign.csv"
    with plan.open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(HEADER)
        for number in range(letters + control):
            probability = 0.5 + 0.4 * (number % 100) / 100
            group = "discount" if number < letters else "control"
            write([f"A{number}", f"a{number}@example.com", f"{probability:.3f}", "", group])
    return plan


def happened(folder: Path, answers: dict[str, str], header: str = "id,churn") -> Path:
    outcomes = folder / "outcomes.csv"
    outcomes.write_text("\n".join([header, *(f"{name},{answer}" for name, answer in answers.items()), ""]))
    return outcomes


def answers(letters: int, leavers: int, control: int, control_leavers: int) -> dict[str, str]:
    """Outcomes of a plan's groups: so many of each have left."""
    left = [n < leavers for n in range(letters)] + [n < control_leavers for n in range(control)]
    return {f"A{number}": "Yes" if each else "No" for number, each in enumerate(left)}


def measured(plan: Path, outcomes: Path, *words: str) -> subprocess.CompletedProcess:
    """What campaign.py says and ends with; in this process, to save each case the imports."""
    report = plan.with_name("campaign.html")
    command = ["campaign.py", "measure", str(plan), str(outcomes), "--report", str(report), *words]
    with mock.patch.object(sys, "argv", command), redirect_stdout(io.StringIO()) as out:
        try:
            status, said = campaign.main(), ""
        except SystemExit as stopped:
            status, said = 1, str(stopped.code)
    return subprocess.CompletedProcess(command, status, out.getvalue(), said)


def refused(done, *said: str) -> None:
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("campaign.py: ")
    for each in said:
        assert each in line


def test_the_difference_has_the_interval_of_the_book():
    # Newcombe's own examples of method 10 (1998, table II): 56 of 70 against 48 of 80, and 9 of 10 against 3 of 10.
    found = measure.kept(letter=measure.Group(80, 48, 0), control=measure.Group(70, 56, 0))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    found = measure.kept(letter=measure.Group(10, 3, 0), control=measure.Group(10, 9, 0))
    assert found == pytest.approx((0.6, 0.1705, 0.8090), abs=5e-5)


def test_it_says_who_was_kept_and_what_was_earned(tmp_path):
    plan, outcomes = planned(tmp_path), happened(tmp_path, answers(300, 120, 100, 60))
    done = measured(plan, outcomes, "--target", "churn", "--value", "200", "--cost", "10")
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "among 300 records with a letter: 120 (40.0%)" in said
    assert "among 100 records in the control group: 60 (60.0%)" in said
    # Newcombe's interval of 60/100 - 120/300, by the formula with Wilson's limits.
    assert "fewer with a letter by 20.0 in a hundred, 95% interval 8.7 to 30.5 (Newcombe's method)" in said
    assert "beyond chance, the letters kept some" in said
    assert "records kept from churn: 60, 95% interval 26 to 92" in said
    earned = re.search(r"^earned: (.*), 95% interval (.*) to (.*)$", said, re.MULTILINE)
    assert float(earned[1].replace(",", "")) == 60 * 200 - 300 * 10
    assert float(earned[2].replace(",", "")) == pytest.approx(300 * 0.087 * 200 - 3000, abs=40)


def test_the_control_group_shows_how_good_the_model_was(tmp_path):
    chance = random.Random(1)
    plan = planned(tmp_path)
    rows = [*csv.DictReader(plan.read_text().splitlines())]
    came = {row["id"]: "1" if chance.random() < float(row["probability"]) ** 2 else "0" for row in rows}
    done = measured(plan, happened(tmp_path, came), "--target", "churn")
    control = [(float(row["probability"]), came[row["id"]] == "1") for row in rows if row["group"] == "control"]
    expected = sum(probability for probability, _ in control)
    assert (
        f"the model expected {expected:,.0f} records with churn, and there were {sum(yes for _, yes in control)}"
        in done.stdout
    )
    auc = roc_auc_score([yes for _, yes in control], [probability for probability, _ in control])
    assert f"the model's AUC there is {auc:.3f}\n" in done.stdout
    control.sort()
    page = plan.with_name("campaign.html").read_text()
    overall = sum(yes for _, yes in control) / 100
    for place in range(10):
        tenth = control[10 * place : 10 * place + 10]
        observed = sum(yes for _, yes in tenth) / 10
        cells = [f"{10 * sum(each for each, _ in tenth):.1f}%", f"{100 * observed:.1f}%", f"{observed / overall:.2f}"]
        assert f"<td>10</td><td>{'</td><td>'.join(cells)}</td>" in page


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((300, 150, 100, 54), "this may be chance"),
        ((300, 200, 100, 40), "beyond chance, the letters did harm"),
        ((30, 15, 30, 15), "this may be chance"),
        ((300, 3, 100, 2), "this may be chance"),
        ((300, 297, 100, 98), "this may be chance"),
        ((20, 4, 10, 9), "the groups are too small to say anything"),
        ((300, 2, 100, 2), "the groups are too small to say anything"),
        ((30, 3, 29, 25), "the groups are too small to say anything"),
    ],
)
def test_it_claims_no_more_than_is_known(tmp_path, sizes, said):
    letters, _, control, _ = sizes
    done = measured(planned(tmp_path, letters, control), happened(tmp_path, answers(*sizes)), "--target", "churn")
    assert done.returncode == 0
    assert said in done.stdout
    assert done.stdout.count("chance") == said.count("chance")


def test_without_a_control_group_it_says_what_cannot_be_known(tmp_path):
    done = measured(planned(tmp_path, 50, 0), happened(tmp_path, answers(50, 20, 0, 0)), "--target", "churn")
    assert "there is no control group" in done.stdout
    assert "cannot be known" in done.stdout
    assert "interval" not in done.stdout
    assert "cannot be known" in (tmp_path / "campaign.html").read_text()


def test_unknown_outcomes_count_nowhere_and_are_counted(tmp_path):
    came = answers(300, 120, 100, 60)
    for number in range(290, 300):
        del came[f"A{number}"]
    came["A399"] = ""
    done = measured(planned(tmp_path), happened(tmp_path, {**came, "stranger": "Yes"}), "--target", "churn")
    assert (
        "without a known outcome: 11 records, who count nowhere (10 with a letter, 1 in the control group)"
        in done.stdout
    )
    assert "among 290 records with a letter: 120" in done.stdout
    assert "among 99 records in the control group: 60" in done.stdout


def test_the_interval_holds_the_effect_and_chance_is_not_taken_for_one():
    """Of 1,000 plans with outcomes made up, each with its seed: people differ, and letters keep 12 in a hundred."""
    for effect, least, most in ((0.12, 935, 965), (0.0, 935, 1000)):
        chance, holds = random.Random(17), 0
        people = [(f"A{number}", 0.4 + 0.5 * number / 600) for number in range(600)]
        for seed in range(1000):
            drawn = sorted(people, key=lambda person: hashlib.sha256(f"{seed}:{person[0]}".encode()).digest())
            control = {name for name, _ in drawn[:120]}
            rows, known = [], {}
            for name, probability in people:
                group = "control" if name in control else "discount"
                rows.append(Person(0, name, "", probability, group, {}))
                known[name] = chance.random() < probability - (effect if group == "discount" else 0)
            found = measure.figures(rows, known).kept
            holds += found.low <= effect <= found.high
        # With no effect, those that do not hold it are those that claim one: at most 65.
        assert least <= holds <= most, (effect, holds)


def test_the_same_data_gives_the_same_report(tmp_path):
    plan, outcomes = planned(tmp_path), happened(tmp_path, answers(300, 120, 100, 60))
    pages = []
    for hash_seed in ("1", "2"):
        words = ["measure", str(plan), str(outcomes), "--target", "churn", "--report", str(tmp_path / "campaign.html")]
        assert run("campaign.py", *words, PYTHONHASHSEED=hash_seed).returncode == 0
        pages.append((tmp_path / "campaign.html").read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("header", "yes", "no", "words"),
    [
        ("id,churn", "TRUE", "FALSE", ["--target", "Churn"]),
        ("id;churn", "1,0", "0,0", ["--target", "churn"]),
        ("Customer No,what", "Left us", "stayed", ["--id", "customer no", "--target", "what", "--positive", "left us"]),
        ("id,churn", "2", "1", ["--target", "churn", "--positive", "2"]),
    ],
)
def test_outcomes_as_people_have_them(tmp_path, header, yes, no, words):
    came = {name: yes if answer == "Yes" else no for name, answer in answers(300, 120, 100, 60).items()}
    outcomes = happened(tmp_path, came, header)
    if ";" in header:
        outcomes.write_text(re.sub("^(A[0-9]+),", r"\1;", outcomes.read_text(), flags=re.MULTILINE))
    done = measured(planned(tmp_path), outcomes, *words)
    assert done.returncode == 0, done.stderr
    assert "with a letter: 120 (40.0%)" in done.stdout


def test_ids_that_look_like_formulas_are_found(tmp_path):
    plan = planned(tmp_path)
    plan.write_text(plan.read_text().replace("\nA", "\n'=A"))
    came = {f"={name}": answer for name, answer in answers(300, 120, 100, 60).items()}
    assert "with a letter: 120 (40.0%)" in measured(plan, happened(tmp_path, came), "--target", "churn").stdout


@pytest.mark.parametrize(
    ("edit", "words", "said"),
    [
        (("A", "B"), ["--target", "churn"], "its column id has none of the plan's ids, such as 'A0'"),
        (("id,", "no,"), ["--target", "churn"], "it lacks the column id (it has no, churn) (--id and --target"),
        (("churn", "left"), ["--target", "churn"], "it lacks the column churn"),
        (("Yes", "perhaps"), ["--target", "churn"], "row 2: 'perhaps' is neither yes nor no (--positive VALUE)"),
        (("A1,Yes", "A0,No"), ["--target", "churn"], "row 3: 'A0' is there before, with another outcome"),
        (("", ""), [], "say with --target which column"),
    ],
)
def test_outcomes_that_do_not_do_are_told(tmp_path, edit, words, said):
    outcomes = happened(tmp_path, answers(300, 120, 100, 60))
    outcomes.write_text(outcomes.read_text().replace(*edit))
    refused(measured(planned(tmp_path), outcomes, *words), "outcomes.csv", said)
    assert not (tmp_path / "campaign.html").exists()


def test_a_file_that_is_not_there_is_told(tmp_path):
    refused(measured(planned(tmp_path), tmp_path / "none.csv", "--target", "churn"), "none.csv", "No such file")
    refused(measured(tmp_path / "none.csv", planned(tmp_path), "--target", "churn"), "none.csv", "No such file")


def test_what_the_plan_keeps_beside_it_gives_the_names_and_the_words(tmp_path):
    plan = planned(tmp_path)
    schema = {
        "fields": [{"name": "tenure", "type": "number"}],
        "target": "churn",
        "words": {"record": "customer", "records": "customers", "yes": "leaving", "positives": "leavers"},
    }
    made = {"asked": {"seed": 5}, "id": "Nr", "served": {"sha256": "5b2c" * 16, "schema": schema, "training": None}}
    (tmp_path / "campaign.json").write_text(json.dumps(made))
    done = measured(plan, happened(tmp_path, answers(300, 120, 100, 60), "nr,churn"))
    assert done.returncode == 0, done.stderr
    assert "leavers among 300 customers with a letter: 120" in done.stdout
    assert "customers kept from leaving: 60" in done.stdout
    assert "seed 5" in (tmp_path / "campaign.html").read_text()


def test_where_probabilities_are_equal_the_tenths_show_no_lift(tmp_path):
    plan = planned(tmp_path)
    plan.write_text(re.sub(r"0\.\d{3}", "0.7", plan.read_text()))
    chance = random.Random(5)
    came = {f"A{number}": chance.choice(["Yes", "No"]) for number in range(400)}
    assert measured(plan, happened(tmp_path, came), "--target", "churn").returncode == 0
    page = (tmp_path / "campaign.html").read_text()
    shares = [float(each) for each in re.findall(r"<td>10</td><td>70.0%</td><td>(.*?)%</td>", page)]
    assert len(shares) == 10
    assert shares == [
        10.0 * sum(came[f"A{300 + 10 * tenth + each}"] == "Yes" for each in range(10)) for tenth in reversed(range(10))
    ]


@pytest.mark.parametrize("known", [range(300), range(300, 400)])
def test_where_nothing_is_known_of_a_group_it_says_so(tmp_path, known):
    came = {f"A{number}": "Yes" if number % 3 else "No" for number in known}
    done = measured(planned(tmp_path), happened(tmp_path, came), "--target", "churn", "--value", "9")
    assert done.returncode == 0, done.stderr
    assert "of one of the groups no outcome is known" in done.stdout
    assert "interval" not in done.stdout


def test_of_too_small_groups_no_amounts_are_told(tmp_path):
    outcomes = happened(tmp_path, answers(20, 4, 10, 9))
    done = measured(planned(tmp_path, 20, 10), outcomes, "--target", "churn", "--value", "9")
    assert "too small" in done.stdout
    assert not re.search(
        "interval|earned|kept", done.stdout + (tmp_path / "campaign.html").read_text().partition("<main>")[2]
    )


def test_harm_is_told_as_harm(tmp_path):
    done = measured(planned(tmp_path), happened(tmp_path, answers(300, 240, 100, 40)), "--target", "churn")
    assert "records with churn are more with a letter by 40.0 in a hundred, 95% interval 29" in done.stdout


def test_letters_cost_whatever_came_of_them(tmp_path):
    came = answers(300, 120, 100, 60)
    for number in range(200, 300):
        del came[f"A{number}"]
    words = ["--target", "churn", "--value", "200", "--cost", "10"]
    done = measured(planned(tmp_path), happened(tmp_path, came), *words)
    # 120 of 200 with a letter have left, and 60 of 100 without: nobody was kept, and 300 letters were sent.
    assert re.search(r"^earned: -3,000\.00,", done.stdout, re.MULTILINE)


def test_blanks_are_unknown_also_where_a_value_is_the_yes(tmp_path):
    came = {name: "gone" if answer == "Yes" else "NA" for name, answer in answers(300, 120, 100, 60).items()}
    done = measured(planned(tmp_path), happened(tmp_path, came), "--target", "churn", "--positive", "gone")
    assert "without a known outcome: 220 records" in done.stdout
    refused(
        measured(planned(tmp_path), happened(tmp_path, came), "--target", "churn", "--positive", "gonne"),
        "no row's churn is 'gonne'",
    )


def test_ids_are_found_however_they_were_kept_from_being_formulas(tmp_path):
    plan = planned(tmp_path)
    plan.write_text(plan.read_text().replace("\nA", "\na;'=A"))
    came = {f"a;={name}": answer for name, answer in answers(300, 120, 100, 60).items()} | {"": "Yes"}
    assert "with a letter: 120 (40.0%)" in measured(plan, happened(tmp_path, came), "--target", "churn").stdout


@pytest.mark.parametrize("words", [[], ["--positive", "1"], ["--positive", "1.0"], ["--positive", ">0"]])
def test_numbers_are_the_same_however_they_are_written(tmp_path, words):
    came = {name: "1" if answer == "Yes" else "0" for name, answer in answers(300, 120, 100, 60).items()}
    came |= {name: f"{answer}.0" for name, answer in came.items() if int(name[1:]) >= 300}
    done = measured(planned(tmp_path), happened(tmp_path, came), "--target", "churn", *words)
    assert "fewer with a letter by 20.0 in a hundred" in done.stdout


def test_nothing_is_minus_nothing(tmp_path):
    outcomes = happened(tmp_path, answers(3000, 1501, 1000, 500))
    done = measured(planned(tmp_path, 3000, 1000), outcomes, "--target", "churn", "--value", "0")
    assert "with a letter by 0.0 in a hundred" in done.stdout
    assert "earned: 0.00," in done.stdout
    assert not re.search(r"-0(\.0+)?\b(?!\.)", done.stdout)
    assert "-0.0%" not in (tmp_path / "campaign.html").read_text()


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '{"asked": {}, "id": 7}'])
def test_what_is_beside_the_plan_and_damaged_is_told(tmp_path, text):
    plan = planned(tmp_path)
    (tmp_path / "campaign.json").write_text(text)
    refused(
        measured(plan, happened(tmp_path, answers(300, 120, 100, 60))), "campaign.json is not what plan has written"
    )


def test_the_report_does_not_replace_the_plan(tmp_path):
    plan = planned(tmp_path)
    outcomes = happened(tmp_path, answers(300, 120, 100, 60))
    done = run("campaign.py", "measure", str(plan), str(outcomes), "--target", "churn", "--report", str(plan))
    assert done.returncode == 2
    assert "does not end in .html" in done.stderr
    assert plan.read_text().startswith("id,")
