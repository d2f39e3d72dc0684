"""Image names and the local commands that run in their place: nothing is pulled here."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.names import RevisionKey
from controller.emulator.run.catalog import Failure
from controller.emulator.run.runtime import Report, Runtime
from controller.emulator.run.tasks import AttemptKey, Ended, TaskRuntime
from controller.emulator.run.tasks import Report as TaskReport
from controller.emulator.run.traffic import Split


@dataclass(frozen=True)
class Image:
    """What runs in place of an image."""

    name: str
    """With or without a tag or digest; without one, it stands for every version."""
    command: tuple[str, ...]
    working_dir: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


class Images:
    """The images that are known, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Image] = {}

    def put(self, image: Image) -> None:
        """Add an image; one of the same name is replaced. Revisions that exist keep what they run."""
        self._by_name[image.name] = image

    def remove(self, name: str) -> bool:
        """Forget an image; return whether it was known."""
        return self._by_name.pop(name, None) is not None

    def all(self) -> list[Image]:
        """Return all images, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def find(self, name: str) -> Image | None:
        """Return what runs for an image: of this very name, or digest, or of the name without either."""
        by_digest = {digest_of(known): image for known, image in self._by_name.items()}
        return self._by_name.get(name) or by_digest.get(name) or self._by_name.get(repository_of(name))


def repository_of(name: str) -> str:
    """Return an image's name without tag and digest."""
    without_digest = name.partition("@")[0]
    path, slash, last = without_digest.rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


def digest_of(name: str) -> str:
    """Return the image by its digest, which follows from the name here, not from any content."""
    if "@" in name or not name:
        return name
    return f"{repository_of(name)}@sha256:{hashlib.sha256(name.encode()).hexdigest()}"


class ImageRuntime(Runtime):
    """Gives a revision without a command that of its image, and leaves the rest to the runtime."""

    def __init__(self, clock: Clock, images: Images, runtime: Runtime) -> None:
        self._clock = clock
        self._images = images
        self._runtime = runtime

    def deploy(self, key: RevisionKey, revision: run_v2.Revision, report: Report, at: datetime) -> None:
        """Start the revision, or report that nobody knows what its image is."""
        known = self._runnable(revision)
        if known is None:
            failure = unknown_image(revision.containers[0].image)
            self._clock.at(at, lambda when: report(when, failure))
        else:
            self._runtime.deploy(key, known, report, at)

    def adopt(self, key: RevisionKey, revision: run_v2.Revision, at: datetime) -> None:
        """Take a revision for ready as it is."""
        self._runtime.adopt(key, self._runnable(revision) or revision, at)

    def follow(self, location: str, service_id: str, split: Split, at: datetime) -> None:
        """Send requests by this split from now on."""
        self._runtime.follow(location, service_id, split, at)

    def scale(self, location: str, service_id: str, scaling: run_v2.ServiceScaling, at: datetime) -> None:
        """Keep to the service's own limits of instances from now on."""
        self._runtime.scale(location, service_id, scaling, at)

    def remove(self, key: RevisionKey) -> None:
        """Stop whatever runs of the revision."""
        self._runtime.remove(key)

    def _runnable(self, revision: run_v2.Revision) -> run_v2.Revision | None:
        """Return the revision with a command; None if it has neither a command nor a known image."""
        container = _runnable(self._images, revision.containers[0])
        if container is None:
            return None
        result = run_v2.Revision(revision)
        result.containers[0] = container
        return result


class ImageTasks(TaskRuntime):
    """Gives a task without a command that of its image, and leaves the rest to the runtime."""

    def __init__(self, clock: Clock, images: Images, runtime: TaskRuntime) -> None:
        self._clock = clock
        self._images = images
        self._runtime = runtime

    def run(self, key: AttemptKey, execution: run_v2.Execution, report: TaskReport) -> None:
        """Start a try, or report that nobody knows what its image is."""
        container = execution.template.containers[0]
        known = _runnable(self._images, container)
        if known is None or not known.command:
            problem = _no_command("job", container.image, "run the job")
            self._clock.at(self._clock.now(), lambda when: report(when, Ended(1, problem)))
            return
        runnable = run_v2.Execution(execution)
        runnable.template.containers[0] = known
        self._runtime.run(key, runnable, report)

    def stop(self, key: AttemptKey) -> None:
        """Ask a try to end, and end it if it does not."""
        self._runtime.stop(key)


def _runnable(images: Images, container: run_v2.Container) -> run_v2.Container | None:
    """Return a container with a command; None if it has neither a command nor a known image."""
    if container.command or not container.image:
        return container
    image = images.find(container.image)
    if image is None:
        return None
    result = run_v2.Container(container)
    own = {variable.name for variable in container.env}
    inherited = [
        run_v2.EnvVar(name=name, value=value) for name, value in image.env.items() if name not in own
    ]
    result.command = list(image.command)
    result.env = [*inherited, *container.env]
    result.working_dir = container.working_dir or image.working_dir
    return result


def unknown_image(name: str) -> Failure:
    """Return the failure of a revision whose image no command stands for."""
    return Failure(_no_command("revision", name, "deploy"))


def _no_command(kind: str, name: str, again: str) -> str:
    return (
        f"The {kind} has no command: the local Cloud Run pulls no images, and nothing says what to run "
        f"for '{name}'. Type: canary local image {name} --command \"...\"; then {again} again."
    )
