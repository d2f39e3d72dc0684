"""The filter language of Monitoring, which is not that of Logging."""

from datetime import timedelta

import pytest
from google.api_core import exceptions
from google.cloud import monitoring_v3

from contracts.conftest import SECONDS, Google
from controller.emulator.names import RevisionKey

from .measured import COUNT, INSTANCES, LATENCIES, ONE, TWO, Measured, integers, measured_by

SHOP = RevisionKey("local-2", "shop", "shop-one")
EVERYTHING = {("web-one", "200"), ("web-one", "503"), ("web-two", "404"), ("shop-one", "200")}
PREFIX = f'metric.type="{COUNT}" '


@pytest.fixture
def measured(google: Google) -> Measured:
    measured = measured_by(google)
    for key, code in ((ONE, 200), (ONE, 503), (TWO, 404), (SHOP, 200)):
        measured.counts([1], key=key, code=code)
    return measured


def found(measured: Measured, text: str) -> set[tuple[str, str]]:
    return {
        (one.resource.labels["revision_name"], one.metric.labels["response_code"])
        for one in measured.ask(COUNT, text)
    }


IN_WEB, CODE = 'resource.labels.service_name="web"', "metric.labels.response_code"
WEB_ONE = {("web-one", "200"), ("web-one", "503")}
FAILED = {("web-one", "503")}
WEB = EVERYTHING - {("shop-one", "200")}
GOOD = {("web-one", "200"), ("shop-one", "200")}


@pytest.mark.parametrize(
    ("text", "series"),
    [
        # fields
        ("", EVERYTHING),
        ('resource.type="cloud_run_revision"', EVERYTHING),
        ('project="demo"', EVERYTHING),
        ('project="other"', set()),
        ('metric.label.response_code="503"', FAILED),
        ('metric.labels.response_code="503"', FAILED),
        ('metric.label."response_code"="503"', FAILED),
        ('metric.labels."response_code"="503"', FAILED),
        ('resource.label.location="local-2"', {("shop-one", "200")}),
        ('resource.labels."location"="local-2"', {("shop-one", "200")}),
        ('resource.labels.configuration_name="web"', WEB),
        ('resource.labels.project_id="demo"', EVERYTHING),
        ('metadata.user_labels."team"="a"', set()),
        ('metadata.user_labels.team != "a"', EVERYTHING),
        ('metadata.system_labels.region = "a"', set()),
        ('group.id="g"', set()),
        ('metric.labels.route=""', EVERYTHING),
        # operators
        ("metric.labels.response_code=503", FAILED),
        ('metric.labels.response_code != "503"', EVERYTHING - FAILED),
        ("metric.labels.response_code > 404", FAILED),
        ("metric.labels.response_code >= 404", {*FAILED, ("web-two", "404")}),
        ("metric.labels.response_code < 404", GOOD),
        ("metric.labels.response_code <= 404", EVERYTHING - FAILED),
        ('metric.labels.response_code_class:"xx"', EVERYTHING),
        ('metric.labels.response_code_class:"5x"', FAILED),
        ("metric.labels:response_code", EVERYTHING),
        # functions
        ('resource.labels.revision_name=starts_with("web-")', WEB),
        ('resource.labels.revision_name=ends_with("-two")', {("web-two", "404")}),
        ('resource.labels.revision_name=has_substring("op-o")', {("shop-one", "200")}),
        ('metric.labels.response_code=one_of("200","404")', EVERYTHING - FAILED),
        ('metric.labels.response_code=one_of("503")', FAILED),
        ('metric.labels.response_code!=one_of("200", "404")', FAILED),
        (
            'resource.labels.revision_name=monitoring.regex.full_match("(web|shop)-one")',
            EVERYTHING - {("web-two", "404")},
        ),
        ('resource.labels.revision_name=monitoring.regex.full_match("web")', set()),
        (r'metric.labels.response_code=monitoring.regex.full_match("\\d0\\d")', EVERYTHING),
        ('resource.labels.revision_name!=starts_with("web-")', {("shop-one", "200")}),
        # putting together
        ('resource.labels.service_name="web" AND metric.labels.response_code="200"', {("web-one", "200")}),
        ('resource.labels.service_name="web" metric.labels.response_code="200"', {("web-one", "200")}),
        ('(metric.labels.response_code="200" OR metric.labels.response_code="503")', GOOD | FAILED),
        ('NOT metric.labels.response_code="200"', {("web-two", "404"), *FAILED}),
        ('-metric.labels.response_code="200"', {("web-two", "404"), *FAILED}),
        (
            'NOT (resource.labels.service_name="web" AND metric.labels.response_code="200")',
            EVERYTHING - {("web-one", "200")},
        ),
        # OR before AND, as in Logging: a choice, for Google's own is not known
        (f'{IN_WEB} AND {CODE}="200" OR {CODE}="503"', WEB_ONE),
        (f'{CODE}="200" OR {CODE}="503" AND {IN_WEB}', WEB_ONE),
    ],
)
def test_a_filter_chooses_series(measured: Measured, text: str, series: set[tuple[str, str]]) -> None:
    assert found(measured, text) == series


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("AND", "expected a field"),
        ("AND AND", "expected a comparison"),
        ('resource.labels.service_name="web" AND', f"position {len(PREFIX) + 39}"),
        ('resource.labels.service_name="web" )', f"position {len(PREFIX) + 36}"),
        (
            '(resource.labels.service_name="web"',
            f"expected '\\)', found the end of the filter at position {len(PREFIX) + 36}",
        ),
        (
            'resource.labels.service_name=("a" OR "b")',
            "The right-hand side of a comparison contains an unsupported value",
        ),
        ('service_name="web"', f"unknown field 'service_name' at position {len(PREFIX) + 1}"),
        ('metric.labels="web"', f"unknown field 'metric.labels' at position {len(PREFIX) + 1}"),
        (
            "resource.labels.service_name",
            f"expected an operator after 'resource.labels.service_name' at position {len(PREFIX) + 29}",
        ),
        ('resource.labels.service_name=~"web"', f"expected an operator .* at position {len(PREFIX) + 29}"),
        (
            "resource.labels.service_name=",
            f"expected a value, found the end of the filter at position {len(PREFIX) + 30}",
        ),
        ('resource.labels.service_name="web', f"position {len(PREFIX) + 30}"),
        (
            'resource.labels.service_name=sounds_like("web")',
            f"unknown function 'sounds_like' at position {len(PREFIX) + 30}",
        ),
        (
            'resource.labels.service_name=starts_with("a","b")',
            f"'starts_with' takes one argument, not 2 at position {len(PREFIX) + 30}",
        ),
        (
            "resource.labels.service_name=starts_with()",
            f"expected a value, found '\\)' at position {len(PREFIX) + 42}",
        ),
        ('resource.labels.service_name=one_of("a" "b")', f"expected '\\)'.* at position {len(PREFIX) + 41}"),
        (
            'resource.labels.service_name=monitoring.regex.full_match("(")',
            f"is no regular expression \\(missing \\): \\(\\) at position {len(PREFIX) + 58}",
        ),
        (
            r'resource.labels.service_name=monitoring.regex.full_match("(.)\\1")',
            f"is no regular expression .* at position {len(PREFIX) + 58}",
        ),
        ('metric.labels.response_code > "many"', f"expected a number at position {len(PREFIX) + 31}"),
        pytest.param("(" * 10_000, "nested", id="deep"),
        pytest.param("NOT " * 4_000, "expected", id="negated"),
        pytest.param("NOT " * 10_000, "characters; 20000 are the most", id="long"),
    ],
)
def test_a_bad_filter_is_invalid_and_the_message_names_the_position(
    measured: Measured, text: str, message: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=message):
        measured.ask(COUNT, text)


