"""How the options of these commands are read that hold more than one value."""

import shlex
from collections.abc import Iterable

from controller.cli.local.errors import usage


def words_of(command: str) -> list[str]:
    """Return the words of `--command`, as a shell would cut them; ends the command if it cannot be read."""
    try:
        return shlex.split(command)
    except ValueError as error:
        usage(f"--command cannot be read: {error}")


def pairs_of(option: str, texts: Iterable[str] | None, form: str = "KEY=VALUE") -> dict[str, str]:
    """Return what a repeated option gives as KEY=VALUE; ends the command if one is not of that form."""
    pairs = [text.partition("=") for text in texts or ()]
    for name, equals, value in pairs:
        if not name or not equals:
            usage(f"{option} must be {form}, not {name + equals + value!r}")
    return {name: value for name, _, value in pairs}
