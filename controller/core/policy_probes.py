"""The probes of a policy: requests of our own that stable and candidate both must answer well."""

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from controller.core.mistakes import Mistake, PolicyInvalid
from controller.core.policy_fields import PATH_PATTERN, Duration, PositiveDuration, response_codes
from controller.core.policy_parts import Fields, Part, fields_of
from controller.core.units import UnitInvalid, duration_text, parse_switch, shown

SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
METHODS: Final = (*SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE")
MOST_PROBES: Final = 10
MOST_WARM_UP: Final = 50
MOST_HEADERS: Final = 10
LONGEST_TEXT: Final = 500
_SHORTEST_EVERY: Final = timedelta(seconds=10)
_LONGEST_WITHIN: Final = timedelta(seconds=60)
_HEADER_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9-]{0,99}$"
_HEADER_VALUE: Final = r"^[\x20-\x7e]*$"
_OWN_HEADERS: Final = frozenset(
    {"host", "user-agent", "content-length", "transfer-encoding", "connection", "x-serverless-authorization"}
)
_ENVIRONMENT: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,99}")
_SECRET: Final = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})


def _parse_path(value: object) -> str:
    if not (isinstance(value, str) and re.fullmatch(PATH_PATTERN, value)):
        raise UnitInvalid(f"expected a path such as /health, not {shown(value)}")
    return value


def _parse_method(value: object) -> str:
    if value not in METHODS:
        raise UnitInvalid(f"expected one of {', '.join(METHODS)}, not {shown(value)}")
    return str(value)


def _parse_headers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise UnitInvalid(f"expected a mapping such as {{Accept: text/html}}, not {shown(value)}")
    if len(value) > MOST_HEADERS:
        raise UnitInvalid(f"at most {MOST_HEADERS} headers, not {len(value)}")
    mistakes = [
        Mistake((str(name),), complaint)
        for name, text in value.items()
        if (complaint := _header_complaint(name, text))
    ]
    if mistakes:
        raise PolicyInvalid(mistakes)
    return dict(value)


def _header_complaint(name: object, text: object) -> str:
    if not (isinstance(name, str) and re.fullmatch(_HEADER_NAME, name)):
        return f"{shown(name)} is no name of a header"
    if name.lower() in _OWN_HEADERS:
        return "this header is set by the controller; leave it out"
    if not isinstance(text, str) or len(text) > LONGEST_TEXT or not re.fullmatch(_HEADER_VALUE, text):
        return f"expected a text of printable ASCII, at most {LONGEST_TEXT} characters"
    if name.lower() in _SECRET and not _ENVIRONMENT.fullmatch(text):
        return "a policy is kept in the open; write env:NAME to take it from the controller's environment"
    return ""


def _parse_within(duration: timedelta) -> timedelta:
    if duration > _LONGEST_WITHIN:
        raise UnitInvalid(f"{duration_text(duration)} is more than {duration_text(_LONGEST_WITHIN)}")
    return duration


def _parse_every(duration: timedelta) -> timedelta:
    if duration < _SHORTEST_EVERY:
        raise UnitInvalid(
            f"{duration_text(duration)} is less than {duration_text(_SHORTEST_EVERY)}; "
            "a probe must not be a load"
        )
    return duration


