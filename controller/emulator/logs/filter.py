"""The query language of Cloud Logging, as far as ListLogEntries needs it."""

import re
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from controller.emulator.filter_syntax import Cursor, Expression, Predicate, Token, path_of, syntax_error
from controller.emulator.logs.store import Entry, HttpRequest, Severity

Field = Callable[[Entry], Any]
Parse = Callable[[str], Any]

MISSING = object()
"""The value of a label or payload field that an entry does not have."""

NO_REQUEST = HttpRequest("", "", 0, timedelta())
_DURATION = re.compile(r"(-?[\d.]+)(ms|s|m|h)?")
_UNIT_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


def parse_log_filter(text: str) -> Predicate[Entry]:
    """Return the filter as a function of an entry; refuse it, with the position, if it cannot be read."""
    return Expression(_comparison).parse(text)


def _comparison(cursor: Cursor) -> Predicate[Entry]:
    token = cursor.current
    if token.kind == "string":
        return _anywhere(cursor.value())
    if token.kind not in {"word", "time"}:
        raise cursor.error("expected a field")
    cursor.take()
    if cursor.current.text == "(":
        return _function(cursor, token)
    if cursor.current.kind != "operator" or cursor.current.text in {"(", ")", ",", "*"}:
        return _anywhere(token.text)
    field, parse = _field(token)
    operator = cursor.take().text
    if operator == ":" and cursor.skip("*"):
        return lambda entry: field(entry) not in (MISSING, None, "", 0)
    if cursor.skip("("):
        return _alternatives(cursor, field, parse, operator)
    return _test(cursor, field, parse, operator)


def _alternatives(cursor: Cursor, field: Field, parse: Parse, operator: str) -> Predicate[Entry]:
    """Read `field=("a" OR "b")`; AND joins as well, and OR binds tighter."""
    groups = [[_test(cursor, field, parse, operator)]]
    while not cursor.skip(")"):
        if cursor.skip("OR"):
            groups[-1].append(_test(cursor, field, parse, operator))
        else:
            cursor.skip("AND")
            groups.append([_test(cursor, field, parse, operator)])
    return lambda entry: all(any(test(entry) for test in group) for group in groups)


def _test(cursor: Cursor, field: Field, parse: Parse, operator: str) -> Predicate[Entry]:
    place = cursor.current.position
    text = cursor.value()
    if operator in {"=~", "!~"}:
        return _regex_test(field, text, operator, place)
    if operator == ":":
        return lambda entry: text.casefold() in str(field(entry)).casefold() and field(entry) is not MISSING
    try:
        wanted = parse(text)
    except (ValueError, KeyError):
        raise syntax_error(f"'{text}' is not a value of this field", place) from None
    return partial(_compare, field, parse, operator, wanted)


def _compare(field: Field, parse: Parse, operator: str, wanted: Any, entry: Entry) -> bool:
    found = field(entry)
    if found is MISSING:
        return False  # even for !=: what is not there differs from nothing
    if isinstance(found, str) and not isinstance(wanted, str):
        wanted = str(wanted)
    if isinstance(found, str):
        found = found.casefold()
    elif isinstance(wanted, str):
        found = parse(str(found))
    match operator:
        case "=":
            return bool(found == wanted)
        case "!=":
            return bool(found != wanted)
        case "<":
            return bool(found < wanted)
        case "<=":
            return bool(found <= wanted)
        case ">":
            return bool(found > wanted)
        case _:
            return bool(found >= wanted)


def _regex_test(field: Field, pattern: str, operator: str, place: int) -> Predicate[Entry]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise syntax_error(f"invalid regular expression ({error})", place) from None
    if operator == "=~":
        return lambda entry: field(entry) is not MISSING and compiled.search(str(field(entry))) is not None
    return lambda entry: field(entry) is not MISSING and compiled.search(str(field(entry))) is None


def _function(cursor: Cursor, name: Token) -> Predicate[Entry]:
    cursor.expect("(")
    first = cursor.value()
    if name.text == "log_id":
        cursor.expect(")")
        return lambda entry: entry.log_id == first
    if name.text == "sample":
        cursor.expect(",")
        share = float(cursor.value())
        cursor.expect(")")
        field, _ = _field(Token("word", first, name.position))
        return lambda entry: zlib.crc32(str(field(entry)).encode()) < share * 2**32
    raise syntax_error(f"unknown function '{name.text}'", name.position)


def _anywhere(text: str) -> Predicate[Entry]:
    wanted = text.casefold()

    def found(entry: Entry) -> bool:
        url = entry.http_request.url if entry.http_request else ""
        return any(wanted in str(part).casefold() for part in (entry.text, url, entry.json or ""))

    return found


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _duration(text: str) -> timedelta:
    if not (match := _DURATION.fullmatch(text)):
        raise ValueError(text)
    return timedelta(seconds=float(match[1]) * _UNIT_SECONDS[match[2]])


def _severity(text: str) -> Severity:
    return Severity(int(text)) if text.isdecimal() else Severity[text.upper()]


def _log_name(entry: Entry) -> str:
    return f"projects/{entry.resource_labels.get('project_id', '')}/logs/{entry.log_id.replace('/', '%2F')}"


def _of_request(name: str) -> Field:
    return lambda entry: getattr(entry.http_request or NO_REQUEST, name)


FIELDS: Mapping[str, tuple[Field, Parse]] = {
    "timestamp": (lambda entry: entry.timestamp, _instant),
    "receiveTimestamp": (lambda entry: entry.receive_timestamp, _instant),
    "severity": (lambda entry: entry.severity, _severity),
    "insertId": (lambda entry: entry.insert_id, str.casefold),
    "logName": (_log_name, str.casefold),
    "textPayload": (lambda entry: entry.text, str.casefold),
    "trace": (lambda entry: entry.trace, str.casefold),
    "spanId": (lambda entry: entry.span_id, str.casefold),
    "resource.type": (lambda entry: entry.resource_type, str.casefold),
    "httpRequest.status": (_of_request("status"), int),
    "httpRequest.latency": (_of_request("latency"), _duration),
    "httpRequest.requestMethod": (_of_request("method"), str.casefold),
    "httpRequest.requestUrl": (_of_request("url"), str.casefold),
    "httpRequest.requestSize": (_of_request("request_size"), int),
    "httpRequest.responseSize": (_of_request("response_size"), int),
    "httpRequest.userAgent": (_of_request("user_agent"), str.casefold),
    "httpRequest.remoteIp": (_of_request("remote_ip"), str.casefold),
    "httpRequest.protocol": (_of_request("protocol"), str.casefold),
}


def _field(token: Token) -> tuple[Field, Parse]:
    path = path_of(token)
    camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), path)
    if path in FIELDS or camel in FIELDS:
        return FIELDS.get(path) or FIELDS[camel]
    owner, _, rest = path.partition(".")
    if owner == "labels" and rest:
        return lambda entry: entry.labels.get(rest, MISSING), str.casefold
    if path.startswith("resource.labels."):
        name = path.removeprefix("resource.labels.")
        return lambda entry: entry.resource_labels.get(name, MISSING), str.casefold
    if owner in {"jsonPayload", "json_payload"}:
        return partial(_json_value, rest.split(".") if rest else []), _number_or_text
    raise syntax_error(f"unknown field '{token.text}'", token.position)


def _json_value(path: list[str], entry: Entry) -> Any:
    value: Any = entry.json if entry.json is not None else MISSING
    for part in path:
        value = value.get(part, MISSING) if isinstance(value, Mapping) else MISSING
    return value


def _number_or_text(text: str) -> float | str | bool:
    if text in {"true", "false"}:
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text.casefold()
