"""What is fuzzed: parsers of what strangers write, each with what must hold whatever they are given."""

import io
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from builders import NOW, a_policy, a_revision, a_rollout, a_sample, a_service
from rich.console import Console

from controller.cli.report import report_of
from controller.cli.views import line_of, panel_of
from controller.core.assessment import assess
from controller.core.decision import Command, decide
from controller.core.evidence import Minute, Window, arrange_evidence
from controller.core.explanation import explain_policy, explanation_lines
from controller.core.observation import Observation
from controller.core.placement import wanted_split
from controller.core.policy import Policy, policy_as_plain
from controller.core.record import RecordInvalid, parse_record, write_record
from controller.core.rollout import COMMANDS, Phase, Rollout, Stay
from controller.core.traffic import check_split
from controller.emulator.errors import ApiError
from controller.emulator.faults.fault import KINDS, FaultInvalid, parse_fault
from controller.emulator.logs.filter import parse_log_filter, times_in
from controller.engine.reconcile import Pass
from controller.gateways.policy_files import PolicyFileInvalid, read_policy

ROOT = Path(__file__).parents[2]
LONGEST_MESSAGE = 4000
HOSTILE = "\x1b[2J\x1b]0;gone\x07 and\nPromoted: all is well\u202e" + "x" * 100_000
"""A message that clears the screen, renames the window, forges a line, turns text around and is long."""


@dataclass(frozen=True)
class Target:
    """A parser to be fuzzed: what must hold for any bytes, and examples to begin from."""

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def assert_refused(*messages: str) -> None:
    """Something is said of why, and it is plain."""
    assert messages
    for message in messages:
        assert message
        assert_plain(message)


def said(message: str) -> None:
    """Something is said of why; whoever shows it to people makes it plain."""
    assert message


def assert_plain(text: str) -> None:
    """Nothing but one line of printable characters, of a length that somebody may read."""
    assert text.isprintable(), ascii(text[:200])
    assert len(text) <= LONGEST_MESSAGE, len(text)


# --- records ---


def check_record(text: str) -> None:
    """A text is refused in one plain line, or gives a rollout with which everything works."""
    try:
        rollout = parse_record(text)
    except RecordInvalid as invalid:
        assert_refused(str(invalid))
        return
    assert parse_record(write_record(rollout)) == rollout
    for observation in observations(rollout):
        for command in (None, *(Command(event, "ada", "c0ffee00", rollout.id) for event in sorted(COMMANDS))):
            check_decision(rollout, observation, command)


def check_decision(rollout: Rollout, observation: Observation, command: Command | None) -> None:
    """What is decided can be written, read again and shown."""
    decision = decide(rollout, observation, command)
    assert parse_record(write_record(decision.rollout)) == decision.rollout
    if decision.split is not None:
        check_split(decision.split, {target.revision for target in decision.split})
    if isinstance(decision.answer, Stay):
        assert_plain(decision.answer.why)
    if command is None and observation.smoke:
        check_views(Pass(observation.service, observation, decision))


