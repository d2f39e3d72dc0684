"""The preflight: each setting that endangers a canary is found, each permission that is missing is named."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud import run_v2
from scene import Stage, a_stage
from test_least_role import ACT_AS, LEAST, a_world_with
from test_little_traffic import portal
from world import SERVICE, World

from controller.core.opening import OpeningRefused
from controller.core.policy import Policy
from controller.core.preflight import CheckResult, Gravity
from controller.core.traffic import Target
from controller.core.trail import UNLOGGED
from controller.engine.preflight import preflight
from controller.ports import DeniedError

HOUR = 3600
LARGEST = 256 * 1024
"""Bytes of all annotations together."""
EVERYTHING = {*LEAST, "run.services.list", "logging.logEntries.list"}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with a_stage(simulated_front=True) as stage:
        stage.pin()
        stage.wait(HOUR)
        yield stage


def found(world: World, policy: Policy | None = None) -> dict[str, CheckResult]:
    """Return the worst finding of each check, and make sure that looking changes nothing."""
    before = world.service()
    found = list(preflight(world.outside, SERVICE, policy or portal(probes=[], request_logs="off")))
    assert world.service() == before
    order = list(Gravity)
    worst: dict[str, CheckResult] = {}
    for each in sorted(found, key=lambda each: order.index(each.gravity)):
        worst[each.check] = each
    return worst


def update(world: World, *paths: str, **fields: Any) -> None:
    service = run_v2.Service(name=world.service().name, **fields)
    world.services.update_service({"service": service, "update_mask": {"paths": list(paths)}})
    world.wait(10)


def template(**fields: Any) -> dict[str, Any]:
    containers = [{"image": "local", "command": ["sample"]}]
    return {"template": {"containers": containers, **fields}}


def test_a_service_that_is_fit_has_nothing_but_what_its_traffic_says(stage: Stage) -> None:
    worst = found(stage)
    assert {name: each.what for name, each in worst.items() if each.gravity is not Gravity.OK} == {}
    assert worst["metrics"].what.startswith("readable; the newest minute with requests is ")
    assert worst["write"].what == "traffic and annotations may be written (tried, and not kept)"


def first_of(stage: Stage) -> str:
    stage.deploy()
    revisions = stage.revisions.list_revisions(parent=stage.service().name)
    return str(min(revisions, key=lambda each: each.create_time).name).rpartition("/")[2]


def three_serve(stage: Stage) -> None:
    names = [stage.newest(), stage.deploy(), stage.deploy()]
    stage.set_traffic(tuple(Target(name, share) for name, share in zip(names, (50, 30, 20), strict=True)))


SETTINGS: list[tuple[str, Gravity, str, Callable[[Stage], object]]] = [
    (
        "session affinity",
        Gravity.WARNING,
        "users stay with their revision",
        lambda stage: update(stage, "template", **template(session_affinity=True)),
    ),
    (
        "latest",
        Gravity.WARNING,
        "a deployment gives it all of them",
        lambda stage: stage.set_traffic((Target("", 100),)),
    ),
    (
        "latest",
        Gravity.WARNING,
        "40 % of the users follow the latest revision, the others do not",
        lambda stage: stage.set_traffic((Target("", 40), Target(first_of(stage), 60))),
    ),
    (
        "split",
        Gravity.ERROR,
        "3 revisions serve users",
        three_serve,
    ),
    (
        "max instances",
        Gravity.WARNING,
        "50 % of at most 1 instances is less than one",
        lambda stage: update(stage, "scaling", scaling={"max_instance_count": 1}),
    ),
    (
        "max instances",
        Gravity.WARNING,
        "may have one instance at most",
        lambda stage: stage.deploy(most=1),
    ),
    (
        "max instances",
        Gravity.WARNING,
        "scaled by hand to 3",
        lambda stage: update(stage, "scaling", scaling={"scaling_mode": 2, "manual_instance_count": 3}),
    ),
    (
        "min instances",
        Gravity.WARNING,
        "a tag alone keeps them running",
        lambda stage: update(stage, "template", **template(scaling={"min_instance_count": 2})),
    ),
    (
        "health check",
        Gravity.WARNING,
        "deployments are not checked",
        lambda stage: update(stage, "template", **template(health_check_disabled=True)),
    ),
    (
        "owner",
        Gravity.WARNING,
        "Terraform made it",
        lambda stage: update(stage, "labels", labels={"goog-terraform-provisioned": "true"}),
    ),
    (
        "owner",
        Gravity.WARNING,
        "Terraform made it",
        lambda stage: update(stage, "client", client="terraform"),
    ),
]


@pytest.mark.parametrize(
    ("check", "gravity", "words", "change"),
    SETTINGS,
    ids=[f"{each[0]} {number}" for number, each in enumerate(SETTINGS)],
)
def test_each_setting_that_endangers_a_canary_is_found(
    check: str, gravity: Gravity, words: str, change: Callable[[Stage], object]
) -> None:
    with a_stage() as stage:
        stage.pin()
        change(stage)
        worst = found(stage)[check]
        assert (worst.gravity, words in worst.what) == (gravity, True), worst
        assert worst.todo


def test_a_multi_region_service_is_refused() -> None:
    with a_stage(keeps_regions=True) as stage:
        stage.pin()
        update(stage, "multi_region_settings", multi_region_settings={"regions": ["a", "b"]})
        assert found(stage)["regions"].gravity is Gravity.ERROR


@pytest.mark.parametrize(
    ("fields", "check", "gravity", "words"),
    [
        ({"ingress": 2}, "ingress", Gravity.WARNING, "it is internal"),
        ({"default_uri_disabled": True}, "ingress", Gravity.ERROR, "the default URL is disabled"),
        ({"iap_enabled": True}, "sign-in proxy", Gravity.WARNING, "lets no request of ours in"),
    ],
)
def test_what_keeps_probes_out_is_found(
    fields: dict[str, Any], check: str, gravity: Gravity, words: str
) -> None:
    with a_stage(simulated_front=True) as stage:
        stage.pin()
        update(stage, *fields, **fields)
        worst = found(stage, portal())[check]
        assert (worst.gravity, words in worst.what) == (gravity, True), worst


def test_probes_that_the_service_itself_fails_are_found(stage: Stage) -> None:
    good = found(stage, portal())["probes"]
    assert (good.gravity, good.what) == (Gravity.OK, "GET /healthz answered with 200")
    stage.local.behave(stage.newest(), probe_error_share=1.0)
    bad = found(stage, portal())["probes"]
    stage.local.behave(stage.newest(), probe_error_share=0.0)
    assert bad.gravity is Gravity.WARNING
    assert bad.what.startswith("the service itself fails it: GET ")
    lacking = portal(probes=[{"path": "/", "headers": {"X-Api-Key": "env:NOT_THERE"}}])
    assert found(stage, lacking)["probes"].gravity is Gravity.ERROR


def test_a_notice_whose_secret_is_missing_is_found(stage: Stage) -> None:
    worst = found(stage, portal(probes=[], notices=["env:NOT_THERE"]))["notices"]
    assert (worst.gravity, "NOT_THERE" in worst.what) == (Gravity.WARNING, True)


def test_a_policy_that_does_not_fit_the_traffic_is_found() -> None:
    with a_stage(rps=10 / HOUR) as stage:
        stage.pin()
        stage.wait(HOUR)
        worst = found(stage, portal(probes=[], hold={"requests": 500}))["policy"]
        assert worst.gravity is Gravity.WARNING
        assert "out of reach" in worst.what


@pytest.mark.parametrize(
    ("missing", "checks"),
    [
        ("run.services.update", {"write"}),
        ("run.revisions.list", {"revisions"}),
        ("run.revisions.get", {"revisions"}),
        ("monitoring.timeSeries.list", {"metrics"}),
        ("logging.logEntries.create", {"audit log", "probe log"}),
        ("logging.logEntries.list", {"audit log", "probe log", "request log", "metrics"}),
        ("run.services.list", {"services"}),
    ],
)
def test_each_permission_that_is_missing_is_named(tmp_path: Path, missing: str, checks: set[str]) -> None:
    with a_world_with(EVERYTHING - {missing}, tmp_path) as world:
        worst = found(world, portal())
        denied = {name for name, each in worst.items() if missing in each.what}
        assert denied == checks
        assert all("docs/permissions.md" in worst[name].todo for name in denied)


def test_where_a_write_acts_as_the_services_account_that_is_found_before(tmp_path: Path) -> None:
    with a_world_with(EVERYTHING, tmp_path, act_as="always") as world:
        assert ACT_AS.lower() in found(world)["write"].what.lower()
    with a_world_with({*EVERYTHING, ACT_AS}, tmp_path, act_as="always") as world:
        assert found(world)["write"].gravity is Gravity.OK


def test_without_run_services_get_it_ends_there(tmp_path: Path) -> None:
    with a_world_with(EVERYTHING - {"run.services.get"}, tmp_path) as world:
        (only,) = preflight(world.outside, SERVICE, portal())
        assert (only.check, only.gravity, only.unavailable) == ("service", Gravity.ERROR, True)


# --- the command, and the beginning of a rollout ---


def test_the_command_says_each_finding_and_ends_by_the_worst(stage: Stage, tmp_path: Path) -> None:
    good = stage.canary("doctor", SERVICE)
    assert (good.code, good.text.splitlines()[-1].startswith(f"{SERVICE}: 0 errors, ")) == (0, True)
    lines = [json.loads(line) for line in stage.canary("doctor", SERVICE, "--json").text.splitlines()]
    assert {line["gravity"] for line in lines} <= {"ok", "warning"}
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nprobes: [{path: /, headers: {X-Api-Key: 'env:NOT_THERE'}}]\n")
    bad = stage.canary("doctor", SERVICE, "--policy", str(policy))
    assert bad.code == 2
    assert "error    probes: GET / cannot be asked: " in bad.text
    assert stage.canary("doctor", "nope").code == 2


def test_a_rollout_of_a_multi_region_service_does_not_begin() -> None:
    with a_stage(keeps_regions=True) as stage:
        stage.pin()
        stage.deploy()
        update(stage, "multi_region_settings", multi_region_settings={"regions": ["a", "b"]})
        with stage.stays_as_it_is(), pytest.raises(OpeningRefused, match="multi-region"):
            stage.begin()


def test_a_write_that_would_be_refused_is_found_before_anything_is_written(tmp_path: Path) -> None:
    with a_world_with(EVERYTHING - {"run.services.update"}, tmp_path) as world:
        world.deploy()
        before = world.service()
        with pytest.raises(DeniedError, match=r"trying to write service web.*run\.services\.update"):
            world.begin()
        assert world.service() == before


def test_what_endangers_a_rollout_is_said_when_it_begins() -> None:
    with a_stage() as stage:
        stage.pin()
        stage.deploy(most=1)
        update(stage, "labels", labels={"goog-terraform-provisioned": "true"})
        warnings = " ".join(stage.begin().warnings)
        assert "Terraform made it" in warnings
        assert "may have one instance at most" in warnings


def test_users_that_are_gone_are_noticed_by_the_age_of_the_newest_minute() -> None:
    with a_stage() as stage:
        stage.pin()
        stage.wait(1800)
        stage.users(0)
        stage.wait(1500)
        metrics = found(stage)["metrics"]
        assert (metrics.gravity, "is 2" in metrics.what) == (Gravity.WARNING, True), metrics


def test_what_waits_to_be_logged_gives_way_to_the_trial_as_to_the_opening() -> None:
    with a_stage() as stage:
        stage.pin()
        stage.deploy()
        record = stage.service().annotations
        stage.replace_annotations({**record, "others": "x" * (LARGEST - 1000 - len(UNLOGGED) - 12_000)})
        stage.set_annotations(**{UNLOGGED.replace("/", "__"): "[" + " " * 12_000 + "]"})
        assert stage.begin().opened


def test_a_repair_by_hand_that_is_not_in_force_yet_is_no_third_revision() -> None:
    with a_stage(reconcile_delay=timedelta(seconds=60)) as stage:
        stage.pin()
        stage.wait(120)
        first = stage.newest()
        second, third = stage.deploy(), stage.deploy()
        stage.wait(120)
        stage.set_traffic((Target(first, 50), Target(second, 30), Target(third, 20)))
        stage.wait(120)
        stage.deploy()
        stage.wait(120)
        stage.set_traffic((Target(first, 100),))
        assert len(stage.serving()) == 3
        assert stage.begin().opened


def test_looking_takes_no_time_of_the_service(stage: Stage) -> None:
    before = stage.local.now()
    list(preflight(stage.outside, SERVICE, portal(probes=[])))
    assert stage.local.now() - before < timedelta(minutes=1)
