"""Google's REST over gRPC methods: which path means which method, and JSON for messages."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from google.protobuf import json_format, message

from controller.emulator.calls import Dispatcher, principal_of
from controller.emulator.errors import ApiError, invalid, unimplemented
from controller.emulator.knative.shapes import Json
from controller.emulator.knative.web import body_of

OF_ALL_METHODS = frozenset(("alt", "prettyPrint", "key", "fields", "quotaUser", "uploadType", "access_token"))
"""Query parameters that belong to every method, and mean nothing here."""


@dataclass(frozen=True)
class Rule:
    """One REST method, in the terms of google.api.http."""

    verb: str
    template: str
    """Such as `/v2/{name=projects/*/locations/*}:wait`; the variable is a field of the request."""
    method: str
    """The gRPC method, such as `/google.cloud.run.v2.Services/GetService`."""
    request: type[Any]
    """Class of the request, of protobuf or proto-plus."""
    body: str = ""
    """The field that the body is; "*" = the body is the request itself; "" = there is none."""

    @property
    def route(self) -> str:
        """Return the template as aiohttp's router writes it."""
        before, _, rest = self.template.partition("{")
        variable, _, after = rest.partition("}")
        name, _, pattern = variable.partition("=")
        expression = pattern.replace("*", "[^/:]+")
        return f"{before}{{{name.replace('.', '__')}:{expression}}}{after}" if rest else before


Answer = Callable[[web.Request], Awaitable[web.Response]]


def route_of(rule: Rule, calls: Dispatcher) -> web.RouteDef:
    """Return the route that answers a REST method by a call of its gRPC method."""

    async def answer(request: web.Request) -> web.Response:
        found = await called(calls, rule.method, await _request_of(rule, request), request)
        return web.json_response(json_format.MessageToDict(_plain(found)))

    return web.route(rule.verb, rule.route, answer)


async def called(calls: Dispatcher, method: str, request: Any, http: web.Request) -> Any:
    """Call a method for whoever sent the HTTP request; raises ApiError."""
    _, service, name = method.split("/")
    if name not in calls.methods.get(service, {}):
        raise unimplemented(f"The local Cloud Run has no method {service}.{name}.")
    return await calls.call(method, request, principal_of(http.headers))


async def _request_of(rule: Rule, request: web.Request) -> Any:
    plain = _plain(rule.request())
    fields = _of_query(request, plain.DESCRIPTOR)
    if rule.body == "*":
        fields.update(await body_of(request))
    elif rule.body:
        fields[rule.body] = await body_of(request)
    for name, value in request.match_info.items():
        _put(fields, name.split("__"), value)
    try:
        json_format.ParseDict(fields, plain)
    except json_format.ParseError as error:
        raise invalid(f"The request cannot be read: {error}") from None
    return rule.request.wrap(plain) if hasattr(rule.request, "wrap") else plain


def _of_query(request: web.Request, of: Any) -> Json:
    """Return the query parameters as fields; those with dots lie deeper, some come more than once."""
    fields: Json = {}
    for name in dict.fromkeys(request.query):
        if name in OF_ALL_METHODS or name.startswith("$"):
            continue
        values = request.query.getall(name)
        field = _field(of, name.split("."))
        if field is not None and field.type == field.TYPE_BOOL:
            _put(fields, name.split("."), values[-1].lower() == "true")
        elif field is not None and field.is_repeated:
            _put(fields, name.split("."), values)
        else:
            _put(fields, name.split("."), values[-1])
    return fields


def _field(of: Any, path: list[str]) -> Any:
    """Return the descriptor of the field that a path of JSON names leads to, or None."""
    field = None
    for name in path:
        by_name = {known.json_name: known for known in of.fields} if of else {}
        field = by_name.get(name)
        of = field.message_type if field else None
    return field


def _put(fields: Json, path: list[str], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        fields = fields.setdefault(parent, {})
        if not isinstance(fields, dict):
            raise _not_an_object(parent)
    fields[last] = value


def _not_an_object(name: str) -> ApiError:
    return invalid(f"'{name}' must be an object.", name)


def _plain(value: Any) -> message.Message:
    """Return protobuf's message of a proto-plus one; others stay what they are."""
    plain: message.Message = type(value).pb(value) if hasattr(type(value), "pb") else value
    return plain
