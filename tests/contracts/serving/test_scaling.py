"""How many instances there are, which requests wait for room, and which client goes where."""

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from google.cloud import run_v2
from google.cloud.logging_v2.types import LogEntry
from google.logging.type import log_severity_pb2
from hypothesis import given
from hypothesis import strategies as st

from contracts.conftest import SECONDS, Google, a_google, to
from controller.emulator.run.traffic import Split
from controller.emulator.serving.affinity import POINTS, Cookie, Slots
from controller.emulator.serving.pending import NoInstanceError
from controller.emulator.serving.scaling import Bounds, Division, divided, own_bounds
from controller.emulator.settings import Settings

from .pools import FAST, KEY, LISTENS, Alone, a_revision, alone, program, until
from .served import ask, deploy, entries, in_flight, instances, wait_until

pytestmark = pytest.mark.processes

SHORT = timedelta(milliseconds=100)
SETTINGS = replace(FAST, reconcile_delay=SHORT, propagation_delay=SHORT)
MANUAL = run_v2.ServiceScaling.ScalingMode.MANUAL


# Concurrency, and requests that wait.


def test_a_request_waits_for_room_and_the_first_to_come_is_the_first_to_go() -> None:
    async def check() -> None:
        async with alone(a_revision(concurrency=1, most=1)) as one:
            first = await one.pool.acquire()
            order: list[int] = []

            async def wait(number: int) -> None:
                one.pool.release(await one.pool.acquire())
                order.append(number)

            waiting = [asyncio.create_task(wait(number)) for number in range(20)]
            await asyncio.sleep(0)
            one.pool.release(first)
            await asyncio.gather(*waiting)
            assert order == list(range(20))
            assert len(one.pool.instances) == 1

    asyncio.run(check())


def test_a_request_that_finds_no_room_in_ten_seconds_is_refused_with_429() -> None:
    """429 "The request was aborted because there was no available instance."."""
    assert Settings().pending_seconds == 10.0

    async def check() -> None:
        async with alone(a_revision(concurrency=1, most=1), replace(FAST, pending_seconds=0.2)) as one:
            taken = await one.pool.acquire()
            began = time.monotonic()
            with pytest.raises(
                NoInstanceError, match="aborted because there was no available inst"
            ) as refused:
                await one.pool.acquire()
            assert refused.value.status == 429
            assert time.monotonic() - began >= 0.2
            one.pool.release(taken)
            one.pool.release(await one.pool.acquire())

    asyncio.run(check())


def test_too_long_a_queue_is_refused_at_once() -> None:
    async def check() -> None:
        async with alone(a_revision(concurrency=1, most=1)) as one:
            await one.pool.acquire()
            waiting = [asyncio.create_task(one.pool.acquire()) for _ in range(1000)]
            await asyncio.sleep(0)
            with pytest.raises(NoInstanceError) as refused:
                await one.pool.acquire()
            assert refused.value.status == 429
            for task in waiting:
                task.cancel()

    asyncio.run(check())


def test_requests_are_refused_with_503_when_no_instance_can_be_started(tmp_path: Path) -> None:
    """The first instance comes up, every other one ends at once; the third request is served again."""
    flag = tmp_path / "breaks"

    async def check() -> None:
        text = f"if os.path.exists({str(flag)!r}): sys.exit(1)\n{LISTENS}time.sleep(1000)"
        async with alone(a_revision(*program(text), concurrency=1)) as one:
            first = await one.first()
            flag.touch()
            os.kill(first.pid, signal.SIGKILL)
            await until(lambda: not one.pool.instances)
            refused = await asyncio.gather(*(one.pool.acquire() for _ in range(20)), return_exceptions=True)
            assert [getattr(error, "status", 0) for error in refused] == [503] * 20
            starts = sum("Reason: AUTOSCALING" in text for text in one.said())
            assert starts == 1  # a revision that is broken is not tried twenty times at once
            flag.unlink()
            one.pool.release(await one.pool.acquire())

    asyncio.run(check())


