"""The query language of Cloud Logging, by the facts about it."""

from datetime import timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.logging_v2.types import LogEntryOperation, LogEntrySourceLocation

from contracts.conftest import Google
from controller.emulator.filter_syntax import MOST_NESTED
from controller.emulator.logs.entries import STDOUT

from .log_entries import LOG, SECOND, a_line, a_request, an_entry, found, listed, write


def three_entries(google: Google) -> None:
    now = google.local.now()
    write(
        google,
        an_entry(
            "a",
            timestamp=now,
            payload={"phase": "stepping", "steps": [10, 50], "none": None, "a.b": {"c": True}},
            labels={"kind": "audit", "k8s-pod/x": "Y"},
            operation=LogEntryOperation(id="op-1", producer="canary", first=True),
            trace="projects/demo/traces/t1",
            trace_sampled=True,
        ),
        an_entry(
            "b",
            timestamp=now + SECOND,
            payload={"phase": "baking", "split": {"candidate": 50}},
            severity="ERROR",
            source_location=LogEntrySourceLocation(file="judge.py", line=12, function="judge"),
        ),
        an_entry("c", timestamp=now + 2 * SECOND, text_payload="plain text Straße", severity="INFO"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "abc"),
        ('jsonPayload.phase="baking"', "b"),
        ("jsonPayload.split.candidate>=50", "b"),
        ('jsonPayload.phase:("bak" OR "step")', "ab"),
        ('jsonPayload.phase=("stepping" OR "baking") severity>=WARNING', "b"),
        ('jsonPayload.phase:("a" AND "i")', "b"),
        ('jsonPayload.phase:("a" "i")', "b"),
        ('jsonPayload.phase:(NOT "a")', "ac"),
        ('jsonPayload.phase=("x" OR ("stepping" AND NOT "y"))', "a"),
        ("jsonPayload.phase:*", "ab"),
        ("httpRequest:*", ""),
        ("operation:*", "a"),
        ("severity:*", "bc"),
        ('labels."k8s-pod/x":*', "a"),
        ('labels."k8s-pod/x"="y"', "a"),
        ("labels.kind=audit", "a"),
        ('labels:"audit"', "a"),
        ('resource.labels.service_name="web" AND resource.type="cloud_run_revision"', "abc"),
        ('jsonPayload."a.b".c=true', "a"),
        ("jsonPayload.steps=50", "a"),
        ("jsonPayload.steps>60", ""),
        ("jsonPayload.none=NULL_VALUE", "a"),
        ("jsonPayload.none=null", "a"),
        ('jsonPayload.none="null"', ""),
        ('jsonPayload.split.candidate="fifty"', ""),
        ('jsonPayload:"baking"', "b"),
        ("operation.id=op-1 operation.first=true", "a"),
        ("sourceLocation.line>10", "b"),
        ("source_location.file:judge", "b"),
        ("trace_sampled=true", "a"),
        ('trace="projects/demo/traces/t1"', "a"),
        ('textPayload:"plain"', "c"),
        (r'textPayload=~"^plain\s+text"', "c"),
        ('textPayload!~"plain"', "ab"),
        ('jsonPayload.phase=~"^b"', "b"),
        ('jsonPayload.phase!~"^b"', "a"),
        ("severity=~ERR", "b"),
        ('"plain"', "c"),
        ("plain", "c"),
        ("canary", "abc"),
        ("judge", "b"),
        ('"PLAIN TEXT"', "c"),
        ("50", "ab"),
        ("'plain' -baking", "c"),
        ('-"plain"', "ab"),
        (f'logName="{LOG}"', "abc"),
        ('log_id("canary.example.com/audit")', "abc"),
        ('log_id("audit")', ""),
        ("source(projects/demo)", "abc"),
        ("source(projects/other)", ""),
        ('insertId=("a" OR "c")', "ac"),
        ("(severity=ERROR)", "b"),
        ("NOT (severity=ERROR OR severity=INFO)", "a"),
        ("NOT NOT severity=ERROR", "b"),
        ("and", ""),
        ('timestamp>="2026-01-05T09:00:01Z" -- from the second on', "bc"),
        ("-- nothing else\nseverity=ERROR -- and nothing here", "b"),
        ("timestamp>=2026-01-05T09:00:01Z", "bc"),
        ('timestamp>="2026-01-05T10:00:01+01:00"', "bc"),
        ('timestamp>"2026-01-05T09:00:00.999999999Z"', "bc"),
        ('timestamp<"2026-01-06"', "abc"),
        ("timestamp<2026-01-05", ""),
        ('timestamp="2026-01-05T09:00:01Z"', "b"),
        ('NOT timestamp>"2026-01-05T09:00:01Z"', "ab"),
        ('timestamp<"2026-01-05T09:00:01Z" OR timestamp>"2026-01-05T09:00:01Z"', "ac"),
        ('receiveTimestamp<"2026-01-05T09:00:00Z"', ""),
        ('receiveTimestamp>="2026-01-05T09:00:00Z" receiveTimestamp<"2026-01-05T09:00:01Z"', "abc"),
    ],
)
def test_filters_choose_entries(google: Google, text: str, expected: str) -> None:
    three_entries(google)
    assert "".join(found(google, text)) == expected


