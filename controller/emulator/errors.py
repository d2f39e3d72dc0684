"""Refusals of the API, with Google's codes and the details that clients read."""

from dataclasses import dataclass, field

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

LONGEST_MESSAGE = 1500
"""A status travels in trailing metadata of at most 16 KiB, and carries the message three times."""


@dataclass
class ApiError(Exception):
    """An error that a method answers with; it becomes a gRPC status."""

    code: grpc.StatusCode
    message: str
    violations: dict[str, str] = field(default_factory=dict)
    """Field path -> what is wrong with it; sent as BadRequest."""
    details: tuple[Message, ...] = ()
    """What else Google tells with it, such as ErrorInfo."""

    def __post_init__(self) -> None:
        """Shorten what quotes a very long word of the request."""
        self.message = _shortened(self.message)
        self.violations = {_shortened(path): _shortened(text) for path, text in self.violations.items()}

    def status(self) -> status_pb2.Status:
        """Return the status that goes into the trailing metadata."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        if self.violations:
            detail = error_details_pb2.BadRequest()
            for path, description in self.violations.items():
                detail.field_violations.add(field=path, description=description)
            status.details.add().Pack(detail)
        for more in self.details:
            status.details.add().Pack(more)
        return status


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_MESSAGE:
        return text
    half = LONGEST_MESSAGE // 2
    return f"{text[:half]} ... {text[-half:]}"


def invalid(message: str, path: str = "") -> ApiError:
    """Return INVALID_ARGUMENT, naming the field if there is one."""
    return ApiError(grpc.StatusCode.INVALID_ARGUMENT, message, {path: message} if path else {})


def violation(path: str, description: str) -> ApiError:
    """Return INVALID_ARGUMENT in the form in which Cloud Run names the field of a request that is wrong."""
    place = f"Violation in {path}"
    return ApiError(grpc.StatusCode.INVALID_ARGUMENT, f"{place}: {description}", {place: description})


def not_found(resource: str) -> ApiError:
    """Return NOT_FOUND for a resource name such as `projects/P/locations/L/services/S`."""
    _, project, _, region, *path = resource.split("/")
    kind, short = path[-2].removesuffix("s").upper(), path[-1]
    place = f"in region '{region}' in project '{project}'"
    return ApiError(grpc.StatusCode.NOT_FOUND, f"Resource '{short}' of kind '{kind}' {place} does not exist.")


def already_exists(message: str) -> ApiError:
    """Return ALREADY_EXISTS."""
    return ApiError(grpc.StatusCode.ALREADY_EXISTS, message)


def failed_precondition(message: str) -> ApiError:
    """Return FAILED_PRECONDITION."""
    return ApiError(grpc.StatusCode.FAILED_PRECONDITION, message)


def aborted(message: str) -> ApiError:
    """Return ABORTED: somebody else wrote in between."""
    return ApiError(grpc.StatusCode.ABORTED, message)


def unimplemented(message: str) -> ApiError:
    """Return UNIMPLEMENTED."""
    return ApiError(grpc.StatusCode.UNIMPLEMENTED, message)
