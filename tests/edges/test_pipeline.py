"""The pipelines of cloudbuild.yaml and cloudbuild.job.yaml: read as Cloud Build reads them, and run."""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from google.cloud.devtools.cloudbuild_v1.types import Build, BuildOptions

from controller.core.policy import parse_policy
from controller.core.policy_notices import GitHub
from controller.core.traffic import LONGEST_TAG_AND_SERVICE
from controller.emulator.gcloud import environment

from .cloud_build import Built, Machine, Refused, read_build, substituted
from .conftest import PATIENT, ROOT, SAMPLE, SECONDS, SHORT, SURE, Cloud, until

WHOLE, LONG = ROOT / "cloudbuild.yaml", ROOT / "cloudbuild.job.yaml"
SHA = "0a1b2c3"
BY_TRIGGER = {"PROJECT_ID": "demo", "BUILD_ID": "5f-1", "SHORT_SHA": SHA}
STEPS = ["cache", "build", "push", "staging", "check-staging", "deploy", "canary"]

needs_gcloud = pytest.mark.skipif(
    shutil.which("gcloud") is None,
    reason="the steps that deploy need gcloud: https://cloud.google.com/sdk/docs/install",
)


# --- what Cloud Build would take ---


@pytest.mark.parametrize("file", [WHOLE, LONG], ids=lambda file: file.name)
def test_cloud_build_knows_every_field_and_every_variable(file: Path) -> None:
    build = substituted(read_build(file.read_text()), BY_TRIGGER, {"_SERVICE": "shop"})
    assert [step.id for step in build.steps] == STEPS
    assert "$" not in str([step.args for step in build.steps if step.id != "deploy"])
    pushed, built = build.steps[2].args[-1], build.steps[1].args
    assert f"--tag={pushed}:{SHA}" in built
    for step in ("staging", "deploy"):
        assert f"{pushed}:{SHA}" in text_of(build, step)
    assert "shop-staging" in text_of(build, "staging")
    assert build.service_account == "projects/demo/serviceAccounts/canary-build@demo.iam.gserviceaccount.com"
    assert build.options.logging == BuildOptions.LoggingMode.CLOUD_LOGGING_ONLY


def text_of(build: Build, wanted: str) -> str:
    (step,) = (step for step in build.steps if step.id == wanted)
    return " ".join(step.args)


def test_only_the_last_step_tells_the_long_form_from_the_other() -> None:
    whole, long = read_build(WHOLE.read_text()), read_build(LONG.read_text())
    assert whole.steps[:-1] == long.steps[:-1]
    followed, detached = list(whole.steps[-1].args), list(long.steps[-1].args)
    assert followed[0] == "rollout"
    assert [each for each in detached if each not in followed] == ["--detach", "--job=${_JOB}"]
    assert [each for each in detached if each in followed] == followed
    assert dict(long.substitutions) == {**whole.substitutions, "_JOB": "canary"}


@pytest.mark.parametrize("file", [WHOLE, LONG], ids=lambda file: file.name)
def test_the_canary_knows_the_commit_that_github_is_told(file: Path) -> None:
    about = {**BY_TRIGGER, "COMMIT_SHA": "0a1b2c3d"}
    build = substituted(read_build(file.read_text()), about, {})
    kept = GitHub(repository="my-org/shop").ref.removeprefix("env:")
    assert list(build.steps[-1].env) == ["BUILD_ID=5f-1", f"{kept}=0a1b2c3d"]


def test_the_build_that_the_notices_page_shows_takes_its_variable_from_the_secret() -> None:
    page = (ROOT / "docs/notices.md").read_text()
    (text,) = re.findall(r"```yml\n(.*?)```", page, re.DOTALL)  # those in yaml are policies
    build = substituted(read_build(text), BY_TRIGGER, {})
    (secret,) = build.available_secrets.secret_manager
    assert [list(step.secret_env) for step in build.steps] == [[secret.env]]
    assert secret.version_name == "projects/demo/secrets/slack-url/versions/latest"


def test_the_build_has_time_for_the_longest_rollout_of_the_standard_policy() -> None:
    policy = parse_policy({"version": 1})
    longest = policy.ready_within + policy.bake.at_most
    for step in policy.steps:
        longest += step.hold.at_most
    build = Build.pb(read_build(WHOLE.read_text()))
    assert build.timeout.ToTimedelta() > longest


