"""A simulated world: a local Cloud Run on a clock that moves when the controller waits, and its people."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import grpc
from builders import a_policy
from google.cloud import run_v2
from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport

from controller.core.opening import NothingToDo
from controller.core.policy import Policy
from controller.core.rollout import Event, Phase, Rollout
from controller.core.traffic import Split, Target
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings
from controller.engine.begin import Begun, Request, begin
from controller.engine.commands import Obeyed, obey
from controller.engine.loop import Followed, follow
from controller.engine.outside import Outside
from controller.engine.reconcile import Pass
from controller.gateways.audit_log import PROBE_LOG_ID, LoggingGateway
from controller.gateways.cloud_run import CloudRunGateway
from controller.gateways.log_budget import LogBudget
from controller.gateways.monitoring import MonitoringGateway
from controller.gateways.notices import NoticeGateway
from controller.gateways.probes import HttpProbes
from controller.gateways.request_logs import RequestLogGateway
from controller.ports import Clock
from controller.principal import calling_as

SERVICE = "web"
CONTROLLER = "canary@demo.iam.gserviceaccount.com"
OWNER = "owner@example.com"
KNOBS = {"LATENCY_MS": "40"}
QUICK: dict[str, Any] = {"steps": ["10%", "50%"], "hold": {"at_least": "3m"}, "bake": "5m"}


@dataclass
class SimulatedClock(Clock):
    """Time passes when somebody waits."""

    local: LocalCloudRun

    def now(self) -> datetime:
        return self.local.now()

    def sleep(self, seconds: float) -> None:
        self.local.advance(timedelta(seconds=seconds))


@dataclass
class World:
    """One service, its owner and its controller."""

    local: LocalCloudRun
    outside: Outside
    services: Any
    revisions: Any
    parent: str
    owners_outside: Outside
    """What the owner would have at hand to drive a rollout."""
    seen: list[Pass] = field(default_factory=list)
    """What the controller's passes saw; the invariants hold for each of them."""

    # --- the owner ---

    def deploy(self, *, traffic: bool = False, most: int = 0, concurrency: int = 0, **knobs: str) -> str:
        """Deploy a revision with these knobs of the sample service; returns its name when all is settled.

        It has at most `most` instances, for `concurrency` requests at once each, where these are given.
        """
        template = run_v2.RevisionTemplate(
            containers=[
                {
                    "image": "local",
                    "command": ["sample"],
                    "env": [{"name": n, "value": v} for n, v in (KNOBS | knobs).items()],
                }
            ],
        )
        if most:
            template.scaling = run_v2.RevisionScaling(max_instance_count=most)
        if concurrency:
            template.max_instance_request_concurrency = concurrency
        template.annotations["deployed-at"] = self.local.now().isoformat()
        name = f"{self.parent}/services/{SERVICE}"
        if not any(service.name == name for service in self.services.list_services(parent=self.parent)):
            service = run_v2.Service(template=template)
            self.services.create_service(parent=self.parent, service=service, service_id=SERVICE)
        else:
            service = run_v2.Service(name=name, template=template)
            mask = ["template"]
            self.services.update_service({"service": service, "update_mask": {"paths": mask}})
        self.wait(10)
        if traffic:
            self.set_traffic((Target("", 100),))
        return self.newest()

    def pin(self) -> None:
        """Pin the traffic to the newest revision, so that the next deployment gets none."""
        self.set_traffic((Target(self.newest(), 100),))

    def newest(self) -> str:
        return str(self.service().latest_created_revision).rpartition("/")[2]

    def service(self) -> Any:
        return self.services.get_service(name=f"{self.parent}/services/{SERVICE}")

    def set_traffic(self, split: Split) -> None:
        """Edit the traffic by hand, as the console or gcloud does."""
        self._update({"traffic"}, traffic=[_target(target) for target in split])

    def set_annotations(self, **annotations: str) -> None:
        kept = dict(self.service().annotations)
        self._update(
            {"annotations"}, annotations=kept | {k.replace("__", "/"): v for k, v in annotations.items()}
        )

    def replace_annotations(self, annotations: dict[str, str]) -> None:
        self._update({"annotations"}, annotations=annotations)

    def _update(self, mask: set[str], **fields: Any) -> None:
        service = run_v2.Service(name=f"{self.parent}/services/{SERVICE}", **fields)
        self.services.update_service({"service": service, "update_mask": {"paths": sorted(mask)}})
        self.wait(10)

    # --- the world ---

    def wait(self, seconds: float) -> None:
        self.outside.clock.sleep(seconds)

    def users(self, rps: float) -> None:
        self.local.users(SERVICE, rps=rps)

    def serving(self) -> dict[str, int]:
        """The percent of the users that each revision answers, as Cloud Run says."""
        service = self.service()
        shares: dict[str, int] = {}
        for status in service.traffic_statuses:
            name = status.revision or service.latest_ready_revision
            short = name.rpartition("/")[2]
            shares[short] = shares.get(short, 0) + status.percent
        return {name: percent for name, percent in shares.items() if percent}

    def tags(self) -> set[str]:
        return {target.tag for target in self.service().traffic if target.tag}

    # --- the controller ---

    def begin(self, policy: Policy | None = None, **fields: Any) -> Begun:
        begun = begin(self.outside, self.request(policy, **fields))
        assert isinstance(begun, Begun)
        return begun

    def request(self, policy: Policy | None = None, **fields: Any) -> Request:
        return Request(SERVICE, policy or a_policy(**QUICK), "ada", **fields)

    def nothing_to_do(self, **fields: Any) -> NothingToDo:
        begun = begin(self.outside, self.request(**fields))
        assert isinstance(begun, NothingToDo)
        return begun

    def follow(self, begun: Begun, act: Any = None) -> Followed:
        """Follow a rollout to its end; `act` is called after each pass, as somebody who watches would."""

        def on_pass(seen: Pass) -> None:
            self.saw(seen)
            if act:
                act(seen)

        return follow(self.outside, begun.rollout, on_pass, begun.log)

    def roll_out(self, policy: Policy | None = None, act: Any = None, **fields: Any) -> Followed:
        return self.follow(self.begin(policy, **fields), act)

    def command(self, event: Event, to: str = "") -> Obeyed:
        return obey(self.outside, SERVICE, event, "ada", self.saw, to)

    def commanded(self, event: Event, to: str = "") -> Rollout:
        """Give a command about a rollout, and return where that stands then."""
        rollout = self.command(event, to).rollout
        assert rollout is not None
        return rollout

    def saw(self, seen: Pass) -> None:
        self.seen.append(seen)
        assert_invariants(seen)

    @property
    def phases(self) -> list[tuple[Phase, int]]:
        """The phases and shares that the passes went through, each once in a row."""
        states: list[tuple[Phase, int]] = []
        for seen in self.seen:
            assert seen.rollout is not None
            state = (seen.rollout.phase, seen.rollout.percent)
            if not states or states[-1] != state:
                states.append(state)
        return states


