"""The image: every step of its Dockerfile is executed, without Docker, and what comes out is used."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import PLACE, SECONDS, Running
from .dockerfile import Image, build, sent_context, steps_of
from .simulated import a_simulated_cloud

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
LARGEST = 120_000_000
"""Bytes of site-packages."""
OF_PIP = {name: value for name, value in os.environ.items() if re.match("PIP_|(?i:https?_proxy)", name)}
"""How this machine reaches PyPI."""


# --- what the Dockerfile says ---


def test_every_stage_begins_with_the_same_bytes() -> None:
    steps = steps_of(DOCKERFILE.read_text())
    bases = [step.rest.partition(" AS ")[0] for step in steps if step.word == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", bases[0])


def test_nothing_is_installed_that_is_not_locked_and_nothing_is_compiled() -> None:
    commands = [step.rest for step in steps_of(DOCKERFILE.read_text()) if step.word == "RUN"]
    installs = [part for command in commands for part in command.split("&&") if " install " in part]
    assert len(installs) == 3
    for install in installs:
        from_pypi = {"--only-binary", "--require-hashes"} <= set(install.split())
        own_wheel = {"--no-index", "--no-deps"} <= set(install.split())
        assert from_pypi or own_wheel, install


def test_it_is_nobody_special_and_gets_signals_itself() -> None:
    words = dict(steps_of(DOCKERFILE.read_text()))
    user, group = map(int, words["USER"].split(":"))
    assert user >= 10_000
    assert group >= 10_000
    assert json.loads(words["ENTRYPOINT"]) == ["canary"], "exec form: no shell stands before it"
    assert json.loads(words["CMD"]) == ["--help"]


# --- what it makes ---


@contextmanager
def an_image() -> Iterator[Image]:
    """Build the image where nothing but this Python and `rm` can be called."""
    with tempfile.TemporaryDirectory() as folder:
        place, tools = Path(folder), Path(folder) / "base"
        tools.mkdir()
        (tools / "python").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
        (tools / "rm").symlink_to(str(shutil.which("rm")))
        (tools / "sh").symlink_to("/bin/sh")
        _skip_without_pypi(tools / "python", place)
        context = sent_context(ROOT, place / "context")
        yield build(DOCKERFILE, context, place, {"PATH": str(tools), **OF_PIP})


def _skip_without_pypi(python: Path, place: Path) -> None:
    """Skip where the smallest of our requirements cannot be had."""
    ask = [str(python), "-m", "pip", "download", "--no-deps", "--retries", "0", "--no-cache-dir"]
    asked = subprocess.run(
        [*ask, "--dest", str(place / "asked"), "annotated-types"],
        env={"PATH": os.environ["PATH"], **OF_PIP},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if asked.returncode:
        said = (asked.stderr.strip().splitlines() or ["nothing"])[-1]
        pytest.skip(f"the image needs pip and PyPI; pip says: {said}")


class Container:
    """Runs commands of an image in its environment, and in a directory that has nothing to do with it."""

    def __init__(self, image: Image, directory: Path) -> None:
        own = {name: value for name, value in image.environment.items() if name not in OF_PIP}
        own["PATH"] = f"{image.rewritten('/opt/canary/bin')}:/usr/bin:/bin"
        self.command = ("env", "-i", *(f"{name}={value}" for name, value in own.items()), "canary")
        self.directory = directory

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def start(self, *arguments: str) -> Running:
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- closed by Running
        process = subprocess.Popen(
            [*self.command, *arguments], cwd=self.directory, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        return Running(process, errors)


@pytest.mark.processes
def test_each_step_of_the_dockerfile_works_and_so_does_what_it_makes(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with an_image() as image:
        (packages,) = image.inside("/opt/canary").glob("lib/python3*/site-packages")
        holds_what_is_locked_and_no_more(packages)
        size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
        record_property("site_packages_bytes", size)
        sys.stdout.write(f"site-packages: {size / 1_000_000:.1f} MB\n")
        assert size <= LARGEST

        container = Container(image, tmp_path)
        health = json.loads(image.words["HEALTHCHECK"].partition(" CMD ")[2])
        assert health[0] == "canary"
        healthy = container(*health[1:])
        assert (healthy.returncode, healthy.stdout[:7]) == (0, "canary ")
        commands_work(container, image)
        a_signal_reaches_it(container, tmp_path)


def holds_what_is_locked_and_no_more(packages: Path) -> None:
    assert (packages / "controller").is_dir()
    assert not (packages / "controller/emulator").exists()
    requirements = (ROOT / "requirements/production.txt").read_text()
    locked = re.findall(r"^([a-z0-9.-]+)[\[=]", requirements, re.MULTILINE)
    found = [re.match(r"(.+?)-\d", each.name) for each in packages.glob("*.dist-info")]
    names = {each[1].lower().replace("_", "-") for each in found if each}
    assert "grpcio" in names
    assert names <= {*locked, "cloud-run-canary"}, "no pip, no build tool, no compiler"
    tools = {"cc", "gcc", "g++", "clang", "ld", "pip", "uv", "hatchling"}
    assert not tools & {each.name for each in (packages / "../../../bin").iterdir()}


def commands_work(container: Container, image: Image) -> None:
    policies = sorted(image.inside("/policies").glob("*.yaml"))
    assert "standard.yaml" in {policy.name for policy in policies}
    checked = container("policy", "check", *map(str, policies))
    assert (checked.returncode, checked.stderr) == (0, "")
    begun = container("init", "--project=my-project", "--region=europe-west1", "--service=web")
    assert (begun.returncode, begun.stderr) == (0, "")
    assert (container.directory / "canary.yaml").is_file()
    nowhere = container("status", "web")
    assert nowhere.returncode == 2
    assert "missing --project and --region" in " ".join(nowhere.stderr.split())
    dead = container("status", "web", "--emulator", "127.0.0.1:9", *PLACE)
    assert dead.returncode == 7
    assert dead.stderr.startswith("canary: ")
    demo = container("demo")
    assert demo.returncode == 1
    assert "pip install 'cloud-run-canary[emulator]'" in demo.stderr


def a_signal_reaches_it(container: Container, folder: Path) -> None:
    with a_simulated_cloud(folder, speed=120) as cloud:
        options = ("--every", "15s", "--health-port", "0", "--json")
        with container.start("run", *cloud.at, *options) as process:
            process.until(lambda report: "healthz" in report.get("note", ""))
            process.send(signal.SIGTERM)
            assert process.end(SECONDS) == 143
            assert "Traceback" not in process.stderr
