"""Every acceptance scenario has a test, and the list of what still waits is true."""

from acceptance import WAITING, marked_tests, rules


def test_there_are_sixty_scenarios() -> None:
    assert sorted(rules()) == list(range(1, 61))


def test_every_scenario_has_a_test_or_is_known_to_wait() -> None:
    assert set(rules()) - set(marked_tests()) == WAITING


def test_no_test_is_marked_with_a_number_that_is_not_there() -> None:
    assert set(marked_tests()) <= set(rules())
