"""All REST routes of the local Cloud Run."""

from aiohttp import web

from controller.emulator.calls import Dispatcher
from controller.emulator.knative.jobs_v1 import JobsApi
from controller.emulator.knative.methods import RULES
from controller.emulator.knative.projects import ProjectsApi
from controller.emulator.knative.transcoding import route_of
from controller.emulator.knative.v1 import KnativeApi
from controller.emulator.run.executions import JobCatalog
from controller.emulator.run.services import Services
from controller.emulator.settings import Settings


def rest_routes(
    calls: Dispatcher, services: Services, jobs: JobCatalog, settings: Settings
) -> list[web.RouteDef]:
    """Return the routes; each leads to a method of the dispatcher."""
    return [
        *KnativeApi(calls, services, settings).routes(),
        *JobsApi(calls, jobs, settings).routes(),
        *(route_of(rule, calls) for rule in RULES),
        *ProjectsApi(settings).routes(),
    ]
