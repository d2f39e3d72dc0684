"""Instances as real processes: how they start, what is said of them, and how they end."""

import asyncio
import os
import signal
import time
from dataclasses import replace
from datetime import timedelta

import psutil
import pytest
from google.cloud import run_v2

from contracts.conftest import PARENT, SECONDS, Google, a_google, a_template
from controller.emulator.monitoring.minutes import minute_end
from controller.emulator.settings import Settings

from .pools import FAST, KEY, LISTENS, a_revision, alone, program, until

pytestmark = pytest.mark.processes

HTTP = (
    "from http.server import BaseHTTPRequestHandler, HTTPServer\n"
    "class Answers(BaseHTTPRequestHandler):\n"
    "    asked = []\n"
    "    def do_GET(self):\n"
    "        self.asked.append(self.path)\n"
    "        print(self.path, self.headers['X-Probe'], flush=True)\n"
    "        self.send_response(eval(sys.argv[1], {'asked': len(self.asked)}))\n"
    "        self.end_headers()\n"
    "HTTPServer(('127.0.0.1', port), Answers).serve_forever()\n"
)


def with_probe(revision: run_v2.Revision, **probe: object) -> run_v2.Revision:
    revision.containers[0].startup_probe = run_v2.Probe(**probe)
    return revision


def an_http_probe(**fields: object) -> dict[str, object]:
    headers = [run_v2.HTTPHeader(name="X-Probe", value="yes")]
    return {"http_get": run_v2.HTTPGetAction(path="/ready", http_headers=headers), **fields}


# Starting.


def test_the_default_probe_is_one_of_tcp_and_the_system_log_says_that_it_passed() -> None:
    """'Default STARTUP TCP probe succeeded after 1 attempt for container "c" on port 8000.'"""

    async def check() -> None:
        async with alone(a_revision()) as one:
            await one.first()
            started, passed = one.said()
            assert started.startswith("Starting new instance. Reason: DEPLOYMENT_ROLLOUT - ")
            assert passed == (
                'Default STARTUP TCP probe succeeded after 1 attempt for container "c" on port 8000.'
            )

    asyncio.run(check())


def test_a_container_that_does_not_listen_in_time_fails_its_default_probe() -> None:
    """The instance was not started. Connection failed with status DEADLINE_EXCEEDED."""

    async def check() -> None:
        revision = a_revision(*program("time.sleep(1000)"), name="worker")
        async with alone(revision, replace(FAST, startup_timeout=timedelta(seconds=30))) as one:
            failure = await one.pool.first_instance()
            assert failure is not None
            assert "failed to start and listen on the port" in failure.message
            assert one.said()[1] == (
                'Default STARTUP TCP probe failed 1 time consecutively for container "worker" on port 8000. '
                "The instance was not started. Connection failed with status DEADLINE_EXCEEDED."
            )

    asyncio.run(check())


def test_an_http_probe_passes_with_2xx_or_3xx_only_and_sends_its_headers() -> None:
    async def check() -> None:
        revision = with_probe(
            a_revision(*program(HTTP), "503 if asked < 3 else 302"),
            **an_http_probe(period_seconds=1, failure_threshold=50, initial_delay_seconds=10),
        )
        async with alone(revision) as one:
            await one.first()
            printed = [line for line in one.printed() if line.startswith("/ready")]
            assert printed == ["/ready yes"] * 3
            assert one.said()[-1].startswith("STARTUP HTTP probe succeeded after ")
            assert one.said()[-1].endswith('attempts for container "c" on port 8000 path "/ready".')

    asyncio.run(check())


def test_an_http_probe_that_never_passes_fails_the_revision() -> None:
    async def check() -> None:
        revision = with_probe(
            a_revision(*program(HTTP), "404"), **an_http_probe(period_seconds=1, failure_threshold=3)
        )
        async with alone(revision) as one:
            failure = await one.pool.first_instance()
            assert failure is not None
            assert failure.message.startswith(
                "The user-provided container failed the configured startup probe checks."
            )
            assert one.said()[-1] == (
                'STARTUP HTTP probe failed 3 times consecutively for container "c" on port 8000 '
                'path "/ready". The instance was not started.'
            )

    asyncio.run(check())


def test_a_probe_waits_for_its_initial_delay_on_the_emulated_clock() -> None:
    async def check() -> None:
        revision = with_probe(
            a_revision(*program(LISTENS + "print('listens', flush=True)\nlistener.accept()[0].recv(1)\n"
                                "print('asked', flush=True)\ntime.sleep(1000)")),
            tcp_socket=run_v2.TCPSocketAction(), initial_delay_seconds=100,
        )  # fmt: skip
        async with alone(revision, replace(FAST, speed=0)) as one:
            start = asyncio.create_task(one.pool.first_instance())
            await until(lambda: "listens" in one.printed())
            one.host.clock.advance(timedelta(seconds=99))
            assert not start.done()
            one.host.clock.advance(timedelta(seconds=1))
            assert await start is None
            await until(lambda: "asked" in one.printed())

    asyncio.run(check())


