"""What one pass over a fleet costs: calls of each kind, and real seconds, with and without a memory.

200 services at rest whose health is checked, and a handful of rollouts under way, on a local Cloud Run: the
number that is promised. Then, without a promise, the same with probes and request logs in the policies of the
rollouts. The fleet is that of the tests: PYTHONPATH=tests:tests/simulation python benchmarks/check.py
"""

import argparse
import sys
import time
from collections import Counter
from typing import Any

import structlog
from fleet import Fleet, a_fleet

from controller.emulator.settings import SimulatedLogs
from controller.engine.sweep import Memories

MOST_CALLS = 10
"""Of each kind, in one pass."""
ANSWERING: dict[str, Any] = {"simulated_front": True, "simulated_logs": SimulatedLogs.ALL}
WATCHED: dict[str, Any] = {"probes": [{"path": "/", "every": "30s"}], "request_logs": "on"}


def main() -> int:
    """Measure, print, and say whether the promise is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resting", type=int, default=200, help="services at rest")
    parser.add_argument("--rolling", type=int, default=5, help="rollouts under way")
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(f"{chosen.resting} services at rest, {chosen.rolling} rollouts under way")
    with a_fleet() as fleet:
        fleet.deploy_all(chosen.resting, chosen.rolling)
        most = most_calls(fleet)
    kept = most <= MOST_CALLS
    print(f"at most {most} calls of a kind; {MOST_CALLS} are promised: {'kept' if kept else 'BROKEN'}")
    print("\nthe same, with probes and request logs in the policies of the rollouts")
    with a_fleet(**ANSWERING) as fleet:
        fleet.deploy_all(chosen.resting, chosen.rolling, **WATCHED)
        print(f"at most {most_calls(fleet)} calls of a kind; nothing is promised")
    return 0 if kept else 1


def most_calls(fleet: Fleet) -> int:
    """Sweep without and with a memory, and return how many calls of one kind either took at most."""
    first = measured(fleet, "canary check, all read anew", None)
    memories = Memories()
    fleet.sweep(memories)
    fleet.wait(60)
    again = measured(fleet, "canary run, a minute later", memories)
    return max((first | again).values())


def measured(fleet: Fleet, name: str, memories: Memories | None) -> Counter[str]:
    """Sweep once, and print what it took."""
    begun = time.perf_counter()
    _, calls = fleet.counted_sweep(memories)
    seconds = time.perf_counter() - begun
    kinds = ", ".join(f"{method} {number}" for method, number in sorted(calls.items()))
    print(f"{name}: {seconds:.2f} s, {kinds}")
    return calls


if __name__ == "__main__":
    sys.exit(main())
