"""Every acceptance scenario has a test."""

from acceptance import marked_tests, rules


def test_there_are_sixty_scenarios() -> None:
    assert sorted(rules()) == list(range(1, 61))


def test_every_scenario_has_a_test_and_every_mark_a_scenario() -> None:
    assert set(marked_tests()) == set(rules())
