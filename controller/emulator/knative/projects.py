"""What gcloud asks of the project before it deploys: that it exists, and that Cloud Run is enabled."""

from aiohttp import web

from controller.emulator.names import by_id, project_number
from controller.emulator.settings import Settings


class ProjectsApi:
    """Answers for the one project that there is, whatever it is called."""

    def __init__(self, settings: Settings) -> None:
        self._project = settings.project

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of Resource Manager v1 and Service Usage v1."""
        return [
            web.get("/v1/projects/{project}", self._show),
            web.get("/v1/projects/{project}/services/{api}", self._show_api),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        _, project = by_id(f"projects/{request.match_info['project']}", self._project).split("/")
        return web.json_response(
            {
                "projectId": project,
                "projectNumber": project_number(project),
                "name": project,
                "lifecycleState": "ACTIVE",
            }
        )

    async def _show_api(self, request: web.Request) -> web.Response:
        project, api = request.match_info["project"], request.match_info["api"]
        return web.json_response({"name": f"projects/{project}/services/{api}", "state": "ENABLED"})
