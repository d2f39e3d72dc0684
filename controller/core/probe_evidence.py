"""Evidence from probes: the answers of stable and candidate to the same request, pair by pair."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controller.core.counts import Histogram, counted_in_buckets
from controller.core.evidence import MINUTE, Evidence, Minute, Sample, Source, Stage, Tick, Window
from controller.core.policy_probes import Probe

GOOD, BAD = "200", "500"
"""What an answer counts as, whatever its code: the expectation decides."""
LARGEST_CODE, LONGEST = 999, 3600
LATE = 2
"""Minutes in which a request may be counted, from the one that it ended in."""


@dataclass(frozen=True)
class Answer:
    """What a revision made of a probe; `status` is 0 where there was no answer.

    `problem` is one sentence, with what to do where something can be done; empty when all is well. `reached`
    tells whether the service could have answered, `kept_out` whether a sign-in that stands before it answered
    in its place. Neither is in the log: they matter only to who has just asked.
    """

    ok: bool
    status: int
    seconds: float
    problem: str = ""
    reached: bool = field(default=False, compare=False)
    kept_out: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Pair:
    """The same probe, asked of both revisions; there may be no stable.

    `time` is that of its turn, `asked_at` when it was really asked: a turn can be late.
    """

    time: datetime
    name: str
    candidate: Answer
    stable: Answer | None = None
    asked_at: datetime | None = None
    cold: bool = False
    """Whether instances may have had to start for it."""

    @property
    def moment(self) -> datetime:
        """When it was asked, as far as that is known."""
        return self.asked_at or self.time


def slot_of(probe: Probe, number: int, now: datetime) -> datetime:
    """Return the time that the newest turn of a probe, the so manieth of its policy, is known by.

    It is the same for whoever asks, so that two controllers make one pair of it; and no two probes have the
    same.
    """
    every = probe.every.total_seconds()
    turn = datetime.fromtimestamp(now.timestamp() // every * every, now.tzinfo)
    return turn + timedelta(microseconds=number)


def arrange_probes(
    windows: Sequence[Window], pairs: Iterable[Pair], since: datetime | None = None
) -> Evidence:
    """Return a tick for each pair inside a window, after `since`, in the order of their times."""
    known = sorted(pairs, key=lambda pair: pair.time)
    stages = tuple(
        Stage(window.percent, tuple(_tick(pair) for pair in known if _is_in(pair.time, window, since)))
        for window in windows
    )
    return Evidence(stages, source=Source.PROBES)


def _is_in(time: datetime, window: Window, since: datetime | None) -> bool:
    begun = time >= window.start and (since is None or time > since)
    return begun and (window.end is None or time <= window.end)


def _tick(pair: Pair) -> Tick:
    """Return a pair as a tick; latencies are compared only where both were warm, and answered well."""
    timed = not pair.cold and pair.candidate.ok and pair.stable is not None and pair.stable.ok
    return Tick(pair.time, _sample(pair.stable, timed=timed), _sample(pair.candidate, timed=timed))


def _sample(answer: Answer | None, *, timed: bool) -> Sample:
    if answer is None:
        return Sample()
    latencies = counted_in_buckets([answer.seconds * 1000]) if timed else None
    return Sample({GOOD if answer.ok else BAD: 1}, latencies)


def answered_well(probed: Sample) -> int:
    """Return how many probes were answered as they should be."""
    return probed.having((GOOD,))


Asked = tuple[datetime, Answer]
"""When something was asked, and what came of it."""


def without_probes(minutes: Iterable[Minute], asked: Iterable[Asked]) -> tuple[list[Minute], list[Asked]]:
    """Return minutes of Cloud Monitoring, oldest first, as if nobody but users had asked.

    Its counts know no user agent, so what we asked is taken off: by status code in the minute in which we
    asked or the next ones, and from the distribution of latencies in the bucket that is nearest from below,
    as our own time includes the way. What is not in these minutes is returned, too, for those to come.
    """
    left = sorted(((at, answer) for at, answer in asked if answer.status), key=lambda each: each[0])
    users = []
    for minute in minutes:
        sample, rest = minute.sample, list[Asked]()
        for at, answer in left:
            if at < minute.end and sample.codes.get(str(answer.status), 0):
                sample = _without(sample, answer)
            elif at >= minute.end - LATE * MINUTE:
                rest.append((at, answer))
        left = rest
        users.append(replace(minute, sample=sample))
    return users, left


def _without(sample: Sample, answer: Answer) -> Sample:
    code = str(answer.status)
    codes = {each: count - (each == code) for each, count in sample.codes.items()}
    latencies = sample.latencies and _without_one(sample.latencies, answer.seconds * 1000)
    return replace(sample, codes={each: count for each, count in codes.items() if count}, latencies=latencies)


def _without_one(latencies: Histogram, value: float) -> Histogram | None:
    """Return a histogram without one request of about this latency."""
    counts = list(latencies.counts)
    full = [number for number, count in enumerate(counts) if count]
    if not full:
        return latencies
    below = [number for number in full if not number or latencies.bounds[number - 1] <= value]
    counts[below[-1] if below else full[0]] -= 1
    return replace(latencies, counts=tuple(counts)) if any(counts) else None


def without_at_most(sample: Sample, number: int) -> Sample:
    """Return a sample without so many good answers, which may have been those to probes."""
    codes = dict(sample.codes)
    for code in sorted((code for code in codes if code < "4"), key=lambda code: codes[code], reverse=True):
        taken = min(number, codes[code])
        codes[code], number = codes[code] - taken, number - taken
    return replace(sample, codes={code: count for code, count in codes.items() if count})


def pair_as_plain(pair: Pair) -> Mapping[str, object]:
    """Return a pair as plain values that JSON can carry."""
    return {
        "probe": pair.name,
        "candidate": _answer_as_plain(pair.candidate),
        "stable": _answer_as_plain(pair.stable) if pair.stable else None,
        "asked_at": pair.asked_at.isoformat() if pair.asked_at else None,
        "cold": pair.cold,
    }


def _answer_as_plain(answer: Answer) -> Mapping[str, object]:
    return {
        "ok": answer.ok,
        "status": answer.status,
        "seconds": round(answer.seconds, 4),
        "problem": answer.problem,
    }


def parse_pair(time: datetime, plain: Mapping[str, object]) -> Pair | None:
    """Return the pair in plain values; None for what is none: anybody may write into a log."""
    candidate, stable = _parse_answer(plain.get("candidate")), _parse_answer(plain.get("stable"))
    name = plain.get("probe")
    if candidate is None or not isinstance(name, str):
        return None
    return Pair(time, name, candidate, stable, _parse_time(plain.get("asked_at")), bool(plain.get("cold")))


def _parse_time(plain: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(plain) if isinstance(plain, str) else None
    except ValueError:
        return None
    return time if time and time.tzinfo else None


def _parse_answer(plain: object) -> Answer | None:
    match plain:
        case {
            "ok": bool(ok),
            "status": int(status),
            "seconds": int(seconds) | float(seconds),
            "problem": str(problem),
        } if 0 <= status <= LARGEST_CODE and 0 <= seconds <= LONGEST:
            return Answer(ok, status, float(seconds), problem)
        case _:
            return None
