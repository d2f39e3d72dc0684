"""A fleet: many services at rest, some rollouts under way, and the calls that looking after them takes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from builders import a_policy, a_rollout
from google.cloud import run_v2
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport
from world import KNOBS, SimulatedClock

from controller.core.policy import Policy
from controller.core.record import ANNOTATION, write_record
from controller.core.rollout import Phase
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings
from controller.engine.begin import Request, begin
from controller.engine.outside import Outside
from controller.engine.sweep import Checked, Memories, sweep
from controller.gateways.audit_log import PROBE_LOG_ID, LoggingGateway
from controller.gateways.cloud_run import CloudRunGateway
from controller.gateways.log_budget import LogBudget
from controller.gateways.monitoring import MonitoringGateway
from controller.gateways.notices import NoticeGateway
from controller.gateways.probes import HttpProbes
from controller.gateways.request_logs import RequestLogGateway


@dataclass
class Calls(grpc.UnaryUnaryClientInterceptor):
    """Counts the calls that go out, by the names of their methods."""

    of: Counter[str] = field(default_factory=Counter)

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        method = details.method
        self.of[(method.decode() if isinstance(method, bytes) else method).rpartition("/")[2]] += 1
        return continuation(details, request)


@dataclass
class Fleet:
    """Many services of a local Cloud Run, and their controller, whose calls are counted."""

    local: LocalCloudRun
    outside: Outside
    calls: Calls
    services: Any
    parent: str

    def at_rest(self, name: str, policy: Policy, rps: float, **knobs: str) -> None:
        """Deploy a service whose rollout is over: its one revision serves all users."""
        revision = f"{name}-00001-abc"
        now = self.local.now()
        record = a_rollout(
            Phase.PROMOTED,
            service=name,
            stable="",
            candidate=revision,
            newest=revision,
            follows_latest=True,
            policy=policy,
            started_at=now,
            since=now,
            observed_at=now,
        )
        self._create(name, revision, knobs, {ANNOTATION: write_record(record)})
        self.local.users(name, rps)

    def under_way(self, name: str, policy: Policy, rps: float, **knobs: str) -> None:
        """Deploy a service with a candidate, and begin to roll it out."""
        stable, candidate = f"{name}-00001-abc", f"{name}-00002-def"
        self._create(name, stable, {}, {})
        self.local.users(name, rps)
        self.wait(10)
        service = run_v2.Service(name=f"{self.parent}/services/{name}", template=_template(candidate, knobs))
        kind = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
        service.traffic = [run_v2.TrafficTarget(type_=kind, revision=stable, percent=100)]
        mask = {"paths": ["template", "traffic"]}
        self.services.update_service({"service": service, "update_mask": mask})
        self.wait(10)
        begin(self.outside, Request(name, policy, "ada"))

    def _create(
        self, name: str, revision: str, knobs: Mapping[str, str], annotations: Mapping[str, str]
    ) -> None:
        service = run_v2.Service(template=_template(revision, knobs), annotations=dict(annotations))
        self.services.create_service(parent=self.parent, service=service, service_id=name)

    def wait(self, seconds: float) -> None:
        self.outside.clock.sleep(seconds)

    def sweep(self, memories: Memories | None = None) -> dict[str, Checked]:
        """Sweep once, and return what was seen of each service."""
        seen: dict[str, Checked] = {}
        sweep(self.outside, lambda checked: seen.__setitem__(checked.service, checked), memories)
        return seen

    def counted_sweep(self, memories: Memories | None = None) -> tuple[dict[str, Checked], Counter[str]]:
        """Sweep once, and return what was seen, and how often each method was called."""
        self.calls.of.clear()
        seen = self.sweep(memories)
        return seen, Counter(self.calls.of)

    def deploy_all(self, resting: int, rolling: int, health: Any = "on", **watched: Any) -> None:
        """Deploy services at rest, and others with a rollout that is in its first step by the end.

        `watched` is what the policies of rollouts say besides.
        """
        for number in range(resting):
            self.at_rest(f"rest-{number}", a_policy(health=health), rps=2)
        for number in range(rolling):
            policy = a_policy(steps=["20%", "50%"], hold={"at_least": "1h", "at_most": "3h"}, **watched)
            self.under_way(f"roll-{number}", policy, rps=20)
        memories = Memories()
        for _ in range(10):
            self.sweep(memories)
            self.wait(15)
        self.wait(40 * 60)


def _template(revision: str, knobs: Mapping[str, str]) -> run_v2.RevisionTemplate:
    env = [{"name": name, "value": value} for name, value in (KNOBS | dict(knobs)).items()]
    container = {"image": "local", "command": ["sample"], "env": env}
    return run_v2.RevisionTemplate(revision=revision, containers=[container])


@contextmanager
def a_fleet(**settings: Any) -> Iterator[Fleet]:
    """Give a local Cloud Run with nothing in it, on a clock that moves when somebody waits."""
    chosen = Settings(runtime=RuntimeKind.SIMULATED, speed=0, seed=7, quotas=False, **settings)
    with LocalCloudRun.started(chosen) as local:
        channel = grpc.insecure_channel(local.grpc_address, options=[("grpc.enable_http_proxy", 0)])
        with channel:
            clock, calls = SimulatedClock(local), Calls()
            counted = grpc.intercept_channel(channel, calls)
            place = (chosen.project, chosen.region, clock.sleep, counted)
            outside = Outside(
                CloudRunGateway(*place),
                MonitoringGateway(*place),
                clock,
                HttpProbes(clock.now),
                LoggingGateway(*place),
                RequestLogGateway(*place, LogBudget(local.now)),
                LoggingGateway(*place, PROBE_LOG_ID),
                NoticeGateway(chosen.project, chosen.region, has_console=False),
            )
            services = run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=channel))
            parent = f"projects/{chosen.project}/locations/{chosen.region}"
            yield Fleet(local, outside, calls, services, parent)
