"""The audit trail in Cloud Logging: what is written comes back, once and in order, and nothing else does."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.conftest import SIMULATED, Google, a_google
from contracts.logs.log_entries import an_entry, listed, write
from controller.gateways.audit_log import LARGEST_ENTRY, LOG_ID, MOST_PAGES, LoggingGateway
from controller.gateways.channels import local
from controller.gateways.filters import quoted
from controller.ports import (
    ROLLOUT_LABEL,
    AuditEntry,
    DeniedError,
    EntryRefusedError,
    PermanentError,
    Severity,
    TransientError,
)
from controller.principal import calling_as

SECOND = timedelta(seconds=1)
LOG = f"projects/demo/logs/{LOG_ID}"
ADA = "ada@example.com"


def gateway(google: Google, region: str = "local-1") -> LoggingGateway:
    return LoggingGateway("demo", region, lambda _: None, google.channel)


def entry(google: Google, number: int = 0, **fields: Any) -> AuditEntry:
    """Return an entry, later by its number of seconds."""
    base = AuditEntry(
        insert_id=f"r1-{number:05}",
        time=google.local.now() + number * SECOND,
        service="web",
        revision="web-two",
        severity=Severity.NOTICE,
        message=f"step {number}",
        labels={ROLLOUT_LABEL: "r1", "event": "promote"},
        payload={"number": number},
    )
    return replace(base, **fields)


def messages(entries: Sequence[AuditEntry]) -> list[str]:
    return [one.message for one in entries]


@pytest.mark.parametrize("severity", Severity)
def test_what_is_written_comes_back_as_it_was(google: Google, severity: Severity) -> None:
    written = entry(
        google,
        severity=severity,
        time=google.local.now() + timedelta(microseconds=123_457),
        message='a "quoted" text,\nwith an ä',
        payload={"a": {"b": [1, 2.5, None, True, "x", {}]}, "policy": "steps: [5%]\n", "share": 0.1},
    )
    gateway(google).write_entries([written])
    (found,) = gateway(google).read_entries("web")
    assert found == written
    assert json.dumps(found.payload, sort_keys=True) == json.dumps(written.payload, sort_keys=True)


def test_an_entry_stands_in_the_service_s_own_log(google: Google) -> None:
    """Monitoring facts 1: the five labels of cloud_run_revision."""
    gateway(google).write_entries([entry(google, severity=Severity.WARNING)])
    text = 'resource.type="cloud_run_revision" resource.labels.service_name="web" severity>=WARNING'
    (found,) = listed(google, text)
    assert found.log_name == LOG
    assert dict(found.resource.labels) == {
        "project_id": "demo",
        "location": "local-1",
        "service_name": "web",
        "configuration_name": "web",
        "revision_name": "web-two",
    }
    assert listed(google, 'jsonPayload.message="step 0"') == [found]


def test_an_entry_that_is_written_twice_is_read_once(google: Google) -> None:
    """Monitoring facts 3: the same project, timestamp and insert_id make duplicates."""
    entries = [entry(google, number) for number in range(3)]
    for _ in range(3):
        gateway(google).write_entries(entries)
    assert gateway(google).read_entries("web") == entries


def test_entries_of_one_instant_stay_apart(google: Google) -> None:
    both = [entry(google, insert_id="a"), entry(google, insert_id="b")]
    gateway(google).write_entries(both[::-1])
    assert gateway(google).read_entries("web") == both


def test_entries_come_oldest_first_over_pages_and_writes(google: Google) -> None:
    entries = [entry(google, number) for number in range(70)]
    gateway(google).write_entries(entries[::-1])
    assert gateway(google).read_entries("web") == entries
    assert gateway(google).read_entries("web", limit=70) == entries
    assert gateway(google).read_entries("web", limit=2) == entries[-2:]


def test_only_what_was_asked_for_is_read(google: Google) -> None:
    other = {ROLLOUT_LABEL: "r2"}
    gateway(google).write_entries(
        [
            entry(google, 1),
            entry(google, 2, labels=other, message="of another rollout"),
            entry(google, 3, service="shop", message="of another service"),
            entry(google, 4, labels={ROLLOUT_LABEL: "R1"}, message="of a rollout that differs by case"),
        ]
    )
    gateway(google, "local-2").write_entries([entry(google, 5, message="of another region")])
    write(google, an_entry("x", payload={"message": "of another log"}))
    log = gateway(google)
    assert messages(log.read_entries("web", "r1")) == ["step 1"]
    assert messages(log.read_entries("web", "r2")) == ["of another rollout"]
    assert messages(log.read_entries("shop")) == ["of another service"]
    assert log.read_entries("Web") == []
    assert len(log.read_entries("web")) == 3


def test_entries_are_read_from_a_moment_on(google: Google) -> None:
    entries = [entry(google, number) for number in range(4)]
    gateway(google).write_entries(entries)
    assert gateway(google).read_entries("web", since=entries[2].time) == entries[2:]
    assert gateway(google).read_entries("web", since=entries[3].time + SECOND) == []


HOSTILE = [
    'web" OR resource.labels.service_name="shop',
    'web" OR severity>=DEFAULT OR "',
    'web\\" OR severity>=DEFAULT -- ',
    "web\\",
    'web"',
    "web\n OR severity>=DEFAULT",
    "*",
    "",
    "web) OR (severity>=DEFAULT",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_name_reaches_beyond_its_quotes(google: Google, hostile: str) -> None:
    own = entry(google, 1, service=hostile, labels={ROLLOUT_LABEL: hostile})
    gateway(google).write_entries([entry(google), entry(google, service="shop"), own])
    log = gateway(google)
    assert log.read_entries(hostile) == [own]
    assert log.read_entries("web", hostile) == ([] if hostile else [entry(google)])
    assert log.read_entries(hostile, hostile) == [own]


@pytest.fixture(scope="module")
def one_google() -> Iterator[Google]:
    yield from a_google(SIMULATED)


PRINTABLE = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(text=PRINTABLE | st.text('"\\ ORAND=()', max_size=12))
def test_whatever_is_quoted_is_found_again(one_google: Google, text: str) -> None:
    write(one_google, an_entry("x", labels={"k": f"<{text}>"}))
    (found,) = listed(one_google, f'labels.k={quoted(f"<{text}>")} insertId="x"')[:1]
    assert found.labels["k"].casefold() == f"<{text}>".casefold()
    one_google.logs.delete_log(log_name=found.log_name, timeout=10)
    one_google.local.advance(SECOND)


def test_nothing_is_written_where_there_is_nothing(google: Google) -> None:
    google.local.fault("partition")
    gateway(google).write_entries([])


# --- what is too large, and what cannot be kept ---


def test_the_largest_that_fits_is_kept_whole(google: Google) -> None:
    written = entry(google, payload={"policy": "x" * 200_000})
    gateway(google).write_entries([written])
    assert gateway(google).read_entries("web") == [written]


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({"policy": "x" * 300_000, "small": "y"}, "texts were cut to 16384 characters"),
        ({str(key): "x" * 10_000 for key in range(40)}, "texts were cut to 2048 characters"),
        ({"list": ["x" * 600] * 700}, "texts were cut to 256 characters"),
        ({str(key): key for key in range(40_000)}, "the payload was left out"),
    ],
)
def test_what_is_too_large_is_cut_and_says_so(google: Google, payload: dict[str, Any], told: str) -> None:
    gateway(google).write_entries([entry(google, payload=payload, message="promoted")])
    (found,) = gateway(google).read_entries("web")
    assert found.message == "promoted"
    assert told in found.cut
    assert f"Cloud Logging takes {LARGEST_ENTRY}" in found.cut
    if "small" in payload:
        assert found.payload["small"] == "y"
        assert found.payload["policy"] == "x" * 16_384 + " ... [cut: 300000 characters]"


def test_texts_of_many_bytes_are_cut_too(google: Google) -> None:
    gateway(google).write_entries([entry(google, payload={"policy": "\u20ac" * 90_000})])
    (found,) = gateway(google).read_entries("web")
    assert found.payload["policy"].endswith("[cut: 90000 characters]")


def test_what_json_does_not_know_is_kept_as_text(google: Google) -> None:
    written = entry(google, payload={"odds": float("inf"), "pair": (1, 2)}, message="broken \ud800")
    gateway(google).write_entries([written])
    (found,) = gateway(google).read_entries("web")
    assert found.payload == {"odds": "inf", "pair": [1, 2]}
    assert found.message == "broken ?"


def test_an_entry_that_is_refused_keeps_no_other_out(google: Google) -> None:
    good = entry(google)
    old = entry(google, insert_id="old", time=google.local.now() - timedelta(days=400))
    with pytest.raises(EntryRefusedError, match="writing the audit trail"):
        gateway(google).write_entries([old, good])
    assert gateway(google).read_entries("web") == [good]


@pytest.mark.parametrize("code", ["NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"])
def test_a_log_that_is_not_to_be_had_refuses_no_entry(google: Google, code: str) -> None:
    """What has nothing to do with the entry must not make anybody give it up."""
    google.local.fault("error", method="WriteLogEntries", code=code)
    with pytest.raises(PermanentError) as caught:
        gateway(google).write_entries([entry(google)])
    assert not isinstance(caught.value, EntryRefusedError)


def test_an_entry_that_others_wrote_into_the_log_can_be_read(google: Google) -> None:
    resource = {"type": "cloud_run_revision", "labels": {"service_name": "web", "location": "local-1"}}
    others: dict[str, dict[str, Any]] = {
        "a": {"text_payload": "by hand"},
        "b": {"payload": {"payload": "no object", "message": 3}},
        "c": {"severity": "CRITICAL", "payload": {}},
    }
    for identity, fields in others.items():
        write(google, an_entry(identity, resource=resource, **fields), log_name=LOG)
    found = gateway(google).read_entries("web")
    assert [(one.message, one.severity) for one in found] == [
        ("by hand", Severity.INFO),
        ("3", Severity.INFO),
        ("", Severity.ERROR),
    ]
    assert all(one.payload == {} for one in found)


# --- pages and quotas ---


def test_an_empty_page_is_not_the_end() -> None:
    """Monitoring facts 3: an empty page with next_page_token is not "no data"."""
    for google in a_google(replace(SIMULATED, log_scan_limit=10)):
        written = entry(google)
        gateway(google).write_entries([written])
        google.local.advance(SECOND)
        write(google, *(an_entry(f"n{n}", timestamp=google.local.now() + n * SECOND) for n in range(35)))
        google.local.fault("delay", method="ListLogEntries", by="1s")
        assert gateway(google).read_entries("web") == [written]
        assert google.local.faults()[0]["struck"] > 1


def test_a_reading_does_not_use_up_the_quota_of_the_project() -> None:
    """Monitoring facts 3: 60 entries.list a minute for a whole project, shared with people."""
    for google in a_google(replace(SIMULATED, log_scan_limit=1)):
        noise = [an_entry(f"n{n}", timestamp=google.local.now() + n * SECOND) for n in range(40)]
        write(google, *noise)
        google.local.fault("delay", method="ListLogEntries", by="1s")
        assert gateway(google).read_entries("web") == []
        assert google.local.faults()[0]["struck"] == MOST_PAGES
        later = google.local.now() + timedelta(hours=1)
        assert gateway(google).read_entries("web", since=later) == []


def test_a_page_of_many_megabytes_is_read(google: Google) -> None:
    entries = [entry(google, number, payload={"policy": "x" * 200_000}) for number in range(30)]
    gateway(google).write_entries(entries)
    with local(google.local.grpc_address) as channel:
        assert LoggingGateway("demo", "local-1", lambda _: None, channel).read_entries("web") == entries
    with pytest.raises(PermanentError, match="larger than max"):  # the channel of this test's own client
        gateway(google).read_entries("web")


def test_what_fails_while_reading_is_told(google: Google) -> None:
    google.local.fault("error", method="ListLogEntries", code="UNAVAILABLE")
    with pytest.raises(TransientError, match="reading the audit trail of web: Cloud Logging cannot be reach"):
        gateway(google).read_entries("web")


# --- permissions ---


@pytest.mark.parametrize(
    ("held", "may_write", "may_read"),
    [
        ("logging.logEntries.create", True, False),
        ("logging.logEntries.list", False, True),
        ("run.services.get", False, False),
    ],
)
def test_a_refusal_names_the_permission_and_no_other_is_needed(
    tmp_path: Path, held: str, *, may_write: bool, may_read: bool
) -> None:
    file = tmp_path / "iam.yaml"
    text = f"roles:\n  hers: [{held}]\nbindings:\n- role: hers\n  members: ['user:{ADA}']\n"
    file.write_text(text, encoding="utf-8")
    for google in a_google(replace(SIMULATED, iam=str(file))):
        log = LoggingGateway("demo", "local-1", lambda _: None, calling_as(google.channel, ADA))
        lacking = missing(log.write_entries, [entry(google)]), missing(log.read_entries, "web")
        assert lacking == (
            "" if may_write else "logging.logEntries.create",
            "" if may_read else "logging.logEntries.list",
        )


def missing(call: Callable[[Any], object], argument: Any) -> str:
    """Return the permission that a refusal names, or nothing."""
    try:
        call(argument)
    except DeniedError as error:
        return str(error).partition("it needs the permission ")[2].split()[0]
    return ""


def test_times_are_plain_and_in_utc(google: Google) -> None:
    gateway(google).write_entries([entry(google)])
    (found,) = gateway(google).read_entries("web")
    assert type(found.time) is datetime
    assert found.time.tzinfo is UTC
