"""The setup: what a project needs before its first rollout, as gcloud commands with their reasons."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from controller.core.permissions import ACTS_AS, BUILD, CONTROLLER, INVOKER

APIS: Final = ("artifactregistry", "cloudbuild", "cloudscheduler", "iam", "logging", "monitoring", "run")
IMAGES: Final = "services"
"""The repository of the services' images."""
CONTROLLER_ROLE: Final = "canaryController"
BUILD_ROLE: Final = "canaryBuild"
ACCESSOR: Final = "roles/secretmanager.secretAccessor"
PUBLISHER: Final = "roles/pubsub.publisher"
EVERY: Final = "*/5 * * * *"
_WIDEST: Final = 100


@dataclass(frozen=True)
class Setup:
    """What `canary init` was told."""

    project: str
    region: str
    services: tuple[str, ...]
    staging: str = ""
    job: str = "canary"
    repository: str = "tools"

    @property
    def image(self) -> str:
        """The controller's image."""
        return f"{self.region}-docker.pkg.dev/{self.project}/{self.repository}/canary:latest"

    @property
    def account(self) -> str:
        """The account of the job."""
        return f"{self.job}@{self.project}.iam.gserviceaccount.com"

    @property
    def build_account(self) -> str:
        """The account of the build."""
        return f"{self.job}-build@{self.project}.iam.gserviceaccount.com"

    @property
    def all_services(self) -> tuple[str, ...]:
        """The services in production, and staging."""
        return (*self.services, *([self.staging] if self.staging else []))


@dataclass(frozen=True)
class Command:
    """A command, each word quoted for a shell, and why it is needed."""

    why: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command on one line."""
        return " ".join(self.words)

    @property
    def text(self) -> str:
        """The command as a person reads it: each option on a line of its own where one line is too long."""
        if len(self.line) <= _WIDEST:
            return self.line
        return self.line.replace(" --", " \\\n    --")


def commands_of(setup: Setup) -> tuple[Command, ...]:
    """Return what everybody needs, in the order in which it can be run."""
    return (*_image(setup), *_controller(setup), *_schedule(setup), *_build(setup))


def commands_where_needed(setup: Setup) -> tuple[Command, ...]:
    """Return what only some need, each with when."""
    return tuple(_where_needed(setup))


def _image(setup: Setup) -> Iterator[Command]:
    yield _gcloud(
        "The APIs that are used.",
        *("services", "enable", *(f"{api}.googleapis.com" for api in APIS), f"--project={setup.project}"),
    )
    whose = {IMAGES: "services' images", setup.repository: "controller's image"}
    for repository, what in whose.items():
        yield _gcloud(
            f"A place for the {what}; skip it if the repository is there.",
            *("artifacts", "repositories", "create", repository, "--repository-format=docker"),
            *(f"--location={setup.region}", f"--project={setup.project}"),
        )
    yield _gcloud(
        "The image. Run this in a checkout of cloud-run-canary.",
        *("builds", "submit", ".", f"--tag={setup.image}", f"--project={setup.project}"),
    )


def _controller(setup: Setup) -> Iterator[Command]:
    yield _account(setup, setup.job, "Canary rollouts", "The account that the job runs as.")
    yield _role(
        setup, CONTROLLER_ROLE, "Canary controller", CONTROLLER, "The least that it has to be allowed."
    )
    yield _on_project(
        setup,
        setup.account,
        _own_role(setup, CONTROLLER_ROLE),
        "On the project, as metrics, logs and lists of services have no smaller place.",
    )
    yield _gcloud(
        "The job. Without arguments of its own it looks after all services once. No retries: a rollout that"
        " was rolled back ends with an exit code, and must not be run again for it.",
        *("run", "jobs", "deploy", setup.job, f"--image={setup.image}", "--args=check"),
        *("--max-retries=0", "--task-timeout=24h", f"--service-account={setup.account}"),
        f"--set-env-vars=GOOGLE_CLOUD_PROJECT={setup.project},CLOUD_RUN_REGION={setup.region}",
        *_place(setup),
    )


def _schedule(setup: Setup) -> Iterator[Command]:
    uri = f"https://run.googleapis.com/v2/projects/{setup.project}/locations/{setup.region}/jobs/{setup.job}:run"
    yield _on_job(setup, setup.account, INVOKER, "The schedule starts the job as the job's own account.")
    yield _gcloud(
        "Every five minutes: goes on with rollouts whose controller died, and looks after the rest.",
        *("scheduler", "jobs", "create", "http", f"{setup.job}-check", f"--schedule={EVERY}", f"--uri={uri}"),
        *("--http-method=POST", f"--oauth-service-account-email={setup.account}"),
        *(f"--location={setup.region}", f"--project={setup.project}"),
    )


def _build(setup: Setup) -> Iterator[Command]:
    account = setup.build_account
    yield _account(
        setup, f"{setup.job}-build", "Builds with a canary", "The account of cloudbuild.canary.yaml."
    )
    yield _on_project(
        setup,
        account,
        _own_role(setup, CONTROLLER_ROLE),
        "The build's last step is a controller, too.",
    )
    yield _role(setup, BUILD_ROLE, "Canary build", BUILD, "What it takes to start the job with a rollout.")
    yield _on_job(
        setup, account, _own_role(setup, BUILD_ROLE), "On the job alone: canary rollout --detach starts it."
    )
    for role, why in (
        ("roles/run.developer", "Deploys revisions."),
        ("roles/artifactregistry.writer", "Pushes images, and pulls the controller's."),
        ("roles/logging.logWriter", "Writes the build's log."),
    ):
        yield _on_project(setup, account, role, why)
    for service in setup.all_services:
        yield _acts_as(
            setup,
            service,
            account,
            f"Who deploys {service} acts as its account. Run this once {service} is there.",
        )


def _where_needed(setup: Setup) -> Iterator[Command]:
    yield _on_project(
        setup,
        setup.build_account,
        "roles/storage.objectViewer",
        "For builds from a folder (gcloud builds submit), not by a trigger: reads what was uploaded.",
    )
    for service in setup.services:
        why = f"If a write to {service} is refused with iam.serviceaccounts.actAs."
        yield _acts_as(setup, service, setup.account, why)
    for service in setup.all_services:
        why = f"If {service} asks for a sign-in and its policy has probes or a smoke test: for the build."
        yield _on_service(setup, service, setup.build_account, why)
    for service in setup.services:
        why = f"If {service} asks for a sign-in and its policy has probes or a smoke test: for the job."
        yield _on_service(setup, service, setup.account, why)
    yield from _notices(setup)


def _notices(setup: Setup) -> Iterator[Command]:
    """Yield what notices need: whoever makes a transition tells of it, the job or the build."""
    for api, kind, when, role in (
        ("secretmanager", "secrets", "a notice's address or token is a secret", ACCESSOR),
        ("pubsub", "pubsub topics", "notices go to a topic", PUBLISHER),
    ):
        enable = ("services", "enable", f"{api}.googleapis.com", f"--project={setup.project}")
        yield _gcloud(f"If {when}: the API.", *enable)
        name = kind.split()[-1].removesuffix("s").upper()
        bind = (*kind.split(), "add-iam-policy-binding", name)
        for account, whose in ((setup.account, "job"), (setup.build_account, "build")):
            why = f"If {when}: for the {whose}, on each {name}."
            yield _gcloud(why, *bind, *_bound(account, role), f"--project={setup.project}")


def _gcloud(why: str, *words: str) -> Command:
    return Command(why, ("gcloud", *map(_quoted, words)))


def _quoted(word: str) -> str:
    """Return a word as a shell takes it, an option's name left as it is."""
    name, is_option, value = word.partition("=")
    return f"{name}={shlex.quote(value)}" if is_option and name.startswith("--") else shlex.quote(word)


