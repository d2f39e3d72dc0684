"""What gcloud says of its own commands, so that what we tell people to type is known to it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import SECONDS

needs_gcloud = pytest.mark.skipif(
    shutil.which("gcloud") is None,
    reason="gcloud is not installed: https://cloud.google.com/sdk/docs/install",
)


def help_of(folder: Path, command: str) -> str:
    """Return the help of a command, without the marks of a terminal."""
    done = subprocess.run(
        ["gcloud", *command.split(), "--help"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "CLOUDSDK_CONFIG": str(folder / "config")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"gcloud {command}: {done.stderr}"
    wide = {"--project"}  # of every command
    return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout) + " ".join(wide)
