"""The control plane can be kept and taken up again, as if nothing had happened in between."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import cycle

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.iam.v1 import iam_policy_pb2, policy_pb2

from contracts.cloud import SECONDS, percents, to
from contracts.conftest import SIMULATED, Google
from controller.emulator.run.saved import Row
from controller.emulator.server import LocalCloudRun

State = run_v2.Condition.State


def kept(google: Google) -> list[Row]:
    """Return what is kept, but for the addresses at which revisions show their logs."""
    rows = google.local._do(lambda: list(google.local._emulator.control_plane.export()))
    return [_without_log_uri(row) if row.kind == "revision" else row for row in rows]


def _without_log_uri(row: Row) -> Row:
    revision = run_v2.Revision.deserialize(row.message)
    revision.log_uri = ""
    return replace(row, message=run_v2.Revision.pb(revision).SerializeToString(deterministic=True))


@contextmanager
def taken_up(google: Google, rows: Iterable[Row]) -> Iterator[Google]:
    """Give another local Cloud Run that goes on from the rows, at the same emulated time."""
    settings = replace(SIMULATED, start=google.local.now())
    with LocalCloudRun.started(settings) as local:
        local._do(lambda: local._emulator.control_plane.restore(rows))
        with grpc.insecure_channel(local.grpc_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            yield Google(local, channel)


def test_everything_is_as_it_was(google: Google) -> None:
    google.two_revisions(CRASH="1")
    google.update(traffic=[to("web-one", 50), to("web-two", 50)])
    google.settle()
    google.services.set_iam_policy(
        request=iam_policy_pb2.SetIamPolicyRequest(
            resource=google.full(),
            policy=policy_pb2.Policy(bindings=[policy_pb2.Binding(role="roles/run.viewer")]),
        ),
        timeout=SECONDS,
    )
    rows = kept(google)
    with taken_up(google, rows) as other:
        assert kept(other) == rows
        assert other.get() == google.get()
        assert other.local.admin_address in other.revision("web-two").log_uri
        other.settle()
        assert kept(other) == rows


def test_rows_are_messages_and_a_little_json(google: Google) -> None:
    google.create(revision="web-one")
    google.settle()
    rows = kept(google)
    assert [row.kind for row in rows] == ["service", "policy", "revision", "operation"]
    assert run_v2.Service.deserialize(rows[0].message) == google.get()
    assert json.loads(rows[0].rest)["percents"] == {"web-one": 100}
    assert json.loads(rows[2].rest)["ready"] is True


def test_equal_states_give_equal_rows(google: Google) -> None:
    google.two_revisions()
    assert kept(google) == kept(google)


def test_requests_follow_the_split_that_was_in_force(google: Google) -> None:
    google.two_revisions()
    google.update(traffic=[to("web-one", 80), to("web-two", 20)])
    google.settle()
    with taken_up(google, kept(google)) as other:
        start = other.local.now()
        other.local.users("web", rps=20)
        other.local.advance(timedelta(minutes=10))
        counts = {
            series.resource.labels["revision_name"]: sum(point.value.int64_value for point in series.points)
            for series in other.series("request_count", start, other.local.now())
        }
    assert counts["web-one"] + counts["web-two"] > 5000
    assert counts["web-two"] / sum(counts.values()) == pytest.approx(0.2, abs=0.03)


def test_what_was_under_way_ends_when_it_is_due(google: Google) -> None:
    google.two_revisions()
    traffic = google.update(traffic=[to("web-one", 0), to("web-two", 100)])
    google.create("gone")
    google.local.advance(google.local.settings.reconcile_delay / 2)
    rows = kept(google)
    with taken_up(google, rows) as other:
        assert not other.operation(traffic.name).done
        assert percents(other.get()) == {"web-one": 100}
        other.settle()
        assert other.operation(traffic.name).done
        assert percents(other.get()) == {"web-two": 100}
        assert other.get("gone").terminal_condition.state == State.CONDITION_SUCCEEDED


def test_a_revision_that_was_starting_starts_again(google: Google) -> None:
    google.create(revision="web-one")
    google.settle()
    operation = google.update(template=google.template(revision="web-two", CRASH="1", START_SECONDS="5"))
    with taken_up(google, kept(google)) as other:
        other.settle()
        assert "Revision 'web-two' is not ready" in other.operation(operation.name).error.message
        assert other.get().latest_ready_revision == other.full(revision="web-one")


def test_a_deletion_goes_on(google: Google) -> None:
    google.create()
    google.settle()
    operation = google.delete()
    with taken_up(google, kept(google)) as other:
        assert "delete_time" in other.get()
        other.settle()
        assert other.operation(operation.name).done
        with pytest.raises(exceptions.NotFound):
            other.get()


def test_new_names_do_not_meet_old_ones(google: Google) -> None:
    """The same seed makes the same names; those that are taken are passed over."""
    names = {google.create().name}
    google.settle()
    with taken_up(google, kept(google)) as other:
        for text in ("a", "b"):
            names.add(other.update(template=other.template(TEXT=text)).name)
            other.settle()
        assert len(set(other.revision_names())) == 3
    assert len(names) == 3


def test_addresses_are_those_of_the_local_cloud_run_that_goes_on(google: Google) -> None:
    google.two_revisions()
    google.update(traffic=[to("web-one", 100, tag="green")])
    google.settle()
    elsewhere = [replace(row, message=row.message.replace(b":8080", b":9090")) for row in kept(google)]
    with taken_up(google, elsewhere) as other:
        assert other.get() == google.get()
        assert other.get().uri == "http://web.localhost:8080"


def test_rows_of_an_unknown_kind_are_refused(google: Google) -> None:
    rows = [Row("galaxy", "milky-way", b"", "{}")]
    with pytest.raises(ValueError, match="kind 'galaxy' is not of this version: milky-way"):
        google.local._do(lambda: google.local._emulator.control_plane.restore(rows))


def test_any_history_comes_back_as_it_was(google: Google) -> None:
    """Sixty writes at uneven times, of which some are still under way."""
    google.two_revisions()
    changes, pauses, crashes = (
        cycle(["traffic", "labels", "template"]),
        cycle([0, 4, 1, 2, 3]),
        cycle(["", "1"]),
    )
    for number in range(60):
        share, change = number * 37 % 101, next(changes)
        if change == "traffic":
            google.update(traffic=[to("web-one", share), to("web-two", 100 - share, tag=f"t{number % 3}")])
        elif change == "labels":
            google.update(labels={"number": str(number)})
        else:
            google.update(template=google.template(NUMBER=str(number), CRASH=next(crashes)))
        google.local.advance(timedelta(seconds=next(pauses)))
    rows = kept(google)
    with taken_up(google, rows) as other:
        assert kept(other) == rows
        google.settle()
        other.settle()
        assert percents(other.get()) == percents(google.get())
        assert other.get().terminal_condition.state == google.get().terminal_condition.state
        assert other.get().latest_ready_revision == google.get().latest_ready_revision