def assert_invariants(seen: Pass) -> None:
    """What must hold at every tick of every run."""
    served = seen.service.shares_served
    assert sum(served.values()) == 100
    rollout = seen.rollout
    assert rollout is not None
    assert rollout.reason
    if rollout.phase.is_terminal:
        return
    limit = max(rollout.percent, *(window.percent for window in rollout.windows), 0)
    assert served.get(rollout.candidate, 0) <= limit
    candidate = seen.observation.candidate if seen.observation else None
    if candidate and candidate.known and not candidate.ready:
        assert rollout.phase in {Phase.WAITING, Phase.PAUSED, Phase.CHECKING} or rollout.percent == 0


def _target(target: Target) -> run_v2.TrafficTarget:
    kind = (
        "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
        if target.revision
        else "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    )
    return run_v2.TrafficTarget(type_=kind, revision=target.revision, percent=target.percent, tag=target.tag)


@contextmanager
def a_world(
    rps: float = 20, clock_of: Callable[[LocalCloudRun], Clock] = SimulatedClock, **settings: Any
) -> Iterator[World]:
    """Give a world with one revision deployed, LATEST at 100 %, and users on it.

    The controller and everybody else call as principals of their own.
    """
    chosen = Settings(runtime=RuntimeKind.SIMULATED, speed=0, **{"seed": 7, **settings})
    with LocalCloudRun.started(chosen) as local:
        channel = grpc.insecure_channel(local.grpc_address, options=[("grpc.enable_http_proxy", 0)])
        with channel:
            clock = clock_of(local)
            owners = calling_as(channel, OWNER)
            outside = outside_of(local, clock, calling_as(channel, CONTROLLER))
            services = run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=owners))
            parent = f"projects/{chosen.project}/locations/{chosen.region}"
            revisions = run_v2.RevisionsClient(transport=RevisionsGrpcTransport(channel=owners))
            world = World(local, outside, services, revisions, parent, outside_of(local, clock, owners))
            world.deploy()
            world.users(rps)
            yield world


def outside_of(local: LocalCloudRun, clock: Clock, channel: grpc.Channel) -> Outside:
    """Return the gateways of whoever calls on this channel."""
    place = local.settings.project, local.settings.region, clock.sleep, channel
    return Outside(
        CloudRunGateway(*place),
        MonitoringGateway(*place),
        clock,
        HttpProbes(clock.now),
        LoggingGateway(*place),
        RequestLogGateway(*place, LogBudget(local.now)),
        LoggingGateway(*place, PROBE_LOG_ID),
        NoticeGateway(local.settings.project, local.settings.region, has_console=False),
    )


def phases_of(passes: Sequence[Pass]) -> list[Phase]:
    return [seen.rollout.phase for seen in passes if seen.rollout]
