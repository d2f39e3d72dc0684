"""The fuzzed parsers: their examples hold, and a fuzzer finds nothing in a few seconds; see `make fuzz`."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from .targets import TARGETS

RUN = Path(__file__).with_name("run.py")


@pytest.mark.parametrize("name", TARGETS)
def test_the_examples_of_a_target_hold(name: str) -> None:
    target = TARGETS[name]
    assert target.seeds
    for seed in target.seeds:
        target.check(seed)


@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed")
@pytest.mark.parametrize("name", ["record", "policy"])
def test_a_fuzzer_finds_nothing_in_a_few_seconds(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(RUN), name, "--seconds", "5", "--kept", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert not list(tmp_path.iterdir())
    assert "Done " in done.stderr