def _place(setup: Setup) -> tuple[str, str]:
    return f"--region={setup.region}", f"--project={setup.project}"


def _own_role(setup: Setup, role: str) -> str:
    return f"projects/{setup.project}/roles/{role}"


def _account(setup: Setup, name: str, title: str, why: str) -> Command:
    create = ("iam", "service-accounts", "create", name)
    return _gcloud(why, *create, f"--display-name={title}", f"--project={setup.project}")


def _role(setup: Setup, role: str, title: str, permissions: tuple[str, ...], why: str) -> Command:
    listed = f"--permissions={','.join(permissions)}"
    create = ("iam", "roles", "create", role, f"--title={title}", "--stage=GA")
    return _gcloud(why, *create, listed, f"--project={setup.project}")


def _on_project(setup: Setup, account: str, role: str, why: str) -> Command:
    bind = ("projects", "add-iam-policy-binding", setup.project)
    return _gcloud(why, *bind, *_bound(account, role), "--condition=None")


def _on_job(setup: Setup, account: str, role: str, why: str) -> Command:
    bind = ("run", "jobs", "add-iam-policy-binding", setup.job)
    return _gcloud(why, *bind, *_bound(account, role), *_place(setup))


def _on_service(setup: Setup, service: str, account: str, why: str) -> Command:
    bind = ("run", "services", "add-iam-policy-binding", service)
    return _gcloud(why, *bind, *_bound(account, INVOKER), *_place(setup))


def _bound(account: str, role: str) -> tuple[str, str]:
    return f"--member=serviceAccount:{account}", f"--role={role}"


def _acts_as(setup: Setup, service: str, account: str, why: str) -> Command:
    """Return the binding on the account that a service runs as; the command asks gcloud which that is."""
    field = "--format=value(spec.template.spec.serviceAccountName)"
    asked = _gcloud("", "run", "services", "describe", service, field, *_place(setup)).line
    bind = _gcloud(why, "iam", "service-accounts", "add-iam-policy-binding")
    rest = _gcloud(why, *_bound(account, ACTS_AS), f"--project={setup.project}").words[1:]
    return Command(why, (*bind.words, f'"$({asked})"', *rest))
