"""The table of permissions in the docs is what is measured."""

import pytest
from permission_matrix import COMMANDS, PAGE, row_of, written


@pytest.mark.parametrize("command", list(COMMANDS))
def test_each_command_needs_what_the_table_says(command: str) -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert written(command, row_of(command)) in lines


def test_the_table_has_no_other_commands() -> None:
    page = PAGE.read_text(encoding="utf-8")
    measured = page.partition("<!-- measured: permissions -->")[2].partition("<!-- end")[0]
    named = [line.split("`")[1] for line in measured.splitlines() if line.startswith("| `")]
    assert named == list(COMMANDS)
