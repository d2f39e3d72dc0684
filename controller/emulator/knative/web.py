"""HTTP in and out: bodies read, answers and errors in Google's form, and which region is meant."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from aiohttp import web
from google.protobuf import json_format

from controller.emulator.errors import ApiError, invalid
from controller.emulator.knative.shapes import Json, obj

log = logging.getLogger(__name__)

LARGEST_BODY = 10 * 1024 * 1024
HTTP_OF = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
REGION_ENDS = ("-run.localhost", "-run.googleapis.com", "-127.0.0.1", "-localhost")
"""How the host of a regional endpoint goes on after the region, whatever gcloud was told to put there."""
NO_TUNNEL = "The local Cloud Run passes nothing on to {target}"
"""Clients show the reason phrase alone when a tunnel is refused."""
SERVED = (
    "Nothing is at {method} {path}. Here are Cloud Run v1 "
    "(/apis/serving.knative.dev/v1/namespaces/PROJECT/services and /revisions, "
    "/apis/run.googleapis.com/v1/namespaces/PROJECT/jobs and /executions), Cloud Run v2 "
    "(/v2/projects/PROJECT/locations/REGION/services, /jobs and /operations), Cloud Logging "
    "(/v2/entries:list, /v2/entries:write), and the emulator's own status at /."
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def body_of(request: web.Request) -> Json:
    """Return the JSON object that was sent; no body is an empty one."""
    text = await request.read()
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is text that no message holds
        return obj(value, "The body")
    except (ValueError, RecursionError) as error:
        raise invalid(f"The body is not JSON: {error}.") from None


def region_of(request: web.Request) -> str:
    """Return the region that the host names; "" = the host is that of all regions."""
    host = request.host.partition(":")[0]
    return next((host.removesuffix(end) for end in REGION_ENDS if host.endswith(end)), "")


def error_response(code: int, status: str, message: str, details: list[Any] | None = None) -> web.Response:
    """Return an error as Google's APIs write it."""
    error = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = details
    return web.json_response({"error": error}, status=code)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every refusal into JSON that says why."""
    if request.method == "CONNECT":
        return web.Response(status=502, reason=NO_TUNNEL.format(target=request.host))
    if request.match_info.http_exception is not None:
        message = SERVED.format(method=request.method, path=request.path)
        return error_response(404, "NOT_FOUND", message)
    try:
        return await handler(request)
    except ApiError as error:
        details = [json_format.MessageToDict(detail) for detail in error.status().details]
        return error_response(HTTP_OF.get(error.code, 500), error.code.name, error.message, details)
    except web.HTTPRequestEntityTooLarge:
        return error_response(413, "INVALID_ARGUMENT", f"The body has more than {LARGEST_BODY} bytes.")
    except web.HTTPException:
        raise
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        return error_response(500, "INTERNAL", f"The emulator failed: {error!r}")
