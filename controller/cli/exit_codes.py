"""Exit codes: what a pipeline learns from the end of a command."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The number a command ends with."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    ROLLED_BACK = 3
    UNSURE = 4
    SUPERSEDED = 5
    FAILED = 6
    UNAVAILABLE = 7
    HARMFUL = 8
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    ExitCode.DONE: "promoted, or the command took effect",
    ExitCode.UNEXPECTED: "an unexpected error",
    ExitCode.USAGE: "bad usage or policy, an unknown service or revision, or a rollout that must not begin",
    ExitCode.ROLLED_BACK: "rolled back: stable serves all users",
    ExitCode.UNSURE: "held: not decided within the policy's time, a person has to look",
    ExitCode.SUPERSEDED: "superseded by a newer revision, or by traffic edited by hand",
    ExitCode.FAILED: "failed: the candidate never became ready, no user met it; or `probe` had a bad answer",
    ExitCode.UNAVAILABLE: "an API cannot be reached, or may not be used",
    ExitCode.HARMFUL: "harmful: the revision that serves all users harms them, and nobody was sent back",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C); the rollout stays as it is",
    ExitCode.TERMINATED: "terminated (SIGTERM); the rollout stays as it is",
}
