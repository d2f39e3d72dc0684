"""HTTP by which commands say what runs in place of an image."""

from typing import Any

from aiohttp import web

from controller.emulator.errors import invalid
from controller.emulator.images import Image, Images
from controller.emulator.knative.shapes import check_names, texts
from controller.emulator.knative.web import body_of

FIELDS = ("name", "command", "working_dir", "env")


class ImageRoutes:
    """GET, POST and DELETE /images."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def all(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/images", self._list),
            web.post("/images", self._put),
            web.delete("/images", self._remove),
        ]

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"images": [_shown(image) for image in self._images.all()]})

    async def _put(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        check_names(body, FIELDS, "the image")
        name, command = body.get("name"), body.get("command")
        if not isinstance(name, str) or not name:
            raise invalid("name must be the name of an image.", "name")
        if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
            raise invalid("command must be a list of words, the program first.", "command")
        image = Image(name, tuple(command), str(body.get("working_dir") or ""), texts(body.get("env"), "env"))
        self._images.put(image)
        return web.json_response(_shown(image))

    async def _remove(self, request: web.Request) -> web.Response:
        """Forget the image of the query's `name`."""
        return web.json_response({"removed": self._images.remove(request.query.get("name", ""))})


def _shown(image: Image) -> dict[str, Any]:
    return {
        "name": image.name,
        "command": list(image.command),
        "working_dir": image.working_dir,
        "env": dict(image.env),
    }