@pytest.mark.parametrize("negation", ["NOT ", "-"])
def test_not_binds_tighter_than_or_and_or_tighter_than_and(google: Google, negation: str) -> None:
    """`a OR NOT b AND NOT c OR d` = `(a OR (NOT b)) AND ((NOT c) OR d)`."""
    three_entries(google)
    is_error, is_info, is_plain = "severity=ERROR", "severity=INFO", 'textPayload:"plain"'
    bare = f"{is_error} OR {negation}{is_info} AND {negation}{is_plain} OR {is_error}"
    clear = f"({is_error} OR (NOT {is_info})) AND ((NOT {is_plain}) OR {is_error})"
    assert found(google, bare) == found(google, clear) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('jsonPayload.phase="BAKING"', "b"),
        ('textPayload:"STRASSE"', "c"),
        ('textPayload:"\uff30lain"', "c"),
        ('textPayload=~"PLAIN"', ""),
        ('textPayload=~"(?i)PLAIN"', "c"),
        ('resource.type="CLOUD_RUN_REVISION"', "abc"),
        ("severity=error", "b"),
    ],
)
def test_texts_are_compared_without_case_but_for_regular_expressions(
    google: Google, text: str, expected: str
) -> None:
    """String comparison case-insensitive (NFKC_CF), regex is not normalised."""
    three_entries(google)
    assert "".join(found(google, text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("severity>=INFO", "bc"),
        ("severity>=200", "bc"),
        ("severity>200", "b"),
        ("severity<450", "ac"),
        ("severity >= DEFAULT", "abc"),
        ("severity!=ERROR", "ac"),
        ("severity=(INFO OR ERROR)", "bc"),
    ],
)
def test_severities_compare_as_numbers(google: Google, text: str, expected: str) -> None:
    """Enum severity compares numerically."""
    three_entries(google)
    assert "".join(found(google, text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('jsonPayload.phase="baking"', "b"),
        ('jsonPayload.phase!="baking"', "a"),
        ('NOT jsonPayload.phase="baking"', "ac"),
        ('jsonPayload.phase<="z"', "ab"),
        ('labels.kind!="x"', "a"),
        ('NOT labels.kind="x"', "abc"),
        ('labels.kind!~"x"', "a"),
        ('resource.labels.location!="x"', ""),
    ],
)
def test_comparisons_of_missing_fields_are_false(google: Google, text: str, expected: str) -> None:
    """labels/payload fields are *missing*: comparison false, `NOT x=y` true, `x!=y` false."""
    three_entries(google)
    assert "".join(found(google, text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("httpRequest.status=0", "abc"),
        ("httpRequest.status!=500", "abc"),
        ('httpRequest.latency<"1s"', "abc"),
        ('textPayload=""', "ab"),
        ('operation.id=""', "bc"),
        ("operation.last=false", "abc"),
        ('httpRequest.requestMethod=""', "abc"),
    ],
)
def test_fields_that_log_entries_define_have_a_default(google: Google, text: str, expected: str) -> None:
    """LogEntry-defined fields are *defaulted* (status missing = 0)."""
    three_entries(google)
    assert "".join(found(google, text)) == expected


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('httpRequest.latency>"2s"', 1),
        ('httpRequest.latency>="2.5s"', 1),
        ("httpRequest.latency>2500ms", 0),
        ('httpRequest.latency<"1m"', 2),
        ('httpRequest.latency>"1m30s"', 0),
        ("httpRequest.latency>-1s", 2),
        ("httpRequest.status>=500", 1),
        ('httpRequest.status="503"', 1),
        ("httpRequest.status=(200 OR 503)", 2),
        ('httpRequest.requestUrl:"---"', 1),
        ('NOT httpRequest.requestUrl:"---"', 1),
        ('httpRequest.userAgent="canary-probe/1"', 1),
        ('NOT httpRequest.userAgent:"canary-probe"', 1),
        ("httpRequest.responseSize>1024", 1),
        ('labels.instanceId="i1"', 1),
        ("labels.instanceId:*", 1),
        ('httpRequest.remoteIp="127.0.0.1"', 2),
        ('log_id("run.googleapis.com/requests") textPayload:"no available instance"', 1),
        ("503", 1),
        ("canary-probe", 1),
        ("NOT sample(insertId, 0)", 2),
        ("sample(insertId, 1)", 2),
        ("sample(labels.instanceId, 1)", 1),
    ],
)
def test_requests_are_found_by_what_is_logged_of_them(google: Google, text: str, count: int) -> None:
    a_request(google, instance="i1", user_agent="canary-probe/1", url="http://next---web.localhost/")
    a_request(
        google,
        503,
        failure="The request was aborted because there was no available instance.",
        latency=timedelta(seconds=2.5),
        response_size=2048,
    )
    assert len(found(google, text)) == count


