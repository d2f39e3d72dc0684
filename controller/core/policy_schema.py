"""What editors and people are told about the fields of a policy: the JSON Schema and the reference."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from controller.core.mistakes import part_in
from controller.core.policy import Policy, policy_as_plain
from controller.core.policy_fields import OFF_FORMS, ON_FORMS
from controller.core.policy_guards import CustomGuard, ErrorGuard, Guards, LatencyGuard, Tolerance
from controller.core.policy_steps import Confidence, Hold, Step

# The field that a bare value stands for.
_SHORT_FORMS: Final = {"Hold": "at_least", "Step": "traffic", "Tolerance": "factor", "ErrorGuard": "ceiling"}
_PARTS: Final = (
    Confidence(),
    ErrorGuard(),
    Guards(),
    Hold(),
    LatencyGuard(),
    Step(traffic=100),
    Tolerance(factor=1),
)
# A guard must have a metric, but none is its default.
_CUSTOM_DEFAULTS: Final = CustomGuard(distribution='metric.type="any"').model_dump(mode="json") | {
    "distribution": ""
}


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy file, short forms included, with defaults as people write them."""
    schema = Policy.model_json_schema()
    parts = schema["$defs"]
    for part in _PARTS:
        _write_defaults(parts[type(part).__name__], part.model_dump(mode="json"))
    _write_defaults(schema, policy_as_plain(Policy()))
    _leave_tolerance_to_guards(parts["Tolerance"])
    for name in ("errors", "latency"):
        guard = parts["Guards"]["properties"][name]
        guard["anyOf"] = [*(form for form in guard["anyOf"] if "$ref" in form), OFF_FORMS]
    _describe_kinds(parts["CustomGuard"])
    latency = parts["LatencyGuard"]["properties"]["ceilings"]["properties"]["p95"]
    short = {name: parts[name]["properties"][field] for name, field in _SHORT_FORMS.items()}
    for name, form in (short | {"LatencyGuard": latency}).items():
        parts[name] = _with_short_form(parts[name], form)
    for name in ("ErrorGuard", "LatencyGuard"):
        parts[name]["anyOf"].append(ON_FORMS)
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


def _with_short_form(part: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    short = {key: value for key, value in field.items() if key not in {"default", "description", "title"}}
    return {"description": part.pop("description"), "anyOf": [short, part]}


def policy_reference() -> str:
    """Return the policy reference as Markdown, written from the same source as the JSON Schema."""
    return _REFERENCE.replace("ROWS", "\n".join(_rows(Policy, Policy().model_dump(mode="json"))))


def _rows(part: type[BaseModel], defaults: Mapping[str, Any], at: str = "") -> Iterator[str]:
    titles = part.model_json_schema()["properties"]
    for name, field in part.model_fields.items():
        if part is Tolerance and name == "points" and "latency" in at:
            continue
        below = part_in(field.annotation)
        default = defaults[name]
        path = at + name
        if below is None:
            kind = titles[name]["title"]
            yield f"| `{path}` | {kind} | {_default_text(part, default)} | {field.description} |"
        elif isinstance(default, list):
            steps = ", ".join(step["traffic"] for step in default)
            yield f"| `{path}` | list of shares or mappings | `[{steps}]` | {field.description} |"
            yield from _rows(below, default[0], f"{path}[].")
        elif below is CustomGuard:
            yield f"| `{path}` | {titles[name]['title']} | none | {field.description} |"
            yield from _rows(below, _CUSTOM_DEFAULTS, f"{path}.NAME.")
        else:
            yield f"| `{path}` | {_kind_text(below)} | | {field.description} |"
            if part not in (Step, CustomGuard):  # the same fields as in `hold` and in the guards above
                yield from _rows(below, default, f"{path}.")


def _default_text(part: type[BaseModel], default: object) -> str:
    if part is Step:
        return "required"
    match default:
        case bool():
            return f"`{str(default).lower()}`"
        case list():
            return f"`[{', '.join(default)}]`"
        case {} | "":
            return "none"
        case None:
            return "`off`"
        case _:
            return f"`{default}`"


def _kind_text(part: type[BaseModel]) -> str:
    short = "ceilings.p95" if part is LatencyGuard else _SHORT_FORMS.get(part.__name__)
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
