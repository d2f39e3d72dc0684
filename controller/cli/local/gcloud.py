"""`canary local env` and `image`: what gcloud needs to work against the local Cloud Run."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from controller.cli.local.arguments import pairs_of, words_of
from controller.cli.local.errors import explained, fail, local_state, usage
from controller.cli.options import principal

if TYPE_CHECKING:
    from controller.emulator.state import LocalState


def env(
    unset: Annotated[bool, typer.Option("--unset", help="Print the lines that undo it.")] = False,
    as_whom: Annotated[
        str, typer.Option("--as", metavar="EMAIL", help="The principal that gcloud calls as.")
    ] = "",
) -> None:
    """Print shell lines that point gcloud, and canary, at the local Cloud Run.

    Type: eval "$(canary local env)"
    """
    with explained():
        from controller.emulator import gcloud, state
        from controller.principal import is_principal

    if unset:
        print(f"unset {' '.join(gcloud.variables())}")
        return
    if as_whom and not is_principal(as_whom):
        usage(f"--as must be an e-mail address, not {as_whom!r}")
    local = local_state()
    with explained():
        variables = gcloud.environment(local, state.directory() / "gcloud", as_whom or principal())
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")


def image(
    name: Annotated[str, typer.Argument(help="Of the image; without a tag, it stands for all.")] = "",
    command: Annotated[
        str, typer.Option(help="What runs in its place; it must listen on $PORT. Not run by a shell.")
    ] = "",
    env: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Environment; may be repeated.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the image.")] = False,
) -> None:
    """Say which command runs in place of an image, in this directory; without a name, list the images."""
    words = words_of(command)
    if not name and (words or env or remove):
        usage("which image? canary local image NAME ...")
    if remove and words:
        usage("--remove and --command exclude each other")
    if name and not words and not remove:
        usage(f'what runs in its place? canary local image {shlex.quote(name)} --command "..."')
    local = local_state()
    if not name:
        _list(local)
    elif remove:
        if not _asked(local, "DELETE", f"/images?name={quote(name, safe='')}")["removed"]:
            fail(f"there is no image {name!r}", "canary local image")
        print(f"Forgot {name}. Revisions that exist keep what they run.")
    else:
        here = str(Path.cwd())
        wanted = {"name": name, "command": words, "env": pairs_of("--env", env), "working_dir": here}
        _asked(local, "POST", "/images", wanted)
        print(f"{name} runs: {shlex.join(words)}")


def _list(local: "LocalState") -> None:
    images = _asked(local, "GET", "/images")["images"]
    if not images:
        print('No image is known. Add one: canary local image NAME --command "..."')
    for known in images:
        variables = "".join(f"{key}={shlex.quote(value)} " for key, value in known["env"].items())
        print(f"{known['name']}  {variables}{shlex.join(known['command'])}  (in {known['working_dir']})")


def _asked(local: "LocalState", method: str, path: str, body: Any = None) -> Any:
    from controller.emulator import background

    try:
        with explained():
            return background.ask(local, method, path, body)
    except background.RefusedError as refused:
        fail(f"the local Cloud Run refuses: {refused}", "canary local image")
