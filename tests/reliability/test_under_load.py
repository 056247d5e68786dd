"""The short version of what `make reliability` measures; tests/test_reload.py has that of the reloads."""

import pytest
from load import questions
from slow_clients import slow_clients
from soak import soak
from stops import stops


@pytest.fixture(scope="module")
def asked():
    return questions()


def test_every_answer_is_right_while_workers_are_killed(asked):
    shown = soak(asked, seconds=15)
    assert shown.kills >= 3
    assert shown.right > 500


def test_a_stop_under_load_lets_requests_finish(asked):
    assert stops(asked, 2).right > 50


def test_slow_clients_leave_the_others_their_answers(asked):
    assert slow_clients(asked, seconds=3, rounds=1).right > 50
