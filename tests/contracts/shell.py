"""The command `canary`, run as a person runs it, with a local Cloud Run of the test's own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class Shell:
    """Runs `canary` with a state directory of its own; each command begins with the same words."""

    def __init__(self, directory: Path, *words: str) -> None:
        self._environment = {**os.environ, "CANARY_LOCAL_DIR": str(directory)}
        self._words = words

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._run(arguments, environment)

    def said(self, *arguments: str) -> str:
        """Return what a command that must work has printed."""
        done = self._run(arguments, {})
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def _run(self, arguments: tuple[str, ...], more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "controller", *self._words, *arguments],
            env={**self._environment, **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
