"""Long-running operations: found, listed, waited for, deleted, never cancelled."""

import re
import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from contracts.cloud import SECONDS, Cloud, shown
from contracts.conftest import Google

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def listed(google: Google, name: str = "", **request: Any) -> operations_pb2.ListOperationsResponse:
    found: operations_pb2.ListOperationsResponse = google.operations.ListOperations(
        operations_pb2.ListOperationsRequest(name=name or google.parent, **request), timeout=SECONDS
    )
    return found


def forget(cloud: Cloud, name: str) -> empty_pb2.Empty:
    request = operations_pb2.DeleteOperationRequest(name=name)
    answer: empty_pb2.Empty = cloud.operations.DeleteOperation(request, timeout=SECONDS)
    return answer


def code_of(refusal: pytest.ExceptionInfo[Any]) -> grpc.StatusCode:
    code: grpc.StatusCode = refusal.value.code()
    return code


def test_an_operation_is_named_by_its_place_and_a_uuid(cloud: Cloud) -> None:
    """Fact 4: "name `projects/P/locations/L/operations/<uuid4>`"."""
    place, _, identity = cloud.create().name.partition("/operations/")
    assert place == cloud.parent
    assert UUID4.fullmatch(identity)


def test_an_operation_can_be_read_until_it_is_done_and_after(cloud: Cloud) -> None:
    """Fact 1.1 [P]: "get_operation, delete_operation, wait_operation"."""
    name = cloud.create().name
    assert cloud.operation(name).name == name
    cloud.settle()
    assert cloud.wait(name).done
    assert cloud.operation(name).done


def test_waiting_may_end_before_the_operation(google: Google) -> None:
    """Fact 4: "WaitOperation is best-effort and may return early, undone"."""
    name = google.create().name
    assert not google.wait(name, seconds=0.05).done


@pytest.mark.parametrize("seconds", [2**62, -(2**62), -1])
def test_a_timeout_that_is_none_is_refused(google: Google, seconds: int) -> None:
    """A google.protobuf.Duration has at most 315,576,000,000 seconds."""
    request = operations_pb2.WaitOperationRequest(name=google.create().name)
    request.timeout.seconds = seconds
    with pytest.raises(grpc.RpcError, match="Invalid timeout") as refusal:
        google.operations.WaitOperation(request, timeout=SECONDS)
    assert code_of(refusal) is grpc.StatusCode.INVALID_ARGUMENT


def test_waiting_ends_with_the_operation(google: Google) -> None:
    """Fact 1.2 [M]: WaitOperation "0.30 s for a 0.3 s op": it answers when the operation is done."""
    name = google.create().name
    answers: list[operations_pb2.Operation] = []
    waiting = threading.Thread(target=lambda: answers.append(google.wait(name)))
    waiting.start()
    google.settle()
    waiting.join(SECONDS)
    assert [answer.done for answer in answers] == [True]


def test_operations_are_never_cancelled(cloud: Cloud) -> None:
    """Fact 1.1 [P]: "**no CancelOperation** on run.googleapis.com"; section 7: "⇒ UNIMPLEMENTED"."""
    name = cloud.create().name
    request = operations_pb2.CancelOperationRequest(name=name)
    with pytest.raises(grpc.RpcError) as refusal:
        cloud.operations.CancelOperation(request, timeout=SECONDS)
    assert code_of(refusal) is grpc.StatusCode.UNIMPLEMENTED
    assert cloud.outcome(cloud.operation(name)).done


def test_a_deleted_operation_is_forgotten_and_its_write_goes_on(google: Google) -> None:
    """Fact 4: "Get/List/Delete/Wait"; deleting is no cancelling."""
    name = google.create().name
    forget(google, name)
    with pytest.raises(grpc.RpcError) as refusal:
        google.operation(name)
    assert code_of(refusal) is grpc.StatusCode.NOT_FOUND
    google.settle()
    assert google.get().observed_generation == 1
    assert google.get().uri
    assert not listed(google).operations


def test_an_unknown_operation_is_not_found(cloud: Cloud) -> None:
    """Fact 1.1 [P]: operations are read by name."""
    with pytest.raises(grpc.RpcError) as refusal:
        cloud.operation(f"{cloud.parent}/operations/11111111-2222-4333-8444-555555555555")
    assert code_of(refusal) is grpc.StatusCode.NOT_FOUND


def test_operations_are_listed_by_place_and_over_pages(google: Google) -> None:
    """Fact 1.1 [P]: "list_operations"."""
    names = [google.create(f"web-{number}").name for number in range(5)]
    first = listed(google, page_size=3)
    second = listed(google, page_size=3, page_token=first.next_page_token)
    found = [operation.name for operation in (*first.operations, *second.operations)]
    assert sorted(found) == sorted(names)
    assert not second.next_page_token
    assert len(listed(google, "projects/demo/locations/-").operations) == 5
    assert not listed(google, "projects/demo/locations/elsewhere").operations


def test_an_unfinished_operation_shows_the_service_as_it_was_answered(cloud: Cloud) -> None:
    """Fact 4: "metadata & response = Service (§2.1)"."""
    operation = cloud.create()
    assert shown(operation).name == cloud.full()
    assert not operation.HasField("error")


def test_finished_operations_are_kept_in_a_bounded_number(google: Google) -> None:
    """Memory stays flat over thousands of writes: the last 1,000 operations that ended are kept."""
    first = google.create().name
    google.settle()
    for number in range(1100):
        google.update(labels={"number": str(number)})
        google.local.advance(timedelta(seconds=1))  # within the quota of writes
    google.settle()
    page, names = listed(google), set[str]()
    while True:
        names |= {operation.name for operation in page.operations}
        if not page.next_page_token:
            break
        page = listed(google, page_token=page.next_page_token)
    assert len(names) == 1000
    assert first not in names