@pytest.mark.parametrize(
    "text",
    [
        'resource.type="cloud_run_revision"',
        f'metric.type="{COUNT}" OR metric.type="{LATENCIES}"',
        'metric.type=starts_with("run.googleapis.com/request_")',
        f'metric.type=one_of("{COUNT}")',
        f'metric.type!="{COUNT}"',
    ],
)
def test_a_filter_must_name_a_single_metric_type_by_equals(google: Google, text: str) -> None:
    """ "must specify a single metric type"; `=` on metric.type, starts_with only on ListMetricDescriptors."""
    request = {"name": "projects/demo", "filter": text}
    with pytest.raises(exceptions.InvalidArgument, match="must specify a single metric type"):
        google.metrics.list_time_series(request=request)


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (COUNT, 'resource.type="gce_instance"'),
        (COUNT, 'resource.labels.instance_id="1"'),
        (COUNT, 'metric.labels.state="active"'),
        (INSTANCES, 'metric.labels.response_code="200"'),
    ],
)
def test_a_label_or_resource_that_the_metric_does_not_have_is_refused(
    google: Google, metric: str, text: str
) -> None:
    with pytest.raises(
        exceptions.InvalidArgument, match="does not specify a valid combination of metric and"
    ):
        Measured(google).ask(metric, text)


def test_the_metric_may_be_named_twice_in_the_same_way(measured: Measured) -> None:
    (series,) = measured.ask(COUNT, f'{PREFIX} AND metric.labels.response_code="503"')
    assert integers(series) == [1]


def test_a_refusal_that_quotes_a_very_long_word_still_arrives(google: Google) -> None:
    end = google.local.now()
    request = monitoring_v3.ListTimeSeriesRequest(
        name="projects/demo",
        filter=f'metric.type="run.googleapis.com/request_count" {"x" * 19_000}="a"',
        interval=monitoring_v3.TimeInterval(start_time=end - timedelta(minutes=1), end_time=end),
    )
    with pytest.raises(exceptions.InvalidArgument, match="unknown field"):
        google.metrics.list_time_series(request=request, timeout=SECONDS)
