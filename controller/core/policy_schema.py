"""What editors and people are told about the fields of a policy: the JSON Schema and the reference."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from controller.core.mistakes import part_in
from controller.core.policy import Policy, policy_as_plain
from controller.core.policy_fields import OFF_FORMS, ON_FORMS
from controller.core.policy_guards import (
    CapacityGuard,
    CustomGuard,
    ErrorGuard,
    Guards,
    LatencyGuard,
    StartupGuard,
    Tolerance,
)
from controller.core.policy_health import Health
from controller.core.policy_logs import RequestLogs
from controller.core.policy_notices import WAYS, GitHub, Receiver
from controller.core.policy_parts import Part
from controller.core.policy_probes import Expectation, Probe
from controller.core.policy_steps import AUTO, AutoSteps, Confidence, Hold, Step

# The field that a bare value stands for.
_SHORT_FORMS: Final = {
    Hold: "at_least",
    Step: "traffic",
    Tolerance: "factor",
    ErrorGuard: "ceiling",
    LatencyGuard: "ceilings.p95",
    StartupGuard: "ceilings.p95",
    CapacityGuard: "ceiling",
    Probe: "path",
    Expectation: "codes",
    RequestLogs: "delay",
    Receiver: "to",
    GitHub: "repository",
}
# What `on` stands for, and `off`.
_SWITCHED: Final = (CapacityGuard(), ErrorGuard(), Health(), LatencyGuard(), RequestLogs(), StartupGuard())
_OTHERS: Final = (
    GitHub(repository="owner/name"),
    Confidence(),
    Expectation(),
    Guards(),
    Hold(),
    Probe(path="/"),
)
_PARTS: Final[tuple[Part, ...]] = (*_SWITCHED, *_OTHERS, Step(traffic=100), Tolerance(factor=1))
# A guard must have a metric, but none is its default.
_CUSTOM_DEFAULTS: Final = CustomGuard(distribution='metric.type="any"').model_dump(mode="json") | {
    "distribution": ""
}
# A receiver must have an address, but none is its default.
_RECEIVER_DEFAULTS: Final = Receiver(to="env:NAME").model_dump(mode="json") | {"to": ""}
_DEFAULTS: Final = {type(part): part.model_dump(mode="json") for part in _PARTS} | {
    CustomGuard: _CUSTOM_DEFAULTS,
    AutoSteps: AutoSteps().model_dump(mode="json"),
    Receiver: _RECEIVER_DEFAULTS,
}


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy file, short forms included, with defaults as people write them."""
    schema = Policy.model_json_schema()
    parts = schema["$defs"]
    for part in _PARTS:
        _write_defaults(parts[type(part).__name__], _DEFAULTS[type(part)])
    _write_defaults(schema, policy_as_plain(Policy()))
    _leave_tolerance_to_guards(parts["Tolerance"])
    _describe_kinds(parts["CustomGuard"])
    _describe_ways(parts["Receiver"])
    for fields in (schema["properties"], parts["Guards"]["properties"], parts["Receiver"]["properties"]):
        _describe_off(fields)
    short = {part: _field_at(parts[part.__name__], path) for part, path in _SHORT_FORMS.items()}
    switched = {type(part) for part in _SWITCHED}
    for part in _DEFAULTS.keys() & (short.keys() | switched):
        switches = [ON_FORMS] if part in switched else []
        parts[part.__name__] = _with_short_forms(parts[part.__name__], short.get(part), switches)
    _describe_lists(schema["properties"], parts)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def _write_defaults(part: dict[str, Any], written: Mapping[str, Any]) -> None:
    for name, field in part["properties"].items():
        if "default" in field:
            field["default"] = written[name]


def _leave_tolerance_to_guards(tolerance: dict[str, Any]) -> None:
    """Take away what would be wrong for one guard: each completes a tolerance from its own defaults."""
    del tolerance["required"], tolerance["properties"]["points"]["default"]


def _describe_kinds(custom: dict[str, Any]) -> None:
    """Write the two kinds of a custom guard, and the defaults that they have in common."""
    _write_defaults(custom, _CUSTOM_DEFAULTS)
    del custom["properties"]["tolerance"]["default"]
    custom["anyOf"] = [{"required": ["bad", "total"]}, {"required": ["distribution"]}]


