"""What the requests of v1 have in common: a project and a region, pages, dry runs, lists."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from controller.emulator.calls import Dispatcher
from controller.emulator.knative.shapes import Json, whole
from controller.emulator.knative.transcoding import called
from controller.emulator.knative.web import region_of
from controller.emulator.names import by_id
from controller.emulator.settings import Settings

LARGEST_PAGE = 100


def parent_of(request: web.Request, settings: Settings, region: str = "") -> str:
    """Return `projects/P/locations/L`; without a region, that of the host, else the emulator's own."""
    project = by_id(f"projects/{request.match_info['project']}", settings.project)
    return f"{project}/locations/{region or region_of(request) or settings.region}"


def is_dry_run(request: web.Request) -> bool:
    """Return whether nothing is to be stored."""
    return request.query.get("dryRun") == "all"


def page_asked_for(request: web.Request) -> Json:
    """Return the fields of a list request that say which page is wanted."""
    limit = whole(request.query.get("limit", LARGEST_PAGE), "limit")
    return {"page_size": min(limit, LARGEST_PAGE), "page_token": request.query.get("continue", "")}


async def pages(
    calls: Dispatcher, method: str, asked: Any, request: web.Request, field: str
) -> tuple[Sequence[Any], str]:
    """Return what was asked for and the token of the next page: one page, or, without a limit, all."""
    found: list[Any] = []
    while True:
        answer = await called(calls, method, asked, request)
        found.extend(getattr(answer, field))
        asked.page_token = answer.next_page_token
        if "limit" in request.query or not answer.next_page_token:
            return found, answer.next_page_token


def list_response(api_version: str, kind: str, items: list[Json], token: str) -> web.Response:
    """Return a list as Kubernetes writes it."""
    metadata = {"continue": token} if token else {}  # gcloud falls over a list without metadata
    return web.json_response({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items})


def deleted() -> web.Response:
    """Return what Kubernetes answers to a deletion."""
    return web.json_response({"apiVersion": "v1", "kind": "Status", "status": "Success"})
