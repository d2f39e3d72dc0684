"""Policies that somebody has tampered with: refused with every mistake in plain words, or they work."""

from copy import deepcopy
from typing import Any

import pytest
from builders import a_policy
from fuzz.targets import HOSTILE, assert_refused, check_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.mistakes import PolicyInvalid
from controller.core.policy import Policy, parse_policy, policy_as_plain
from controller.core.units import (
    UnitInvalid,
    parse_count,
    parse_duration,
    parse_factor,
    parse_percent,
    parse_share,
)

METRIC = 'metric.type="run.googleapis.com/request_count"'
CUSTOM = {"payments": {"bad": METRIC, "total": METRIC}, "render": {"distribution": METRIC}}
FULL = a_policy(
    steps=["5%", {"traffic": "30%", "hold": {"at_least": "10m"}}],
    guards={"errors": "3%", "latency": "800ms", "custom": CUSTOM},
    smoke=["/healthz"],
)
POLICIES = [policy_as_plain(FULL), policy_as_plain(Policy()), {"version": 1, "steps": [5, 50], "hold": "5m"}]

VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 1.5, 10**9, 10**400, float("nan"), float("inf"), -0.0, 1e-320, 1e308,
    "", "off", "on", "0%", "1e999%", "0." + "0" * 30 + "1%", "100%", "999999999d", "30d", "1ms", "1h1h", "10",
    "\x1b[31m", "a\nb", "\u202e", "\ud800", "\u0665%", "\uff15%", HOSTILE, METRIC, METRIC + ' AND a="\x1b"',
    [], {}, [[]], [None],
    {"\x1b[31m": 1}, {"\ud800": 1}, {1: 2}, {None: 1}, {"a\nb": {"c": []}}, [5] * 2000,
    {str(n): n for n in range(2000)},
]  # fmt: skip
READERS = [parse_count, parse_duration, parse_factor, parse_percent, parse_share]


@st.composite
def tampered(draw: st.DrawFn) -> Any:
    """A valid policy with up to three parts replaced, deleted, or put beside under a hostile name."""
    plain: Any = {"policy": deepcopy(draw(st.sampled_from(POLICIES)))}
    for _ in range(draw(st.integers(1, 3))):
        holder, name = plain, "policy"
        while draw(st.integers(0, 4)) and isinstance(holder[name], dict | list) and holder[name]:
            holder = holder[name]
            name = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        value = deepcopy(draw(st.sampled_from(VALUES)))
        match draw(st.sampled_from(["put", "put", "delete", "beside"])):
            case "delete" if holder is not plain:
                del holder[name]
            case "beside" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["\x1b]0;x\x07", "a\nb: ok", "x" * 5000, "stepz", 7]))] = value
            case _:
                holder[name] = value
    return plain["policy"]


@settings(max_examples=150)
@given(tampered())
def test_a_tampered_policy_is_refused_in_plain_words_or_works(plain: Any) -> None:
    try:
        check_policy(parse_policy(plain))
    except PolicyInvalid as invalid:
        assert_refused(str(invalid), *(mistake.message for mistake in invalid.mistakes))


@given(
    st.sampled_from(VALUES) | st.text(st.characters()) | st.floats() | st.integers(), st.sampled_from(READERS)
)
def test_a_value_is_read_or_refused_in_one_plain_sentence(value: Any, read: Any) -> None:
    try:
        assert read(value) is not None
    except UnitInvalid as invalid:
        assert_refused(str(invalid))


def test_a_thousand_mistakes_fit_in_one_sentence() -> None:
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy({f"field{number}": number for number in range(1000)})
    assert len(caught.value.mistakes) == 1000
    assert str(caught.value).endswith("; and 990 more")
    assert_refused(str(caught.value))
