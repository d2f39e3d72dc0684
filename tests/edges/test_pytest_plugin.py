"""The fixture `local_cloud_run`, used as somebody would who tests a pipeline of their own."""

import pytest

pytest_plugins = ["pytester"]

A_USERS_TEST = """
    import http.client
    import subprocess
    import sys

    import pytest

    SAMPLE = [sys.executable, "-m", "controller.emulator.sample"]

    def answer_of(local, service):
        connection = http.client.HTTPConnection(local.front_address, timeout=10)
        connection.request("GET", "/", headers={"Host": f"{service}.localhost"})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    @pytest.mark.local_cloud_run(speed=240, project="shop")
    def test_a_pipeline(local_cloud_run, monkeypatch, tmp_path):
        local_cloud_run.deploy("web", SAMPLE, env={"TEXT": "one"})
        for name, value in local_cloud_run.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        local_cloud_run.deploy("web", SAMPLE, env={"TEXT": "two"}, no_traffic=True, tag="next")
        assert answer_of(local_cloud_run, "next---web") == (200, "two\\n")
        assert answer_of(local_cloud_run, "web") == (200, "one\\n")
        said = subprocess.run(
            [sys.executable, "-m", "controller", "status", "web"], capture_output=True, text=True
        )
        assert "web" in said.stdout + said.stderr
        assert said.returncode in (0, 2), said.stderr

    @pytest.mark.local_cloud_run(sped=1)
    def test_a_misspelled_setting(local_cloud_run):
        raise AssertionError

    @pytest.mark.local_cloud_run(60)
    def test_a_nameless_setting(local_cloud_run):
        raise AssertionError

    @pytest.mark.local_cloud_run(speed=-1)
    def test_a_clock_that_goes_back(local_cloud_run):
        raise AssertionError

    @pytest.mark.local_cloud_run(speed=0)
    def test_a_clock_that_is_moved_by_hand(local_cloud_run):
        local_cloud_run.deploy("web", f"{sys.executable} -m controller.emulator.sample")
        assert answer_of(local_cloud_run, "web")[0] == 200

    def test_each_test_has_its_own(local_cloud_run):
        assert answer_of(local_cloud_run, "web")[0] == 404
"""


@pytest.mark.processes
def test_a_pipeline_can_be_tested_with_the_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(A_USERS_TEST)
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "--strict-markers")
    result.assert_outcomes(passed=3, errors=3)
    result.stdout.fnmatch_lines(["*@pytest.mark.local_cloud_run: *unexpected keyword argument 'sped'*"])
    result.stdout.fnmatch_lines(["*every setting has to be named, as in speed=60*"])
    result.stdout.fnmatch_lines(["*speed must be 0 (moved by hand) or more, not -1*"])


def test_the_plugin_costs_nothing_to_those_who_do_not_use_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\n\ndef test_it():\n    assert 'grpc' not in sys.modules\n")
    pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider").assert_outcomes(passed=1)
