"""The commands of the local Cloud Run: up, deploy, load, status, down."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.local import faults, gcloud
from controller.cli.local.arguments import pairs_of, words_of
from controller.cli.local.errors import explained, fail, local_state, usage
from controller.cli.options import principal
from controller.core.plain_text import plain

if TYPE_CHECKING:
    from controller.emulator.state import LocalState

app = typer.Typer(
    no_args_is_help=True, help="A local Cloud Run: services are real processes on this machine."
)
app.add_typer(faults.app, name="fault")
app.command()(gcloud.env)
app.command()(gcloud.image)

MOST_RPS = 100_000
"""More than one process can send."""
Name = Annotated[str, typer.Argument(help="Name of the service.")]


@app.command()
def up(
    speed: Annotated[
        float, typer.Option(help="Emulated seconds a real second: 60 = a minute a second.")
    ] = 60.0,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the APIs (gRPC); 0 = any free one.")
    ] = 0,
    front_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port at which services answer; 0 = any free one.")
    ] = 0,
    admin_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the status and of REST; 0 = any free one.")
    ] = 0,
    project: Annotated[str, typer.Option(help="Name of the project.")] = "demo",
    region: Annotated[str, typer.Option(help="Name of the region.")] = "local-1",
    etag: Annotated[str, typer.Option(help="What a stale etag does: ignore or enforce.")] = "ignore",
    seed: Annotated[int, typer.Option(help="Of the random choices.")] = 1,
    keep: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="Keep everything there across restarts."),
    ] = None,
    iam: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who may do what; without it, everybody may do everything."),
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Serve in this process, until Ctrl-C.")
    ] = False,
) -> None:
    """Start a local Cloud Run, in the background, and say how to use it."""
    from controller.emulator import state
    from controller.emulator.settings import EtagMode, Settings

    if not 0 < speed < float("inf"):
        usage(f"--speed must be above 0, not {speed:g}")
    for option, name in (("--project", project), ("--region", region)):
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name):
            usage(f"{option} must use small letters, digits and hyphens, not {name!r}")
    if etag not in set(EtagMode):
        usage(f"--etag must be {' or '.join(EtagMode)}, not {etag!r}")
    if (known := state.read_state()) is not None:
        fail(
            f"a local Cloud Run is already up (process {known.pid}, APIs at {known.grpc_address})",
            "canary local down",
        )
    if iam is not None:
        _check_iam(iam, project, region)
    settings = Settings(
        project=project,
        region=region,
        speed=speed,
        etag=EtagMode(etag),
        seed=seed,
        state=str(keep.absolute()) if keep else "",
        iam=str(iam.absolute()) if iam else "",
        grpc_port=port,
        front_port=front_port,
        admin_port=admin_port,
    )
    with explained():
        if foreground:
            from controller.emulator.__main__ import serve

            serve(settings, _announce)
        else:
            from controller.emulator import background

            _announce(background.start(settings))


@app.command()
def deploy(
    name: Name,
    command: Annotated[str, typer.Option(help="What to run; it must listen on $PORT. Not run by a shell.")],
    no_traffic: Annotated[
        bool, typer.Option("--no-traffic", help="Give the new revision no traffic.")
    ] = False,
    tag: Annotated[str, typer.Option(help="Give the new revision an address of its own.")] = "",
    env: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Environment; may be repeated.")
    ] = None,
    revision: Annotated[str, typer.Option(help="Name of the new revision; by default one is made up.")] = "",
    concurrency: Annotated[int, typer.Option(help="Requests an instance takes at once; 0 = 80.")] = 0,
    session_affinity: Annotated[
        bool, typer.Option("--session-affinity", help="Ask for session affinity.")
    ] = False,
) -> None:
    """Run a command as a new revision of a service, and wait until it is ready."""
    argv = words_of(command)
    if not argv:
        usage("--command is empty")
    variables = pairs_of("--env", env)
    local = local_state()
    with explained():
        from controller.emulator.deploy import Deployment
        from controller.emulator.deploy import deploy as deploy_it

        wanted = Deployment(
            service=name,
            command=argv,
            env=variables,
            revision=revision,
            no_traffic=no_traffic,
            tag=tag,
            session_affinity=session_affinity,
            concurrency=concurrency,
            working_dir=str(Path.cwd()),
        )
        done = deploy_it(local.grpc_address, local.project, local.region, wanted, principal=principal())
    print(f"{done.revision} is ready.")
    print(f"  {done.tag_uri or done.uri}")


@app.command()
def load(
    name: Name,
    rps: Annotated[float, typer.Option(help="Requests a second, in real time.")],
    duration: Annotated[
        str, typer.Option("--for", help="How long, such as 90s, 5m; by default until Ctrl-C.")
    ] = "",
    path: Annotated[str, typer.Option(help="What to ask for.")] = "/",
    seed: Annotated[int, typer.Option(help="Of the arrival times.")] = 1,
) -> None:
    """Send steady traffic to a service, and sum up what came back."""
    if not 0 < rps <= MOST_RPS:
        usage(f"--rps must be above 0 and at most {MOST_RPS}, not {rps:g}")
    if not path.startswith("/"):
        usage(f"--path must begin with /, not {path!r}")
    seconds = _seconds(duration) if duration else None
    local = local_state()
    with explained():
        from controller.emulator.load import Load, run

        summary = run(Load(local.front_address, name, rps, path, seconds, seed))
    for line in summary.lines():
        print(line)


@app.command()
def status() -> None:
    """Say what runs: services, who gets which share, requests so far."""
    local = local_state()
    with explained():
        from controller.emulator import background

        found = background.status(local)
    print(f"clock: {found['clock']['now']}, {found['clock']['speed']:g} times as fast as real time")
    for kind, address in found["addresses"].items():
        print(f"{kind}: {address}")
    if found["logs_dropped"]:
        print(f"logs: {found['logs_dropped']} entries dropped to make room, the oldest first")
    for service in found["services"]:
        print(f"\n{service['name']} ({service['region']})  {service['uri']}")
        for name, revision in service["revisions"].items():
            tags = "".join(f" [{tag}]" for tag, owner in service["tags"].items() if owner == name)
            ready = {True: "ready", False: "failed", None: "starting"}[revision["ready"]]
            cause = plain((revision["failure"] or "").partition("\n")[0])
            requests = (
                ", ".join(f"{code}: {count}" for code, count in revision["requests"].items()) or "no requests"
            )
            print(f"  {service['split'].get(name, 0):3d} %  {name}{tags}  {ready}  {requests}")
            if cause:
                print(f"         {cause}")


@app.command()
def down() -> None:
    """End the local Cloud Run with all its processes."""
    from controller.emulator import state

    known = state.read_state()
    if known is None:
        state.remove_state()
        print("No local Cloud Run is up.")
        return
    with explained():
        from controller.emulator import background

        background.end(known)
    print(f"Ended process {known.pid} and everything it had started.")


def _announce(local: "LocalState") -> None:
    from controller.emulator import state

    print(f"A local Cloud Run is up; its clock runs {local.speed:g} times as fast as real time.")
    print(f"  APIs (gRPC)  {local.grpc_address}")
    print(f"  services     http://SERVICE.localhost:{local.front_address.rpartition(':')[2]}/")
    print(f"  status       http://{local.admin_address}/")
    print(f"  log          {state.log_file()}")
    print("Point the controller at it with --local, or with:")
    print(f"  export CLOUD_RUN_EMULATOR_HOST={local.grpc_address}")
    print(f"  export GOOGLE_CLOUD_PROJECT={local.project} CLOUD_RUN_REGION={local.region}")
    print("Point gcloud at it with:")
    print('  eval "$(canary local env)"')
    print("Next:")
    print('  canary local deploy web --command "python -m controller.emulator.sample"', flush=True)


def _seconds(duration: str) -> float:
    """Return a duration such as 500ms, 90s, 5m or 1h in seconds; a bare number is seconds."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
    number = duration.rstrip("hms")
    unit = duration[len(number) :]
    try:
        seconds = float(number) * units[unit]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        usage(f"--for must be a duration such as 90s or 5m, not {duration!r}")
    return seconds


def _check_iam(file: Path, project: str, region: str) -> None:
    """End the command with every mistake in the file, if there is one."""
    from controller.emulator.access.policy_file import IamFileInvalid, read_iam_file

    try:
        read_iam_file(file, project, region)
    except IamFileInvalid as error:
        usage(f"--iam: {len(error.lines)} to correct\n" + "\n".join(f"  {line}" for line in error.lines))