def test_a_fast_clock_does_not_make_a_process_start_faster() -> None:
    async def check() -> None:
        revision = a_revision(*program("time.sleep(0.5)\n" + LISTENS + "time.sleep(1000)"))
        async with alone(revision, replace(FAST, speed=10_000, startup_least_seconds=20.0)) as one:
            await one.first()

    asyncio.run(check())


@pytest.mark.parametrize(
    ("ends", "said", "failed"),
    [
        ("sys.exit(3)", "Container called exit(3).", "The container exited with code 3."),
        (
            "os.kill(os.getpid(), 9)",
            "Container terminated on signal 9.",
            "The container was ended by signal 9.",
        ),
    ],
)
def test_a_container_that_ends_at_the_start_fails_at_once(ends: str, said: str, failed: str) -> None:
    async def check() -> None:
        async with alone(a_revision(*program(f"print('so it ends', flush=True)\n{ends}"))) as one:
            failure = await one.pool.first_instance()
            assert failure is not None
            assert f"{failed} Its last line was: 'so it ends'. " in failure.message
            assert one.said()[1] == said

    asyncio.run(check())


def test_without_a_health_check_a_revision_is_ready_without_any_instance() -> None:
    """`health_check_disabled` on the template makes "Ready" meaningless."""
    for google in a_google(replace(FAST, reconcile_delay=timedelta(seconds=1))):
        template = run_v2.RevisionTemplate(
            containers=[run_v2.Container(command=["/no/such/program"])], health_check_disabled=True
        )
        created = google.services.create_service(
            parent=PARENT, service_id="web", service=run_v2.Service(template=template), timeout=SECONDS
        )
        assert not google.wait(created.operation.name).HasField("error")
        assert google.get().terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED


def test_how_long_a_start_took_is_measured() -> None:
    async def check() -> None:
        async with alone(a_revision(*program("time.sleep(0.3)\n" + LISTENS + "time.sleep(1000)"))) as one:
            await one.first()
            (startups,) = one.host.metrics.startups[KEY].values()
            assert startups.count == 1
            assert 300 <= startups.total < SECONDS * 1000

    asyncio.run(check())


# Ending.


def test_an_instance_gets_sigterm_with_all_its_group_and_has_time_to_end() -> None:
    """Shutdown: SIGTERM, then SIGKILL after 10 s."""

    async def check() -> None:
        text = (
            "child = 0\n"
            "def end(*_):\n"
            "    if child: os.wait()\n"
            "    os.write(1, f'{os.getpid()} ends\\n'.encode())\n"
            "    os._exit(0)\n"
            "signal.signal(signal.SIGTERM, end)\n"
            "child = os.fork()\n"
            f"if child:\n    {LISTENS}while True: time.sleep(1000)"
        )
        async with alone(a_revision(*program(text))) as one:
            parent = psutil.Process((await one.first()).pid)
            (child,) = parent.children()
            await one.pool.close()
            assert one.printed() == [f"{child.pid} ends", f"{parent.pid} ends"]
            assert not parent.is_running()
            assert not any("SIGKILL" in text for text in one.said())

    asyncio.run(check())


def test_an_instance_that_ignores_sigterm_is_killed_and_the_system_log_says_so() -> None:
    async def check() -> None:
        text = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.fork()\n{LISTENS}time.sleep(1000)"
        text = text.replace(LISTENS, f"if not os.getpid() == os.getpgrp(): time.sleep(1000)\n{LISTENS}")
        async with alone(a_revision(*program(text)), replace(FAST, grace_seconds=0.3)) as one:
            parent = psutil.Process((await one.first()).pid)
            (child,) = parent.children()
            began = time.monotonic()
            await one.pool.close()
            assert time.monotonic() - began >= 0.3
            assert not any(process.is_running() and not is_zombie(process) for process in (parent, child))
            assert one.said()[-1] == (
                "The instance did not end within 0.3 seconds after SIGTERM; it was ended by SIGKILL."
            )

    asyncio.run(check())


def is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_an_instance_has_ten_seconds_to_end_unless_something_else_is_set() -> None:
    assert Settings().grace_seconds == 10.0