@dataclass
class Crowd:
    """Two hundred users at a time, who wait for an instance or give up, until it is over."""

    one: Alone
    rng: random.Random
    concurrency: int
    served: int = 0
    over: bool = False

    async def request(self) -> None:
        with suppress(NoInstanceError):
            instance = await self.one.pool.acquire()
            try:
                assert instance.in_flight <= self.concurrency
                await asyncio.sleep(self.rng.choice([0, 0.001, 0.01]))
                self.served += 1
            finally:
                self.one.pool.release(instance)

    async def user(self) -> None:
        while not self.over:
            task = asyncio.create_task(self.request())
            if self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.choice([0, 0, 0.0005, 0.005]))
                task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def kill(self, most: int) -> None:
        for _ in range(6):
            enough = self.served + 100
            await until(lambda enough=enough: self.served > enough)  # type: ignore[misc]
            for instance in self.one.pool.instances[: self.rng.randint(1, most)]:
                os.kill(instance.pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", range(4))
def test_no_place_is_lost_and_no_limit_broken_whatever_requests_and_instances_do(seed: int) -> None:
    """Requests give up at any moment, while instances are killed."""

    async def check() -> None:
        rng = random.Random(seed)
        concurrency, most = rng.choice([(1, 3), (2, 4), (10, 2)])
        async with alone(a_revision(concurrency=concurrency, most=most)) as one:
            crowd = Crowd(one, rng, concurrency)
            users = [asyncio.create_task(crowd.user()) for _ in range(200)]
            await crowd.kill(most)
            crowd.over = True
            await asyncio.wait_for(asyncio.gather(*users), SECONDS)
            assert sum(instance.in_flight for instance in one.pool.instances) == 0
            places = Counter([await one.pool.acquire() for _ in range(concurrency * most)])
            assert set(places.values()) == {concurrency}
            for instance in places.elements():
                one.pool.release(instance)
            assert most_at_once(one.said()) <= most

    asyncio.run(check())


def most_at_once(said: list[str]) -> int:
    """Return how many instances were alive or starting at once, as the system log tells it."""
    alive = [0]
    for text in said:
        begins, ends = text.startswith("Starting new instance"), text.startswith("Container ")
        alive.append(alive[-1] + begins - ends)
    return max(alive)


# Minimum, maximum, zero.


def test_instances_are_divided_by_percents_into_whole_ones() -> None:
    assert divided(10, {"a": 90, "b": 10}) == {"a": 9, "b": 1}
    assert divided(3, {"a": 50, "b": 50}) == {"a": 2, "b": 1}
    assert divided(1, {"a": 10, "b": 90}) == {"a": 0, "b": 1}


@given(st.integers(0, 1000), st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_what_is_divided_sums_up_and_is_never_off_by_one_instance(total: int, weights: list[int]) -> None:
    percents = as_percents(weights)
    shares = divided(total, percents)
    assert sum(shares.values()) == total
    assert all(abs(shares[name] - total * percents[name] / 100) < 1 for name in percents)


def as_percents(weights: list[int]) -> dict[str, int]:
    """Return percents that sum to 100, near the weights."""
    names = [f"r{position}" for position in range(len(weights))]
    percents = {name: weight * 100 // sum(weights) for name, weight in zip(names, weights, strict=True)}
    percents[names[0]] += 100 - sum(percents.values())
    return percents


def test_a_revisions_minimum_counts_while_the_split_or_a_tag_refers_to_it() -> None:
    """Started whenever the revision is referenced in the split (even 0 %) or tagged."""
    own = own_bounds(run_v2.RevisionScaling(min_instance_count=2, max_instance_count=5))
    nothing = run_v2.ServiceScaling()
    served = Split({"a": 100}, {"green": "b"}, frozenset({"a", "b", "c"}))
    assert [Division(nothing, served).bounds(name, own).least for name in "abcd"] == [2, 2, 2, 0]


def test_a_services_minimum_is_divided_by_traffic_and_a_tag_alone_gets_nothing() -> None:
    """Tagged revisions count only if part of the split."""
    own = own_bounds(run_v2.RevisionScaling(max_instance_count=5))
    service = run_v2.ServiceScaling(min_instance_count=4, max_instance_count=8)
    served = Split({"a": 75, "b": 25}, {"green": "c"}, frozenset("abc"))
    found = {name: Division(service, served).bounds(name, own) for name in "abc"}
    assert found == {"a": Bounds(3, 5), "b": Bounds(1, 2), "c": Bounds(0, 5)}


def test_manual_scaling_is_an_exact_number() -> None:
    own = own_bounds(run_v2.RevisionScaling(max_instance_count=5))
    service = run_v2.ServiceScaling(scaling_mode=MANUAL, manual_instance_count=4)
    assert Division(service, Split({"a": 50, "b": 50})).bounds("a", own) == Bounds(2, 2)


def test_a_minimum_is_filled_for_its_reason_and_filled_up_again() -> None:
    """Starting new instance. Reason: MANUAL_OR_CUSTOMER_MIN_INSTANCE."""

    async def check() -> None:
        async with alone(a_revision()) as one:
            one.pool.resize(Bounds(2, 5))
            await until(lambda: len(one.pool.instances) == 2)
            reasons = [text for text in one.said() if "Reason: MANUAL_OR_CUSTOMER_MIN_INSTANCE - " in text]
            assert len(reasons) == 2
            os.kill(one.pool.instances[0].pid, signal.SIGKILL)
            await until(lambda: len(one.pool.instances) == 1)
            await until(lambda: len(one.pool.instances) == 2)

    asyncio.run(check())


def test_a_large_minimum_is_filled_ten_at_a_time() -> None:
    async def check() -> None:
        async with alone(a_revision(most=1000)) as one:
            one.pool.resize(Bounds(23, 1000))
            starting = [0]

            def has_all() -> bool:
                starts = sum(text.startswith("Starting new instance") for text in one.said())
                starting.append(starts - len(one.pool.instances))
                return len(one.pool.instances) == 23

            await until(has_all)
            assert max(starting) == 10

    asyncio.run(check())


def test_a_minimum_that_cannot_start_is_tried_again_and_again_but_one_at_a_time() -> None:
    async def check() -> None:
        async with alone(a_revision(*program("sys.exit(1)"))) as one:
            one.pool.resize(Bounds(1, 5))
            await until(lambda: len(one.said()) >= 6)
            assert most_at_once(one.said()) == 1

    asyncio.run(check())


def test_a_busy_instance_that_is_too_many_ends_with_its_last_request() -> None:
    async def check() -> None:
        async with alone(a_revision(concurrency=1)) as one:
            places = [await one.pool.acquire() for _ in range(2)]
            one.pool.resize(Bounds(0, 1))
            (kept,) = one.pool.instances
            (gone,) = set(places) - {kept}
            assert is_alive(gone.pid)
            one.pool.release(gone)
            await until(lambda: not is_alive(gone.pid))
            assert one.pool.instances == [kept]
            one.pool.release(kept)

    asyncio.run(check())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_idle_instances_are_stopped_down_to_the_minimum_that_of_the_deployment_too() -> None:
    """Scale to zero after 15 idle minutes, on a clock that the test moves."""

    async def check() -> None:
        async with alone(a_revision(concurrency=1), replace(FAST, speed=0)) as one:
            clock = one.host.clock
            deployed = await one.first()
            clock.advance(timedelta(minutes=10))
            places = [await one.pool.acquire() for _ in range(3)]
            assert deployed in places
            clock.advance(timedelta(hours=1))
            assert len(one.pool.instances) == 3
            for instance in places:
                one.pool.release(instance)
            clock.advance(timedelta(minutes=14, seconds=59))
            assert len(one.pool.instances) == 3
            one.pool.resize(Bounds(1, 100))
            clock.advance(timedelta(seconds=1))
            assert len(one.pool.instances) == 1
            one.pool.resize(Bounds(0, 100))
            clock.advance(timedelta(seconds=1))
            assert not one.pool.instances
            one.pool.release(await one.pool.acquire())
            assert len(one.pool.instances) == 1

    asyncio.run(check())


def test_instances_and_waiting_requests_are_sampled() -> None:
    async def check() -> None:
        async with alone(a_revision(concurrency=1, most=2), replace(FAST, speed=0)) as one:
            now = one.host.clock.now()
            samples = one.host.metrics.samples
            one.pool.sample(now)
            assert not samples
            places = [await one.pool.acquire() for _ in range(2)]
            waiting = [asyncio.create_task(one.pool.acquire()) for _ in range(3)]
            await asyncio.sleep(0)
            one.pool.sample(now)
            assert list(samples[KEY].values()) == [(2, 0, 3)]
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            one.pool.release(places[0])
            one.pool.sample(now)
            assert list(samples[KEY].values()) == [(1, 1, 0)]

    asyncio.run(check())


# Session affinity.


def test_a_new_split_moves_as_few_clients_as_it_can() -> None:
    """When a split changes, Cloud Run moves the minimum of clients: 90/10 to 80/20 moves 10 %."""
    slots = Slots()
    before = owners(slots, {"a": 90, "b": 10})
    after = owners(slots, {"a": 80, "b": 20})
    assert Counter(after) == {"a": 80, "b": 20}
    assert moved(before, after) == 10
    assert moved(after, owners(slots, {"a": 80, "b": 10, "c": 10})) == 10


def owners(slots: Slots, percents: Mapping[str, int]) -> list[str]:
    slots.follow(percents)
    return [slots.owner(position * POINTS // 100 + POINTS // 200) for position in range(100)]


def moved(before: list[str], after: list[str]) -> int:
    return sum(one != other for one, other in zip(before, after, strict=True))


@given(st.lists(st.lists(st.integers(1, 100), min_size=1, max_size=6), min_size=2, max_size=6))
def test_no_split_moves_a_client_that_could_have_stayed(splits: list[list[int]]) -> None:
    slots = Slots()
    before, had = owners(slots, as_percents(splits[0])), as_percents(splits[0])
    for weights in splits[1:]:
        percents = as_percents(weights)
        after = owners(slots, percents)
        assert Counter(after) == {name: percent for name, percent in percents.items() if percent}
        assert moved(before, after) == sum(
            max(0, percent - percents.get(name, 0)) for name, percent in had.items()
        )
        before, had = after, percents


@given(st.integers(1, 99), st.integers(0, 2**32))
def test_a_new_client_of_a_revision_belongs_to_it(percent: int, seed: int) -> None:
    slots = Slots()
    slots.follow({"a": percent, "b": 100 - percent})
    assert slots.owner(slots.draw("a", random.Random(seed))) == "a"


@given(st.text() | st.from_regex(r"[0-9a-f]{24}", fullmatch=True))
def test_any_text_may_come_as_a_cookie(text: str) -> None:
    cookie = Cookie.parse(text)
    assert cookie is None or (0 <= cookie.point < POINTS and Cookie.parse(str(cookie)) == cookie)


def test_a_cookie_leads_back_to_its_instance_while_that_has_room() -> None:
    async def check() -> None:
        async with alone(a_revision(concurrency=2, session_affinity=True)) as one:
            places = [await one.pool.acquire() for _ in range(3)]
            first, other = places[0], places[2]
            cookie = one.pool.affinity_cookie(other)
            one.pool.release(first)
            assert one.pool.try_acquire(cookie) is other
            assert one.pool.affinity_cookie(other, cookie) == ""
            assert one.pool.try_acquire(cookie) is first  # the other one is full
            assert one.pool.affinity_cookie(first, cookie) not in {"", cookie}
            for instance in (*places[1:], other, first):
                one.pool.release(instance)

    asyncio.run(check())


def test_without_session_affinity_there_is_no_cookie() -> None:
    async def check() -> None:
        async with alone(a_revision()) as one:
            assert one.pool.affinity_cookie(await one.first()) == ""

    asyncio.run(check())


# The whole of it, through the APIs and the front.


@pytest.fixture
def google() -> Iterator[Google]:
    """Google with real processes and a clock that runs a minute a second."""
    yield from a_google(SETTINGS)


def test_a_refused_request_is_logged_as_a_warning_and_not_counted() -> None:
    """Fact: "429 "no available instance" ... are NOT in request_count by its definition"."""
    for google in a_google(replace(SETTINGS, pending_seconds=0.2)):
        deploy(
            google,
            "web-one",
            scaling=run_v2.RevisionScaling(max_instance_count=1),
            max_instance_request_concurrency=1,
            env={"LATENCY_MS": "3000", "LATENCY_SPREAD": "0"},
        )
        wait_until(lambda google=google: ask(google)[0] == 200)  # type: ignore[misc]
        with ThreadPoolExecutor(3) as users:
            answers = list(users.map(lambda _, google=google: ask(google)[0], range(3)))
        assert sorted(answers) == [200, 429, 429]
        refused = entries(google, 'log_id("run.googleapis.com/requests") httpRequest.status=429')
        assert refused
        for entry in refused:
            assert LogEntry.pb(entry).severity == log_severity_pb2.WARNING
            assert entry.text_payload == "The request was aborted because there was no available instance."
            assert "instanceId" not in entry.labels
        end = google.local.now()
        series = google.series("request_count", end - timedelta(minutes=30), end)
        assert not [one for one in series if one.metric.labels["response_code"] == "429"]


def test_requests_of_an_instance_that_dies_end_with_503_and_the_next_is_served(google: Google) -> None:
    deploy(google, "web-one", env={"LATENCY_MS": "2000", "LATENCY_SPREAD": "0"})
    wait_until(lambda: ask(google)[0] == 200)
    (pid,) = instances(google, "web-one")
    answers: list[int] = []
    user = threading.Thread(target=lambda: answers.append(ask(google)[0]))
    user.start()
    wait_until(lambda: in_flight(google) == 1)
    os.kill(pid, signal.SIGKILL)
    user.join(SECONDS)
    assert answers == [503]
    wait_until(lambda: pid not in instances(google, "web-one"))
    assert ask(google)[0] == 200
    assert entries(google, 'textPayload="Container terminated on signal 9."')


def test_a_services_minimum_takes_effect_at_once_without_a_new_revision(google: Google) -> None:
    """Fact 2.7 [P]: service-level limits "take effect at once, no new revision"."""
    deploy(google, "web-one")
    google.wait(google.update(scaling=run_v2.ServiceScaling(min_instance_count=3)).name)
    wait_until(lambda: len(instances(google, "web-one")) == 3)
    assert google.revision_names() == ["web-one"]
    started = 'log_id("run.googleapis.com/varlog/system") textPayload:"MANUAL_OR_CUSTOMER_MIN_INSTANCE"'
    assert len(entries(google, started)) == 2


def test_manual_instances_are_divided_by_the_traffic_that_is_served(google: Google) -> None:
    deploy(google, "web-one")
    deploy(google, "web-two", [to("web-one", 50), to("web-two", 50)])
    scaling = run_v2.ServiceScaling(scaling_mode=MANUAL, manual_instance_count=4)
    google.wait(google.update(scaling=scaling).name)
    wait_until(lambda: [len(instances(google, f"web-{name}")) for name in ("one", "two")] == [2, 2])
    google.wait(google.update(traffic=[to("web-one", 75), to("web-two", 25)]).name)
    wait_until(lambda: [len(instances(google, f"web-{name}")) for name in ("one", "two")] == [3, 1])


def test_a_revision_keeps_its_minimum_at_0_percent_and_by_a_tag_and_not_otherwise() -> None:
    """Revision-level min instances are started whenever the revision is referenced in the split or tagged."""
    least = run_v2.RevisionScaling(min_instance_count=1)
    for google in a_google(replace(SETTINGS, idle_timeout=timedelta(seconds=20))):
        deploy(google, "web-one")
        deploy(google, "web-two", [to("web-one", 100), to("web-two", 0)], scaling=least)

        def alive(google: Google = google) -> list[int]:
            return instances(google, "web-two")

        def idled(google: Google = google) -> bool:
            return not instances(google, "web-one")

        wait_until(idled)
        assert len(alive()) == 1
        google.wait(google.update(traffic=[to("web-one", 100), to("web-two", 0, "green")]).name)
        assert len(alive()) == 1
        google.wait(google.update(traffic=[to("web-one", 100)]).name)
        wait_until(lambda alive=alive: not alive())  # type: ignore[misc]
        google.wait(google.update(traffic=[to("web-one", 100), to("web-two", 0, "green")]).name)
        wait_until(lambda alive=alive: len(alive()) == 1)  # type: ignore[misc]


def test_affinity_beats_the_split_and_a_new_split_moves_only_who_must(google: Google) -> None:
    """Fact 2.7 [D]: "Session affinity beats the split", and a new one "moves the minimum of clients"."""
    deploy(google, "web-one", env={"TEXT": "one", "LATENCY_MS": "0"}, session_affinity=True)
    deploy(
        google,
        "web-two",
        [to("web-one", 50), to("web-two", 50)],
        env={"TEXT": "two", "LATENCY_MS": "0"},
        session_affinity=True,
    )
    wait_until(lambda: ask(google)[1] == "two")
    clients = [ask(google)[1:] for _ in range(40)]
    assert {text for text, _ in clients} == {"one", "two"}
    for text, cookie in clients:
        assert {ask(google, cookie) for _ in range(3)} == {(200, text, "")}

    google.wait(google.update(traffic=[to("web-one", 70), to("web-two", 30)]).name)
    wait_until(lambda: len([1 for text, cookie in clients if ask(google, cookie)[1] != text]) > 0)
    for text, cookie in clients:
        if text == "one":
            assert ask(google, cookie) == (200, "one", "")
        else:
            _, now, changed = ask(google, cookie)
            assert bool(changed) == (now == "one")
            assert ask(google, changed or cookie) == (200, now, "")