def test_a_sample_is_the_share_that_is_asked_for_and_the_same_each_time(google: Google) -> None:
    """`sample(insertId, 0.1)` deterministic; users exclude by `NOT sample(insertId,0.1)`."""
    for _ in range(900):
        a_request(google)
    everything = found(google, page_size=1000)
    chosen = found(google, "sample(insertId, 0.1)", page_size=1000)
    assert found(google, "sample(insertId, 0.1)", page_size=1000) == chosen
    assert 60 <= len(chosen) <= 120
    others = found(google, "NOT sample(insertId,0.1)", page_size=1000)
    assert sorted([*chosen, *others]) == sorted(everything)


def test_the_filter_of_gcloud_logging_read_is_understood(google: Google) -> None:
    """filter: timestamp>="T" AND <filter>, orderBy "timestamp desc"."""
    three_entries(google)
    text = 'timestamp>="2026-01-05T09:00:00.500000Z" AND severity>=INFO'
    assert found(google, text, order_by="timestamp desc") == ["c", "b"]


def test_the_filter_of_gcloud_run_services_logs_read_is_understood(google: Google) -> None:
    """Unquoted values, spaces round '=', newlines."""
    a_request(google)
    a_line(google, "hello", STDOUT)
    text = (
        "resource.type = cloud_run_revision \n AND resource.labels.service_name = web \n "
        "AND resource.labels.location = local-1 \n AND severity >= DEFAULT \n "
        'AND timestamp>="2026-01-05T08:00:00.000000Z"'
    )
    assert len(found(google, text)) == 2
    assert found(google, text.replace("= web ", "= other ")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("severity>=LOUD", "'LOUD' is not a value of this field at position 11"),
        ("colour=red", "unknown field 'colour' at position 1"),
        ("severity=INFO colour=red", "unknown field 'colour' at position 15"),
        ("labels..x=red", "unknown field 'labels..x' at position 1"),
        ("severity=ERROR AND (", "the end of the filter at position 21"),
        ("severity=ERROR AND", "found the end of the filter at position 19"),
        ("AND severity=ERROR", "expected a comparison, found 'AND' at position 1"),
        ("severity=ERROR AND OR x", "expected a comparison, found 'OR' at position 20"),
        ("severity=(ERROR", "expected '\\)', found the end of the filter at position 16"),
        ("severity=()", "expected a value, found '\\)' at position 11"),
        ("severity=ERROR)", "found '\\)' at position 15"),
        ("severity=", "expected a value, found the end of the filter at position 10"),
        ("severity=AND", "expected a value, found 'AND' at position 10"),
        ("insertId = abc:def", "found ':' at position 15"),
        ('textPayload="a', "a quoted string without an end at position 13"),
        ('textPayload=~"("', "is no regular expression"),
        ('textPayload=~"' + "(" * 15_000 + '"', "is no regular expression"),
        ('textPayload=~"a(?=b)"', "is no regular expression"),
        ('textPayload=~"(((a{100}){100}){100})"', "is no regular expression"),
        ("httpRequest.status=many", "'many' is not a value of this field at position 20"),
        ("httpRequest.latency>2", "'2' is not a value of this field at position 21"),
        ("timestamp>yesterday", "'yesterday' is not a value of this field at position 11"),
        ('timestamp>"2026-02-30T00:00:00Z"', "is not a value of this field at position 11"),
        ("traceSampled=1", "'1' is not a value of this field at position 14"),
        ("labels=x", "an object can only be searched"),
        ('httpRequest=~"x"', "an object has no text to match"),
        ("sample(insertId, 2)", "'2' is not a share from 0 to 1 at position 18"),
        ("sample(nothing, 0.5)", "unknown field 'nothing' at position 8"),
        ("regexp(insertId)", "unknown function 'regexp'"),
        ("~", "unexpected character '~' at position 1"),
        ("(" * 10_000, f"nested more than {MOST_NESTED} deep at position {MOST_NESTED + 1}"),
        ("NOT " * 4_999, "found the end of the filter"),
    ],
)
def test_a_bad_filter_is_refused_with_the_position(google: Google, text: str, message: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=message):
        listed(google, text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * MOST_NESTED + "plain" + ")" * MOST_NESTED,
        " OR ".join(["nothing"] * 1600 + ["plain"]),
        " ".join(["plain"] * 3000),
        "NOT " * 4_000 + "plain",
        'textPayload="' + "x" * 19_000 + '" OR plain',
        r'textPayload=~"(a+)+$" OR plain',
    ],
    ids=["parentheses", "OR", "AND", "NOT", "value", "regular expression"],
)
def test_the_longest_filters_are_answered(google: Google, text: str) -> None:
    """The filter has at most 20,000 characters."""
    write(google, an_entry("a", text_payload="plain " + "a" * 10_000 + "!"), an_entry("b"))
    assert found(google, text) == ["a"]


def test_a_payload_field_is_compared_as_what_it_is(google: Google) -> None:
    payloads: dict[str, Any] = {"text": {"x": "10"}, "number": {"x": 10}, "truth": {"x": True}}
    write(google, *(an_entry(name, payload=payload) for name, payload in payloads.items()))
    assert sorted(found(google, "jsonPayload.x=10")) == ["number", "text"]
    assert found(google, "jsonPayload.x>9") == ["number"]
    assert found(google, "jsonPayload.x=TRUE") == ["truth"]
    assert found(google, "jsonPayload.x:1") == ["text"]
