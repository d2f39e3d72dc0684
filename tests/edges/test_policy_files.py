"""Policy files: what is read, and what is said about files that cannot be."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from controller.core.explanation import explain_policy
from controller.core.policy import Policy, policy_as_plain
from controller.core.policy_choices import AdvanceOn
from controller.core.policy_schema import policy_reference, policy_schema
from controller.gateways.policy_files import PolicyFileInvalid, read_policy

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "policies").glob("*.yaml"))
EXAMPLES = re.findall(r"```yaml\n(version.*?)```", policy_reference(), re.DOTALL)


def a_file(folder: Path, content: str | bytes) -> Path:
    file = folder / "policy.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def mistakes_in(folder: Path, content: str | bytes) -> list[str]:
    file = a_file(folder, content)
    with pytest.raises(PolicyFileInvalid) as caught:
        read_policy(file)
    return [line.removeprefix(str(file)) for line in caught.value.lines]


def policy_or_lines(file: Path) -> Policy | tuple[str, ...]:
    try:
        return read_policy(file)
    except PolicyFileInvalid as error:
        return error.lines


def fits(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> bool:
    """Check a value against the part of JSON Schema that ours uses; another keyword fails the test."""
    checks: dict[str, Callable[[Any], bool]] = {
        "$ref": lambda name: fits(value, definitions[name.rsplit("/", 1)[1]], definitions),
        "anyOf": lambda forms: any(fits(value, form, definitions) for form in forms),
        "enum": lambda choices: any(
            value is each or (value == each and type(value) is type(each)) for each in choices
        ),
        "const": lambda constant: value == constant,
        "type": lambda name: is_a(value, name),
        "pattern": lambda pattern: not isinstance(value, str) or re.search(pattern, value) is not None,
        "minimum": lambda least: not is_a(value, "number") or value >= least,
        "maximum": lambda most: not is_a(value, "number") or value <= most,
        "exclusiveMinimum": lambda below: not is_a(value, "number") or value > below,
        "maxLength": lambda most: not isinstance(value, str) or len(value) <= most,
        "minItems": lambda count: not isinstance(value, list) or len(value) >= count,
        "maxItems": lambda count: not isinstance(value, list) or len(value) <= count,
        "items": lambda items: (
            not isinstance(value, list) or all(fits(each, items, definitions) for each in value)
        ),
        "required": lambda names: not isinstance(value, dict) or set(names) <= set(value),
        "properties": lambda fields: (
            not isinstance(value, dict)
            or all(fits(value[name], field, definitions) for name, field in fields.items() if name in value)
        ),
        "additionalProperties": lambda form: (
            not isinstance(value, dict)
            or all(
                form is not False and fits(each, form, definitions)
                for name, each in value.items()
                if name not in schema.get("properties", {})
            )
        ),
        "maxProperties": lambda most: not isinstance(value, dict) or len(value) <= most,
        "propertyNames": lambda form: (
            not isinstance(value, dict) or all(fits(name, form, definitions) for name in value)
        ),
    }
    remarks = {"$schema", "$defs", "title", "description", "default"}
    return all(checks[keyword](argument) for keyword, argument in schema.items() if keyword not in remarks)


def is_a(value: object, name: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "string": isinstance(value, str),
        "number": number,
        "integer": number and isinstance(value, int),
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "null": value is None,
    }[name]


def fits_schema(plain: object) -> bool:
    schema = policy_schema()
    return fits(plain, schema, schema["$defs"])


def test_five_policies_are_shipped() -> None:
    assert [file.stem for file in SHIPPED] == ["careful", "custom", "fast", "portal", "standard"]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_policy_is_sound_and_not_doubtful(file: Path) -> None:
    explanation = explain_policy(read_policy(file))
    assert not explanation.warnings
    assert file.read_text().startswith("# yaml-language-server: $schema=policy.schema.json\n")


def test_the_standard_policy_is_the_default_one() -> None:
    assert read_policy(ROOT / "policies/standard.yaml") == Policy()


def test_the_careful_policy_takes_longer_than_the_standard_one_and_the_fast_one_less() -> None:
    careful, custom, fast, _, standard = (explain_policy(read_policy(file)).least for file in SHIPPED)
    assert fast < custom == standard < careful
    assert read_policy(SHIPPED[0]).advance_on is AdvanceOn.PROVEN


def test_the_custom_policy_watches_a_share_and_a_distribution() -> None:
    guards = read_policy(ROOT / "policies/custom.yaml").guards.custom
    assert {name: guard.is_ratio for name, guard in guards.items()} == {
        "refused-payments": True,
        "good-answers": False,
    }


def test_what_the_custom_policy_only_suggests_is_sound_as_well(tmp_path: Path) -> None:
    text = (ROOT / "policies/custom.yaml").read_text()
    suggested = re.sub(r"^    # ( *[a-z_]+:)", r"    \1", text, flags=re.MULTILINE)
    assert set(read_policy(a_file(tmp_path, suggested)).guards.custom) == {
        "refused-payments",
        "good-answers",
        "render",
    }


def test_the_schema_in_the_repository_is_current() -> None:
    assert json.loads((ROOT / "policies/policy.schema.json").read_text()) == policy_schema()


def test_the_reference_in_the_repository_is_current() -> None:
    assert (ROOT / "docs/policy.md").read_text() == policy_reference()


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_reference_is_sound(tmp_path: Path, example: str) -> None:
    assert fits_schema(policy_as_plain(read_policy(a_file(tmp_path, example))))


@pytest.mark.parametrize("text", [*EXAMPLES, *(file.read_text() for file in SHIPPED)])
def test_what_is_written_by_us_fits_the_schema(text: str) -> None:
    import yaml  # noqa: PLC0415 - as an independent reader

    assert fits_schema(yaml.safe_load(text))


@pytest.mark.parametrize(
    "plain",
    [
        {"stesp": [5]},
        {"steps": [200]},
        {"steps": ["0.5%"]},
        {"hold": 10},
        {"when_unsure": "panic"},
        {"guards": {"latency": {"ceilings": {"p96": "1s"}}}},
        {"guards": {"errors": {"codes": []}}},
        {"guards": {"custom": {"Payments": {"distribution": 'metric.type="x"'}}}},
        {"guards": {"custom": {"payments": {"bad": 'metric.type="x"'}}}},
        {"guards": {"custom": {"payments": {"distribution": 'resource.type="x"'}}}},
        {"guards": {"custom": {"payments": {"distribution": 'metric.type="x"', "ceilings": {"p95": "1s"}}}}},
        {"guards": {"custom": {f"g{number}": {"distribution": 'metric.type="x"'} for number in range(9)}}},
    ],
)
def test_the_schema_refuses_what_the_controller_refuses(plain: object) -> None:
    assert not fits_schema(plain)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3


def test_a_mistake_in_a_custom_guard_is_shown_at_its_line(tmp_path: Path) -> None:
    content = (
        "version: 1\n"
        "guards:\n"
        "  custom:\n"
        "    payments:\n"
        "      bad: metric.type=x\n"
        "      tolerence: 2\n"
        "    render:\n"
        "      distribution: |\n"
        '        metric.type="x"\n'
        '        AND metric.labels.a="b"\n'
        "      ceilings:\n"
        "        p95: 800ms\n"
        "    errors: off\n"
        "    latency:\n"
        "    empty: {}\n"
    )
    example = 'metric.type="run.googleapis.com/request_count"'
    off = "a custom guard is off when it is not there; take it away, or write observe: true"
    assert mistakes_in(tmp_path, content) == [
        ":4: guards.custom.payments.total: total is missing; write the filter of all that could be bad",
        (
            ":5: guards.custom.payments.bad: a filter names exactly one metric, with an equals sign, "
            f"such as {example}"
        ),
        ":6: guards.custom.payments.tolerence: unknown field 'tolerence'; did you mean 'tolerance'?",
        (
            ":8: guards.custom.render.distribution: a filter is one line of printable characters; "
            "YAML joins lines after >-"
        ),
        (
            ":12: guards.custom.render.ceilings.p95: expected a plain number such as 800, "
            "in the metric's own unit, not '800ms'"
        ),
        ":13: guards.custom.errors: 'errors' is the name of a guard of its own; choose another",
        f":13: guards.custom.errors: {off}",
        ":14: guards.custom.latency: has no value; write one, or take the field away",
        ":15: guards.custom.empty: there is no metric in it; write bad and total, or a distribution",
    ]


def test_json_is_read_as_well(tmp_path: Path) -> None:
    assert read_policy(a_file(tmp_path, json.dumps(policy_as_plain(Policy()), indent=1))) == Policy()


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert read_policy(a_file(tmp_path, b"\xef\xbb\xbfversion: 1\n")) == Policy()


@pytest.mark.parametrize("empty", ["null", "~", ""])
def test_an_empty_field_turns_nothing_off(tmp_path: Path, empty: str) -> None:
    with pytest.raises(PolicyFileInvalid, match=r"2: guards\.latency: has no value"):
        read_policy(a_file(tmp_path, f"guards:\n  latency: {empty}\n"))


@pytest.mark.parametrize("word", ["off", "false", "no"])
def test_a_guard_is_turned_off_by_every_word_for_it(tmp_path: Path, word: str) -> None:
    assert read_policy(a_file(tmp_path, f"guards:\n  latency: {word}\n")).guards.latency is None


def test_every_mistake_is_listed_by_line(tmp_path: Path) -> None:
    content = (
        "version: 1\n"
        "steps:\n"
        "  - traffic: 5%\n"
        "    hold: {at_least: 10}\n"
        "  - 1:30\n"
        "guards:\n"
        "  errors:\n"
        "    tolerence: 2\n"
        "bake: 010\n"
        "when_unsure: on\n"
        "bake: 15m\n"
    )
    assert mistakes_in(tmp_path, content) == [
        ":4: steps[0].hold.at_least: 10 has no unit; write 10m or 10s",
        ":5: steps[1].traffic: expected a whole percentage such as 5%, not '1:30'",
        ":8: guards.errors.tolerence: unknown field 'tolerence'; did you mean 'tolerance'?",
        ":9: bake.at_least: '010' has no unit; write 10m or 10s",
        ":10: when_unsure: expected hold or advance or rollback, not true",
        ":11: bake: given twice, on lines 9 and 11; keep one",
    ]


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        ("", ": the file is empty; write at least version: 1"),
        ("# nothing\n", ": the file is empty; write at least version: 1"),
        ("- 5%\n", ":1: expected a mapping of fields such as steps and guards, not a list"),
        ("version: 1\n---\nversion: 1\n", ":2: a second document begins here; a policy file holds one"),
        ("steps:\n\t- 5\n", ":2: this is not YAML: a tab stands where YAML wants spaces; indent with spaces"),
        ("hold: &h 5m\nbake: *h\n", ":1: anchors and aliases are not allowed; write the value out"),
        ("hold: !!python/name:os.system 5m\n", ":1: hold: the tag"),
        ("? [a]\n: 1\n", ":1: the name of a field must be text"),
        ("steps: [5\n", ":2: this is not YAML: "),
        ("hold: 5m\nsteps: " + "[" * 30_000, ":2: this is nested too deeply for a policy"),
        (b"version: 1\nhold: \xff\n", ":2: the file is not UTF-8 text; save it as UTF-8"),
        (b"version: 1\nhold: \x01\n", ":2: the character"),
        (b"# " + b"x" * 70_000, ": the file is larger than 64 KiB, which no policy needs"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_with_the_line(
    tmp_path: Path, content: str | bytes, mistake: str
) -> None:
    found = mistakes_in(tmp_path, content)
    assert found[0].startswith(mistake)


def test_a_mistake_in_a_default_is_shown_where_its_cause_is(tmp_path: Path) -> None:
    found = mistakes_in(tmp_path, "version: 1\nmetrics_delay: 40m\nhold: 6m\n")
    assert found == [
        (
            ":3: hold.at_most: 30m is too short to judge by; write at least 48m, "
            "which is more than at_least 6m + settle 30s + metrics_delay 40m + 1m"
        )
    ]


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    for file, words in ((tmp_path / "none.yaml", "no such file"), (tmp_path, "a directory")):
        with pytest.raises(PolicyFileInvalid, match=words):
            read_policy(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    file = a_file(tmp_path, "version: 1\n")
    file.chmod(0)
    with pytest.raises(PolicyFileInvalid, match="cannot be read"):
        read_policy(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


YAML = "version steps hold guards : - [ ] { } 5% 10m &a *a !! ! << ? | > ' # --- ... % off 1:30 .nan ="
words = some.sampled_from([*YAML.split(), " ", "\n", "\t", "- ", ": "])


@given(some.binary() | some.lists(words, max_size=30).map(lambda parts: "".join(parts).encode()))
def test_any_bytes_give_a_policy_or_its_mistakes(folder: Path, content: bytes) -> None:
    read = policy_or_lines(a_file(folder, content))
    assert read
    if not isinstance(read, Policy):
        assert all("\n" not in line for line in read)
