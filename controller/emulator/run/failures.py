"""Why a revision did not start, in the words that Cloud Run uses."""

from google.cloud import run_v2

from controller.emulator.names import short
from controller.emulator.run.catalog import Failure, Reason
from controller.emulator.run.defaults import PORT


def port_of(revision: run_v2.Revision) -> int:
    """Return the port that the template names; instances here get a free one instead."""
    ports = revision.containers[0].ports
    return ports[0].container_port if ports else PORT


def container_name(revision: run_v2.Revision) -> str:
    """Return the name of the first container, or the one that it gets."""
    return revision.containers[0].name or f"{short(revision.service)}-1"


def never_listened(revision: run_v2.Revision, detail: str = "") -> Failure:
    """Return the failure of a container that did not listen on its port in time."""
    return Failure(
        "The user-provided container failed to start and listen on the port defined provided by the "
        f"PORT={port_of(revision)} environment variable. {detail}Logs for this revision might contain more "
        f"information.\n\nLogs URL: {revision.log_uri}",
        Reason.HEALTH_CHECK_CONTAINER_ERROR,
    )


def exited(revision: run_v2.Revision, code: int, last_line: str = "") -> Failure:
    """Return the failure of a container that ended instead of listening; a negative code is a signal's."""
    said = f" Its last line was: '{last_line}'." if last_line else ""
    how = f"exited with code {code}" if code >= 0 else f"was ended by signal {-code}"
    return never_listened(revision, f"The container {how}.{said} ")


def ended(code: int) -> str:
    """Return what the system log says of a container that ended; a negative code is a signal's."""
    return f"Container called exit({code})." if code >= 0 else f"Container terminated on signal {-code}."


def failed_probe(revision: run_v2.Revision) -> Failure:
    """Return the failure of a container that did not pass the startup probe of its template."""
    return Failure(
        "The user-provided container failed the configured startup probe checks. Logs for this revision "
        f"might contain more information.\n\nLogs URL: {revision.log_uri}",
        Reason.HEALTH_CHECK_CONTAINER_ERROR,
    )


def no_command(service_id: str) -> Failure:
    """Return the failure of a revision that says nothing of what to run."""
    return Failure(
        f"The revision has no command: the local Cloud Run does not pull images, it runs "
        f'template.containers[0].command. Deploy with `canary local deploy {service_id} --command "..."`.',
        Reason.HEALTH_CHECK_CONTAINER_ERROR,
    )


def not_executable(command: str, cause: str) -> Failure:
    """Return the failure of a command that cannot be started at all."""
    return Failure(f"The command '{command}' could not be started: {cause}.")
