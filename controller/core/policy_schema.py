"""What editors and people are told about the fields of a policy: the JSON Schema and the reference."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from controller.core.mistakes import part_in
from controller.core.policy import (
    Confidence,
    ErrorGuard,
    Guards,
    Hold,
    LatencyGuard,
    Policy,
    Step,
    Tolerance,
    policy_as_plain,
)
from controller.core.policy_fields import OFF_FORMS, ON_FORMS

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


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy file, short forms included, with defaults as people write them."""
    schema = Policy.model_json_schema()
    parts = schema["$defs"]
    for part in _PARTS:
        _write_defaults(parts[type(part).__name__], part.model_dump(mode="json"))
    _write_defaults(schema, policy_as_plain(Policy()))
    _leave_tolerance_to_guards(parts["Tolerance"])
    for guard in parts["Guards"]["properties"].values():
        guard["anyOf"] = [*(form for form in guard["anyOf"] if "$ref" in form), OFF_FORMS]
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
        else:
            yield f"| `{path}` | {_kind_text(below)} | | {field.description} |"
            if part is not Step:  # the policy's own `hold` has the same fields
                yield from _rows(below, default, f"{path}.")


def _default_text(part: type[BaseModel], default: object) -> str:
    if part is Step:
        return "required"
    match default:
        case bool():
            return f"`{str(default).lower()}`"
        case list():
            return f"`[{', '.join(default)}]`"
        case {}:
            return "none"
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
