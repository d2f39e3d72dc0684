"""Fuzzes one parser for so many seconds: `python tests/fuzz/run.py record --seconds 60`.

Ends with 0 if nothing was found. What breaks a parser is kept in the folder `--kept`, to be named in a test.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["controller"], enable_loader_override=False):
    from fuzz.targets import TARGETS

SLOWEST = 5
"""Seconds that one input may take; more is a defect, too."""
MOST_MEMORY = 1024
"""MiB, with all that the libraries take for themselves."""


def main() -> None:
    """Read what is to be fuzzed, and begin from its examples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--kept", type=Path, default=Path(".fuzz"))
    asked = parser.parse_args()
    target = TARGETS[asked.target]
    asked.kept.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = {
            "max_total_time": asked.seconds,
            "max_len": 4 * max(map(len, target.seeds)),
            "timeout": SLOWEST,
            "rss_limit_mb": MOST_MEMORY,
            "artifact_prefix": f"{asked.kept}/{asked.target}-",
            "verbosity": 1,
        }
        atheris.Setup(
            [sys.argv[0], corpus, *(f"-{name}={value}" for name, value in options.items())],
            target.check,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