def _parse_warm_up(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_WARM_UP:
        raise UnitInvalid(f"expected a whole number from 0 to {MOST_WARM_UP}, not {shown(value)}")
    return value


def _parse_contains(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise UnitInvalid(f"expected a text of one line, at most {LONGEST_TEXT} characters")
    return value


class Expectation(Part):
    """What a good answer to a probe is; written short as a list of codes."""

    codes: Annotated[tuple[str, ...], *response_codes("2345")] = Field(
        default=("2xx", "3xx"), description="Codes of a good answer."
    )
    contains: Annotated[
        str,
        BeforeValidator(_parse_contains),
        WithJsonSchema({"title": "text", "type": "string", "maxLength": LONGEST_TEXT}),
    ] = Field(default="", description="Text that the first 64 KiB of a good answer hold.")
    within: Annotated[PositiveDuration, AfterValidator(_parse_within)] = Field(
        default=timedelta(seconds=30),
        description="Time that a good answer takes at most, the start of an instance included.",
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        if isinstance(value, list | tuple):
            return {"codes": value}
        return fields_of(value, "codes", "a code such as 200, a list of codes or a mapping")


class Probe(Part):
    """A request of our own, to stable and candidate alike; written short as its path."""

    path: Annotated[
        str,
        BeforeValidator(_parse_path),
        WithJsonSchema({"title": "path", "type": "string", "pattern": PATH_PATTERN}),
    ] = Field(description="Path, with its query, on each revision's own address.")
    method: Annotated[
        str,
        BeforeValidator(_parse_method),
        WithJsonSchema({"title": "method", "enum": list(METHODS)}),
    ] = Field(default="GET", description="Method; one that writes needs `writes: true`.")
    headers: Annotated[
        Mapping[str, str],
        BeforeValidator(_parse_headers),
        WithJsonSchema(
            {
                "title": "mapping of names to texts",
                "type": "object",
                "maxProperties": MOST_HEADERS,
                "additionalProperties": {"type": "string", "maxLength": LONGEST_TEXT},
            }
        ),
    ] = Field(
        default={},
        description="Headers; a value `env:NAME` is taken from the controller's environment.",
    )
    expect: Expectation = Field(default=Expectation(), description="What a good answer is.")
    every: Annotated[Duration, AfterValidator(_parse_every)] = Field(
        default=timedelta(minutes=1), description="How often both revisions are asked, as a pair."
    )
    warm_up: Annotated[
        int,
        BeforeValidator(_parse_warm_up),
        WithJsonSchema({"title": "whole number", "type": "integer", "minimum": 0, "maximum": MOST_WARM_UP}),
    ] = Field(
        default=1,
        description="Requests at once that start instances of the candidate before its first step.",
    )
    writes: Annotated[
        bool, BeforeValidator(parse_switch), WithJsonSchema({"title": "true or false", "type": "boolean"})
    ] = Field(default=False, description="Whether a method that may change something is meant.")

    @classmethod
    def _read(cls, value: object) -> Fields:
        return fields_of(value, "path", "a path such as /health or a mapping such as {path: /health}")

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        if self.method not in SAFE_METHODS and not self.writes:
            message = f"{self.method} may change something in production; if it is meant, write writes: true"
            raise PolicyInvalid([Mistake(("method",), message)])
        return self

    @model_validator(mode="after")
    def _check_body(self) -> Self:
        if self.method == "HEAD" and self.expect.contains:
            message = "an answer to HEAD has no text, so this can never pass; ask with GET, or leave it out"
            raise PolicyInvalid([Mistake(("expect", "contains"), message)])
        return self

    @property
    def name(self) -> str:
        """The probe as people call it: `GET /health`."""
        return f"{self.method} {self.path}"


def probes_of(value: object) -> object:
    """Read a list of probes, or a single one; raises UnitInvalid."""
    entries = value if isinstance(value, list | tuple) else [value]
    if len(entries) > MOST_PROBES:
        raise UnitInvalid(f"at most {MOST_PROBES} probes, not {len(entries)}; ask what matters most")
    return entries


def check_each_once(probes: tuple[Probe, ...]) -> tuple[Probe, ...]:
    """Refuse a request that is asked for twice."""
    raise_for_doubles(each.name for each in probes)
    return probes


def raise_for_doubles(names: Iterable[str]) -> None:
    """Raise PolicyInvalid for each name that was there before."""
    seen: set[str] = set()
    doubles = []
    for index, name in enumerate(names):
        if name in seen:
            doubles.append(Mistake((index,), f"{name} is asked already; take one of them away"))
        seen.add(name)
    if doubles:
        raise PolicyInvalid(doubles)