def _describe_ways(receiver: dict[str, Any]) -> None:
    """Write that a receiver is told in one way, and what all have in common."""
    _write_defaults(receiver, _RECEIVER_DEFAULTS)
    receiver["oneOf"] = [{"required": [way]} for way in WAYS]


def _describe_off(fields: dict[str, Any]) -> None:
    """Write how a part that may be missing is turned off."""
    for field in fields.values():
        forms = field.get("anyOf", [])
        if {"type": "null"} in forms:
            field["anyOf"] = [*(form for form in forms if "$ref" in form), OFF_FORMS]


def _describe_lists(fields: dict[str, Any], parts: dict[str, Any]) -> None:
    """Write what may stand instead of a list: steps that are chosen, a single probe, a single receiver."""
    parts["AutoSteps"] = AutoSteps.model_json_schema()
    for name, instead in (
        ("steps", [{"const": AUTO}, {"$ref": "#/$defs/AutoSteps"}]),
        ("probes", [{"$ref": "#/$defs/Probe"}]),
        ("notices", [{"$ref": "#/$defs/Receiver"}]),
    ):
        field = fields[name]
        entries = {"type": field.pop("type"), "items": field.pop("items")}
        field["anyOf"] = [entries, *instead]


def _field_at(part: dict[str, Any], path: str) -> dict[str, Any]:
    field = part
    for name in path.split("."):
        field = field["properties"][name]
    return field


def _with_short_forms(
    part: dict[str, Any], field: dict[str, Any] | None, switches: list[dict[str, Any]]
) -> dict[str, Any]:
    left_out = {"default", "description", "title"}
    short = [{key: value for key, value in field.items() if key not in left_out}] if field else []
    return {"description": part.pop("description"), "anyOf": [*short, part, *switches]}


def policy_reference() -> str:
    """Return the policy reference as Markdown, written from the same source as the JSON Schema."""
    return _REFERENCE.replace("ROWS", "\n".join(_rows(Policy, Policy().model_dump(mode="json"))))


def _rows(part: type[BaseModel], defaults: Mapping[str, Any], at: str = "") -> Iterator[str]:
    titles = part.model_json_schema()["properties"]
    for name, field in part.model_fields.items():
        if field.exclude or (part is Tolerance and name == "points" and _is_of_latency(at)):
            continue
        below, default = part_in(field.annotation), defaults[name]
        named = below in {None, CustomGuard} or isinstance(default, list)
        kind = titles[name]["title"] if named or below is None else _kind_text(below)
        needed = field.is_required() and part is not Tolerance  # which a guard completes
        text = "required" if needed else _default_text(default)
        yield f"| `{at}{name}` | {kind} | {text and text + ' '}| {field.description} |"
        if below and part not in {Step, CustomGuard}:  # the same as in `hold` and the guards above
            yield from _rows_below(below, default, at + name)


def _rows_below(part: type[BaseModel], default: object, at: str) -> Iterator[str]:
    if part is Step:
        yield from _rows(AutoSteps, _DEFAULTS[AutoSteps], f"{at}.")
    if isinstance(default, list):
        at += "[]"
    elif part is CustomGuard:
        at += ".NAME"
    yield from _rows(part, default if isinstance(default, dict) and default else _DEFAULTS[part], f"{at}.")


def _is_of_latency(at: str) -> bool:
    return "latency" in at or "startup" in at


def _default_text(default: object) -> str:
    match default:
        case bool():
            return f"`{str(default).lower()}`"
        case list():
            entries = (entry["traffic"] if isinstance(entry, dict) else entry for entry in default)
            return f"`[{', '.join(entries)}]`"
        case {} if default:
            return ""
        case {} | "":
            return "none"
        case None:
            return "`off`"
        case _:
            return f"`{default}`"


def _kind_text(part: type[BaseModel]) -> str:
    short = _SHORT_FORMS.get(part)
    return f"mapping, or `{short}` alone" if short else "mapping"