def test_a_pool_that_is_closed_while_an_instance_starts_leaves_nothing() -> None:
    async def check() -> None:
        async with alone(a_revision(*program("print('begun', flush=True)\ntime.sleep(1000)"))) as one:
            start = asyncio.create_task(one.pool.first_instance())
            await until(lambda: "begun" in one.printed())
            (process,) = psutil.Process().children()[-1:]
            await one.pool.close()
            assert await asyncio.gather(start, return_exceptions=True)
            assert process.pid not in [child.pid for child in psutil.Process().children()] or is_zombie(
                process
            )

    asyncio.run(check())


def test_an_instance_that_dies_is_told_of_and_replaced_on_demand() -> None:
    async def check() -> None:
        async with alone(a_revision()) as one:
            first = await one.first()
            os.kill(first.pid, signal.SIGKILL)
            await until(lambda: not one.pool.instances)
            assert one.said()[-1] == "Container terminated on signal 9."
            second = await one.pool.acquire()
            assert second.pid != first.pid
            assert any("Reason: AUTOSCALING" in text for text in one.said())
            one.pool.release(second)

    asyncio.run(check())


# Output.


def test_a_flood_of_output_neither_fills_the_memory_nor_stops_the_others() -> None:
    """A revision that prints 100 MB: the emulator stays up and answers the others."""

    async def check() -> None:
        flood = "for _ in range(1000): sys.stdout.write(('x' * 49 + '\\n') * 2000)\n"
        async with alone(a_revision(*program(LISTENS + "listener.accept()\n" + flood))) as one:
            before = psutil.Process().memory_info().rss
            stalls: list[float] = []
            watch = asyncio.create_task(note_stalls(stalls))
            await one.first()
            await until(lambda: not one.pool.instances, 60)  # it has said everything
            watch.cancel()
            await one.pool.close()
            assert max(stalls) < 0.3
            assert psutil.Process().memory_info().rss - before < 80 << 20
            dropped = [int(text.split()[0]) for text in one.said() if "lines dropped" in text]
            assert 1 <= len(dropped) <= SECONDS
            assert sum(dropped) + len(one.printed()) == pytest.approx(2_000_000, rel=0.01)

    asyncio.run(check())


async def note_stalls(stalls: list[float]) -> None:
    """Note by how much the event loop is late, again and again."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.001)
        stalls.append(time.monotonic() - began)


def test_long_lines_are_cut_into_pieces_of_16_kib() -> None:
    async def check() -> None:
        text = f"{LISTENS}print('first')\nprint('x' * 40_000)\nprint('last', flush=True)\ntime.sleep(1000)"
        async with alone(a_revision(*program(text))) as one:
            await one.first()
            await until(lambda: "last" in one.printed())
            first, *pieces, last = one.printed()
            assert (first, last, "".join(pieces)) == ("first", "last", "x" * 40_000)
            assert max(map(len, pieces)) <= 16 * 1024

    asyncio.run(check())


# Simulated revisions.


def test_simulated_revisions_have_as_many_instances_as_their_requests_fill(google: Google) -> None:
    """100 requests of 2 s a second are 200 at a time: three instances at a concurrency of 80."""
    google.create(revision="web-one", LATENCY_MS="2000", LATENCY_SPREAD="0")
    google.settle()
    google.local.users("web", 100)
    google.local.advance(timedelta(minutes=10))
    key = type(KEY)("local-1", "web", "web-one")
    minute = minute_end(google.local.now().timestamp()) - 60
    seen: list[object] = []
    google.local.measure(lambda metrics: seen.append(metrics.samples[key][minute]))
    assert seen == [(3, 0, 0)]


def test_simulated_instances_scale_to_zero_and_back(google: Google) -> None:
    google.create(revision="web-one")
    google.settle()
    google.local.advance(timedelta(hours=1))
    alive: list[int] = []
    google.local.measure(lambda metrics: alive.append(metrics.lifetimes[KEY].alive))
    google.local.users("web", 10)
    google.local.advance(timedelta(minutes=2))
    google.local.measure(lambda metrics: alive.append(metrics.lifetimes[KEY].alive))
    assert alive == [0, 1]


def test_a_simulated_minimum_is_kept(google: Google) -> None:
    template = a_template(revision="web-one")
    template.scaling.min_instance_count = 2
    google.services.create_service(
        parent=PARENT, service_id="web", service=run_v2.Service(template=template), timeout=SECONDS
    )
    google.settle()
    google.local.advance(timedelta(hours=2))
    alive: list[int] = []
    google.local.measure(lambda metrics: alive.append(metrics.lifetimes[KEY].alive))
    assert alive == [2]


def test_a_simulated_start_takes_its_time(google: Google) -> None:
    google.create(revision="web-one", START_SECONDS="4")
    google.settle()
    took: list[float] = []
    google.local.measure(lambda metrics: took.extend(one.total for one in metrics.startups[KEY].values()))
    assert len(took) == 1
    assert 4000 < took[0] < 8000
