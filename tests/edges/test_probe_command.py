"""`canary probe`: the smoke paths and probes of a policy, asked of a service as a pipeline asks staging."""

import pytest

from .conftest import Cloud, Shell, reports_in

pytestmark = pytest.mark.processes

ASKS = """\
version: 1
smoke: [/health]
probes: [{path: /start, expect: {contains: hello}}, {path: /orders, method: POST, writes: true}]
hold: {at_least: 1m}
"""


def test_a_service_that_answers_well_passes_with_a_line_for_each_probe(cloud: Cloud) -> None:
    name = cloud.a_service(TEXT="hello")
    done = cloud.canary("probe", name, "--policy", cloud.file("asks.yaml", ASKS))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    url = cloud.service(name).uri
    asked = [f"good   {each} was answered with 200 in " for each in requests_to(url)]
    assert [line.partition("0.")[0] for line in lines] == asked


def requests_to(url: str) -> list[str]:
    return [f"GET {url}/health", f"GET {url}/start", f"POST {url}/orders"]


def test_one_bad_answer_fails_the_check_and_says_what_was_wrong(cloud: Cloud) -> None:
    name = cloud.a_service(TEXT="good evening")
    policy = cloud.file("asks.yaml", ASKS)
    done = cloud.canary("probe", name, "--policy", policy, "--json")
    assert (done.returncode, done.stderr) == (6, "")
    reports = reports_in(done.stdout)
    assert [(each["probe"], each["ok"], each["status"]) for each in reports] == [
        ("GET /health", True, 200),
        ("GET /start", False, 200),
        ("POST /orders", True, 200),
    ]
    assert reports[1]["problem"].endswith("was answered with 200, but without the text 'hello'")
    shown = cloud.canary("probe", name, "--policy", policy)
    assert shown.returncode == 6
    assert f"\nfailed {reports[1]['problem']}\n" in shown.stdout


def test_a_tag_leads_to_its_own_revision(cloud: Cloud) -> None:
    name = cloud.a_service(TEXT="hello")
    cloud.deploy(name, "v2", {"ERROR_SHARE": "1"}, no_traffic=True, tag="next")
    policy = cloud.file("health.yaml", "version: 1\nsmoke: [/health]\n")
    assert cloud.canary("probe", name, "--policy", policy).returncode == 0
    at_tag = cloud.canary("probe", name, "--policy", policy, "--tag", "next")
    assert at_tag.returncode == 6
    assert at_tag.stdout.startswith(f"failed GET http://next---{name}.localhost:")
    assert "was answered with 500, not 2xx or 3xx" in at_tag.stdout


def test_what_cannot_be_asked_is_a_mistake_and_no_bad_answer(cloud: Cloud) -> None:
    name = cloud.a_service()
    silent = cloud.file("silent.yaml", "version: 1\n")
    secret = cloud.file(
        "secret.yaml", 'version: 1\nprobes: [{path: /, headers: {Authorization: "env:NOT_THERE"}}]\n'
    )
    asks = cloud.file("asks.yaml", ASKS)
    for line, complaint in {
        f"probe {name} --policy {silent}": "the policy asks nothing; give it smoke: [/health], or probes",
        f"probe {name} --policy {secret}": "variable NOT_THERE, which is not set",
        f"probe {name} --policy {asks} --tag blue": f"service {name} has no tag 'blue'; its tags: none",
        f"probe no-such-{name} --policy {asks}": f"no-such-{name}",
    }.items():
        command, service, *more = line.split()
        done = cloud.canary(command, service, *more)
        assert (done.returncode, done.stdout) == (2, ""), line
        assert complaint in " ".join(done.stderr.replace("│", " ").split())


def test_a_place_is_asked_for(shell: Shell) -> None:
    done = shell("probe", "web", "--policy", shell.file("asks.yaml", ASKS))
    assert done.returncode == 2
    assert "missing --project and --region" in done.stderr