_REFERENCE: Final = """\
# Policy reference

A policy says in which steps a candidate gets traffic, what it is compared on, and what happens then. It is a
YAML or JSON file. Everything has a default, so that `version: 1` alone is a whole policy.

This page is written by `canary policy reference`. `canary policy check FILE` finds every mistake in a file,
and `canary policy explain FILE` says in plain English what it will do.

## An example

```yaml
version: 1
steps: [5%, 25%, 50%]
hold: 10m
bake: 30m
guards:
  errors: 2%
  latency: 800ms
```

The same step and guards in their long form:

```yaml
version: 1
steps:
  - traffic: 5%
    hold: {at_least: 10m, at_most: 40m, requests: 50}
  - traffic: 25%
guards:
  errors:
    tolerance: {factor: 1.25, points: 0.2%}
    ceiling: 2%
    codes: [5xx]
  latency:
    tolerance: 1.21
    ceilings: {p95: 800ms}
when_unsure: rollback
```

## How values are written

- A **duration** has a unit: `500ms`, `30s`, `10m`, `2h`, `1d`, `1h30m`. A bare number is refused. The longest
  is 30 days.
- A **share** is a percentage such as `5%` or `0.2%`, or a fraction such as `0.05`. Traffic comes in whole
  percents: `5%` or `5`.
- A part may be written as its main field alone: `hold: 10m` is `hold: {at_least: 10m}`.
- `off` turns a guard or a ceiling off. At least one guard must decide.

## Steps that fit the traffic

With `steps: auto`, or `steps: {at_most: 50}`, shares and times are chosen when a rollout begins: from the
requests that stable had in the last hour, so that a bad candidate fails about so many requests at most in a
step before it is noticed. `canary policy explain FILE --service SERVICE` shows them and their arithmetic. The
record holds what was chosen. Where nothing can be measured, the default steps are used.

## Custom guards

A custom guard compares the candidate with stable on any metric of Cloud Monitoring: one of Google's, one made
from logs, or one that the program writes itself. It has a name, and is either a share, `bad` of `total`, or a
`distribution`:

```yaml
version: 1
guards:
  custom:
    payments:                # a share: refused payments of all requests
      bad: 'metric.type="run.googleapis.com/request_count" AND metric.labels.response_code="402"'
      total: 'metric.type="run.googleapis.com/request_count"'
      tolerance: {factor: 1.25, points: 0.2%}
      ceiling: 2%
    render:                  # a distribution: how long good pages take
      distribution: >-
        metric.type="run.googleapis.com/request_latencies"
        AND metric.labels.response_code_class="2xx"
      tolerance: 1.21
      ceilings: {p95: 800}   # in the metric's own unit
      observe: true
```

- A **filter** is written in the language of Cloud Monitoring
  (<https://cloud.google.com/monitoring/api/v3/filters>), in single quotation marks or after `>-`. It names
  exactly one metric, with `metric.type="..."`. It has no `OR`; write `metric.labels.x=one_of("a", "b")`.
- `revision_label` says which label holds the name of the revision. With `resource.labels.revision_name`, the
  filter is narrowed to the service and its region. A metric with another label, such as
  `metric.labels.revision`, is taken as the filter finds it.
- The metric counts what happens, minute by minute: its kind is DELTA or CUMULATIVE. `bad` and `total` are
  numbers, or distributions of which the number of values is taken. A minute in which `bad` says nothing has
  none. More `bad` than `total` makes the metrics unreadable, and no step passes on those.
- The metric is complete when a minute is `metrics_delay` old. One that comes later needs a longer delay.
- A guard decides as `errors` and `latency` do, unless it says `observe: true`. To be rid of it, take it away.

## How long a step lasts

A step's evidence begins `settle` after its split is observed. It may pass when `at_least` of evidence is
final, and a minute is final when it is `metrics_delay` old. So a step lasts about `settle + at_least +
metrics_delay`, and up to a minute more, as evidence comes in whole minutes. `at_most` must be longer.

While baking, the candidate serves everything and there is nothing to compare it with. Only ceilings decide.

## Fields

| field | value | default | meaning |
|---|---|---|---|
ROWS

## For editors

With this first line, an editor that knows YAML schemas completes and checks a policy beside the schema:

```yaml
# yaml-language-server: $schema=policy.schema.json
```
"""