def check_views(seen: Pass) -> None:
    """What is shown of a pass is plain, however it is shown."""
    assert_plain(line_of(seen))
    for text in texts_in(json.loads(json.dumps(report_of(seen), allow_nan=False))):
        assert_plain(text)
    console = Console(file=io.StringIO(), width=110)
    console.print(panel_of(seen, seen.assessment, [(NOW, HOSTILE[:500])]))
    shown = console.file
    assert isinstance(shown, io.StringIO)
    assert shown.getvalue().replace("\n", "").isprintable()


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value, the names of its fields too."""
    match value:
        case str():
            yield value
        case dict():
            for name, each in value.items():
                yield name
                yield from texts_in(each)
        case list():
            for each in value:
                yield from texts_in(each)
        case _:
            return


def observations(rollout: Rollout) -> Iterator[Observation]:
    """Yield what may be seen of a service that has this rollout on record."""
    plain_service = a_service(name=rollout.service, latest_created=rollout.newest)
    split = wanted_split(rollout, plain_service)
    service = replace(plain_service, traffic=split, served=split)
    late = NOW + timedelta(days=400)
    stable, candidate = a_revision(rollout.stable), a_revision(rollout.candidate)
    assessment = assess(rollout.policy, evidence(rollout))
    seen = Observation(NOW, service, stable, candidate, assessment)
    failed = replace(candidate, ready=False, failed=True, message=HOSTILE)
    shaken = replace(seen, service=replace(service, failed=True, message=HOSTILE))
    yield seen
    yield replace(seen, now=late)
    yield replace(seen, candidate=failed)
    yield replace(seen, candidate=None, stable=None)
    yield replace(seen, now=late, candidate=replace(failed, failed=False))
    yield replace(seen, service=plain_service)
    yield replace(shaken, smoke=(HOSTILE,))


def evidence(rollout: Rollout) -> Any:
    """Three minutes that speak against the candidate, in the windows of the record that are of this day."""
    windows = [window for window in rollout.windows if window.start > NOW - timedelta(days=1)]
    ends = [NOW - timedelta(minutes=minute) for minute in range(3)]
    good = [Minute(end, a_sample(100)) for end in ends]
    bad = [Minute(end, a_sample(100, failed=60, latency=500)) for end in ends]
    return arrange_evidence(windows, good, bad, NOW)


def records() -> list[Rollout]:
    """Return a rollout of each phase, with all fields filled."""
    policy = a_policy(steps=["5%", "30%"], bake="20m", guards={"errors": "3%"}, smoke=["/healthz"])
    before, since = Window(5, NOW - timedelta(minutes=20), NOW - timedelta(minutes=10)), Window(30, NOW)
    steps = {Phase.WAITING: -1, Phase.CHECKING: -1, Phase.BAKING: 2, Phase.PROMOTED: 2}
    return [
        a_rollout(
            phase,
            step=steps.get(phase, 1),
            policy=policy,
            observed_at=None if phase is Phase.CHECKING else NOW - timedelta(minutes=5),
            windows=(before, since) if phase in {Phase.STEPPING, Phase.BAKING} else (before,),
            obeyed=("1f2e3d4c", "3d4c5b6a"),
        )
        for phase in Phase
    ]


# --- policies ---


def check_policy_file(content: bytes) -> None:
    """A file is refused with plain lines that name it, or gives a policy that can be explained and kept."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.yaml"
        file.write_bytes(content)
        try:
            check_policy(read_policy(file))
        except PolicyFileInvalid as invalid:
            refused = invalid.lines
        else:
            return
    assert_refused(*refused)
    assert all(line.startswith(f"{file}") for line in refused)


def check_policy(policy: Policy) -> None:
    """A policy is kept in a record as it is, and explained in plain lines."""
    rollout = a_rollout(policy=policy)
    assert parse_record(write_record(rollout)) == rollout
    assert json.loads(json.dumps(policy_as_plain(policy), allow_nan=False)) == policy_as_plain(policy)
    for line in explanation_lines(explain_policy(policy)):
        assert line.replace("\n", "").isprintable(), line


# --- what the local Cloud Run reads ---


def check_log_filter(text: str) -> None:
    """A filter of logs is refused with a message, or read."""
    try:
        predicate = parse_log_filter(text)
    except ApiError as refused:
        said(refused.message)
        return
    first, last = times_in(predicate)
    assert first.tzinfo
    assert last.tzinfo


def check_fault(text: str) -> None:
    """The description of a fault is refused with what is wrong, or read."""
    try:
        description = json.loads(text)
    except (ValueError, RecursionError):
        return
    try:
        fault = parse_fault(description, ["/google.cloud.run.v2.Services/GetService"])
    except FaultInvalid as invalid:
        said(str(invalid))
        return
    assert fault.kind in KINDS


def _of_text(check: Callable[[str], None]) -> Callable[[bytes], None]:
    return lambda content: check(content.decode(errors="replace"))


TARGETS = {
    "record": Target(_of_text(check_record), tuple(write_record(rollout).encode() for rollout in records())),
    "policy": Target(
        check_policy_file, tuple(file.read_bytes() for file in sorted((ROOT / "policies").glob("*.yaml")))
    ),
    "log-filter": Target(
        _of_text(check_log_filter),
        (
            b'resource.type="cloud_run_revision" AND severity>=ERROR',
            b'timestamp>="2026-03-02T09:00:00Z" OR NOT (httpRequest.status=500 AND "x")',
            b'jsonPayload.a.b=~"^x.*" -labels."k/l":*',
        ),
    ),
    "fault": Target(
        _of_text(check_fault),
        tuple(json.dumps({"kind": kind, "method": "GetService", "by": "10s"}).encode() for kind in KINDS),
    ),
}