def test_the_tag_leaves_room_for_a_service_with_a_name_of_37_characters() -> None:
    (tag,) = re.findall(r"--tag=(\S+)", text_of(read_build(WHOLE.read_text()), "deploy"))
    assert len(tag) + 37 == LONGEST_TAG_AND_SERVICE


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("steps: [{id: one, name: bash, argz: [a]}]", "argz"),
        ("options: {logging: CLOUD_LOGGING}", "CLOUD_LOGGING"),
        ("steps: [{name: bash, args: ['$_REGION']}]", "_REGION"),
        ("steps: [{name: bash, args: ['$stable']}]", "stable"),
        ("steps: [{name: bash, args: ['${_A//x/y}']}]\nsubstitutions: {_A: x}", "_A//x/y"),
        ("substitutions: {_UNUSED: x}", "_UNUSED"),
        ("substitutions: {REGION: x}", "REGION"),
    ],
)
def test_a_build_with_a_mistake_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(Refused, match=complaint):
        substituted(read_build(text), BY_TRIGGER, {})


def test_variables_are_substituted_as_by_cloud_build() -> None:
    text = (
        "substitutions: {_A: '${PROJECT_ID}'}\n"
        "steps: [{name: bash, args: ['$_A ${_A}x $$_A $$(ls) $BRANCH_NAME.']}]"
    )
    args = substituted(read_build(text), BY_TRIGGER, {}).steps[0].args
    assert list(args) == ["${PROJECT_ID} ${PROJECT_ID}x $_A $(ls) ."]
    dynamic = f"{text}\noptions: {{dynamicSubstitutions: true}}"
    args = substituted(read_build(dynamic), BY_TRIGGER, {}).steps[0].args
    assert list(args) == ["demo demox $_A $(ls) ."]


# --- whole builds ---

DOCKER = """\
#!/bin/sh
# In place of docker: an image is built by saying what runs in its place, with the knobs in the workspace.
case $1 in
pull) echo "manifest unknown" >&2; exit 1 ;;  # as in the very first build
build) for word; do
    case $word in
    --tag=*:latest) ;;  # only a cache
    --tag=*) canary local image "${word#--tag=}" --command "$SAMPLE" $(sed 's/^/--env /' knobs) || exit 1 ;;
    esac
  done ;;
push) ;;
*) exit 2 ;;
esac
"""
SMOKE = "smoke: [/health]\n"


class Pipeline:
    """Builds of one service; each change is what its knobs say, in a workspace and a commit of its own."""

    def __init__(self, cloud: Cloud, folder: Path, name: str) -> None:
        self.cloud, self.name, self._folder = cloud, name, folder
        self._builds = count(1)
        programs = folder / "bin"
        programs.mkdir()
        self._program(programs / "docker", DOCKER)
        self._program(programs / "canary", f'#!/bin/sh\nexec {sys.executable} -m controller "$@"\n')
        self._environment = {
            **cloud.environment,
            **environment(cloud.state, folder / "gcloud"),
            "PATH": f"{programs}:{cloud.environment['PATH']}",
            "SAMPLE": shlex.join(SAMPLE),
        }

    def build(self, policy: str = SHORT, steps: Sequence[str] = STEPS, **knobs: str) -> Built:
        """Run the pipeline, or some of its steps, for a change."""
        number = next(self._builds)
        workspace = self._folder / str(number)
        workspace.mkdir()
        (workspace / "canary.yaml").write_text(policy + SMOKE)
        (workspace / "knobs").write_text(
            "".join(f"{name}={value}\n" for name, value in {"LATENCY_MS": "2", **knobs}.items())
        )
        state = self.cloud.state
        about = {"PROJECT_ID": state.project, "BUILD_ID": f"5f-{number}", "SHORT_SHA": f"{number:07x}"}
        given = {"_SERVICE": self.name, "_REGION": state.region, "_CANARY_IMAGE": "canary:1"}
        build = substituted(read_build(WHOLE.read_text()), about, given)
        build.steps = [step for step in build.steps if step.id in steps]
        programs = {"gcr.io/cloud-builders/docker": "docker", "canary:1": "canary"}
        return Machine(workspace, self._environment, programs, seconds=2 * SECONDS).run(build)

    def serving(self) -> dict[str, int]:
        """Return the percent of each revision, by its number."""
        return {revision.split("-")[0]: share for revision, share in self.cloud.serving(self.name).items()}

    @staticmethod
    def _program(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)


_numbers = count(1)


@pytest.fixture
def pipeline(cloud: Cloud, tmp_path: Path) -> Pipeline:
    return Pipeline(cloud, tmp_path, f"shop{next(_numbers)}")


@pytest.fixture
def deployed(pipeline: Pipeline) -> Iterator[Pipeline]:
    """A pipeline whose service is deployed, and has users."""
    first = pipeline.build(steps=["build", "deploy"])
    assert first.code == 0, first.said
    with pipeline.cloud.users(pipeline.name, rps=200):
        yield pipeline


@needs_gcloud
@pytest.mark.processes
def test_the_first_build_deploys_the_service_and_has_nothing_to_roll_out(pipeline: Pipeline) -> None:
    first = pipeline.build()
    assert first.code == 0, first.said
    assert list(first.said) == STEPS
    assert "manifest unknown" in first.said["cache"]
    assert first.said["check-staging"].startswith(f"good   GET http://{pipeline.name}-staging.")
    assert f"is the first revision of {pipeline.name} that works" in first.said["canary"]
    assert pipeline.serving() == {"00001": 100}
    assert pipeline.cloud.record(pipeline.name) == ""


@needs_gcloud
@pytest.mark.processes
def test_the_first_revision_that_works_gets_the_users_where_none_before_it_did(pipeline: Pipeline) -> None:
    for steps, last in ((STEPS, "staging"), (["build", "deploy"], "deploy")):
        broken = pipeline.build(steps=steps, CRASH="1")
        assert (broken.code, broken.last_step) == (1, last), broken.said
    with pipeline.cloud.users(pipeline.name):
        mended = pipeline.build()
    assert mended.code == 0, mended.said
    assert "was ever ready" in mended.said["canary"]
    assert "WARNING" not in mended.said["deploy"]
    assert list(pipeline.serving().values()) == [100]


@needs_gcloud
@pytest.mark.processes
def test_a_good_change_is_promoted_also_after_one_that_never_started(deployed: Pipeline) -> None:
    never_started = deployed.build(steps=["build", "deploy"], CRASH="1")
    assert never_started.code == 1, never_started.said
    built = deployed.build(TEXT="better")
    assert built.code == 0, built.said
    assert "Promoted:" in built.said["canary"]
    assert deployed.serving() == {"00003": 100}
    assert "begun by build 5f-3" in deployed.cloud.canary("history", deployed.name).stdout


@needs_gcloud
@pytest.mark.processes
def test_a_change_that_fails_under_its_users_fails_the_build_and_stable_serves_all(
    deployed: Pipeline,
) -> None:
    built = deployed.build(SURE, ERROR_SHARE="0.3", PROBE_ERROR_SHARE="0")
    assert (built.code, built.last_step) == (3, "canary"), built.said
    assert "Rolled back:" in built.said["canary"]
    assert deployed.serving() == {"00001": 100}


@needs_gcloud
@pytest.mark.processes
def test_a_change_that_fails_on_staging_never_reaches_production(deployed: Pipeline) -> None:
    before = deployed.cloud.service(deployed.name)
    built = deployed.build(ERROR_SHARE="1")
    assert (built.code, built.last_step) == (6, "check-staging"), built.said
    assert "was answered with 500" in built.said["check-staging"]
    after = deployed.cloud.service(deployed.name)
    assert (after.generation, after.latest_created_revision) == (
        before.generation,
        before.latest_created_revision,
    )
    assert deployed.serving() == {"00001": 100}


@needs_gcloud
@pytest.mark.processes
def test_a_second_build_takes_the_place_of_a_rollout_under_way(deployed: Pipeline) -> None:
    with ThreadPoolExecutor(1) as pool:
        first: Future[Built] = pool.submit(deployed.build, PATIENT, TEXT="one")
        assert until(lambda: deployed.serving() == {"00001": 80, "00002": 20} or first.done(), 2 * SECONDS)
        assert not first.done(), first.result().said
        second = deployed.build(TEXT="two")
        ended = first.result()
    assert (ended.code, ended.last_step) == (5, "canary"), ended.said
    assert "Superseded:" in ended.said["canary"]
    assert second.code == 0, second.said
    newest = deployed.cloud.service(deployed.name).latest_created_revision.rpartition("/")[2]
    assert f"Promoted: {newest} serves all users" in second.said["canary"]
    assert list(deployed.serving().values()) == [100]
