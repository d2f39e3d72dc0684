"""What strangers write: refused with a message, and nothing of it gets to a terminal or a log as it is."""

import io
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import structlog
from builders import NOW, a_rollout
from fuzz.targets import HOSTILE, assert_plain
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.cli.logs import configure_logs
from controller.core.policy_probes import Probe
from controller.core.record import parse_record, write_record
from controller.core.rollout import Event, Phase, Rollout, moved
from controller.gateways.policy_files import PolicyFileInvalid, read_policy
from controller.gateways.probes import HttpProbes

from .conftest import CANARY, PLACE, SECONDS, Cloud, Shell

ESCAPE = "\x1b[2J\x1b]0;gone\x07"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What our own renderers write; no text of a stranger may hold one."""


def is_printable(text: str) -> bool:
    return text.replace("\n", "").isprintable()


# --- policies ---

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}]\n" for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
MEMORY = 512 * 1024
"""KiB."""
BOMBS: dict[str, str | bytes] = {
    "billion laughs": LAUGHS,
    "merge keys": "hold: &h {at_least: 5m}\nbake: {<<: *h}\n",
    "deep lists": "steps: " + "[" * 30_000,
    "deep mappings": "? " * 30_000,
    "many values": "steps: [" + "1," * 32_000 + "1]",
    "many mappings": "steps: [" + "{a: 1}," * 9_000 + "]",
    "many fields": "\n".join(f"k{number}: 1" for number in range(7_000)),
    "many documents": "---\n" * 16_000,
    "one field over and over": "bake: 15m\n" * 6_000,
    "a long name": "x" * 65_000 + ": 1",
    "a long tag": "hold: !" + "x" * 65_000 + " 5m",
    "an object": "hold: !!python/object/apply:os.system ['touch /tmp/broken']",
    "a module": "hold: !!python/module:os",
    "escapes in a name": '"\\e[2J\\e]0;gone\\a": 1',
    "a line in a name": '"a\\nok: b": 1',
    "text turned around": '"\u202ekab": 1',
    "nul": b"version: 1\nhold: \x005m\n",
    "utf-16": "version: 1\n".encode("utf-16"),
    "utf-16 without its mark": "version: 1\n".encode("utf-16-le"),
    "not text": bytes(range(256)),
    "an endless file": b"#" * (50 * 1024 * 1024),
}


def test_bombs_are_defused_fast_in_little_memory_and_said_in_plain_lines(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.yaml" for number in range(len(BOMBS))]
    for file, bomb in zip(files, BOMBS.values(), strict=True):
        file.write_bytes(bomb if isinstance(bomb, bytes) else bomb.encode())
    done = subprocess.run(
        # A shell sets the limit: in a child of this process gRPC would have its hands in the fork.
        ["sh", "-c", f'ulimit -v {MEMORY}; exec "$@"', "sh", *CANARY, "policy", "check", *map(str, files)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "")
    lines = done.stdout.splitlines()
    for line in lines:
        assert_plain(line)
    assert {line.split(":")[0] for line in lines} == set(map(str, files))


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_with_few_mistakes(tmp_path: Path, bomb: str) -> None:
    content = BOMBS[bomb]
    file = tmp_path / "policy.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PolicyFileInvalid) as caught:
        read_policy(file)
    assert 0 < len(caught.value.lines) <= 3
    for line in caught.value.lines:
        assert line.startswith(f"{file}:")
        assert_plain(line)


def test_a_file_of_any_name_is_named_in_one_plain_line(shell: Shell) -> None:
    name = f"{ESCAPE}\n::error::a line for the build\u202e.yaml"
    Path(shell.file(name, "version: 1\n")).chmod(0o600)
    for command in ("check", "explain"):
        missing = shell("policy", command, f"not {name}")
        said = missing.stdout + missing.stderr
        assert missing.returncode == 2
        assert is_printable(said)
        assert said.count("\n") == 1
        assert "there is no such file" in said


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(["\x1b", "\n", "\u202e", "\x00", "\ud800", "\\e", '"', ": ", "- ", "x", "{", "}"]),
        max_size=30,
    )
)
def test_no_mistake_in_a_policy_file_carries_what_it_quotes(folder: Path, parts: list[str]) -> None:
    file = folder / "policy.yaml"
    file.write_bytes("".join(parts).encode(errors="surrogatepass"))
    with pytest.raises(PolicyFileInvalid) as caught:
        read_policy(file)
    for line in caught.value.lines:
        assert_plain(line)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tampered")


# --- names on the command line ---

NAMES = [
    "web;touch broken",
    "$(touch broken)",
    "`touch broken`",
    "../services/other",
    "web/revisions/x",
    "web\nPromoted: all is well",
    "-rf",
    ESCAPE,
    "wéb",
    "w\u202eeb",
    "w\udcffb",
    "w" * 10_000,
    "",
]
COMMANDS = ["rollout", "status", "promote", "pause", "resume", "rollback", "retry"]


def test_what_cannot_be_a_service_is_refused_before_anything_is_called(shell: Shell) -> None:
    nowhere = (*PLACE, "--emulator", "127.0.0.1:1")
    lines = ([command, name, *nowhere] for command in COMMANDS for name in NAMES)
    ends, _ = shell.one_after_the_other(*lines)
    assert len(ends) == len(COMMANDS) * len(NAMES)
    for end in ends:
        assert (end.returncode, end.stdout) == (2, "")
        assert is_printable(end.stderr)
        assert "cannot be reached" not in end.stderr
    assert not (shell.folder / "broken").exists()


def test_hostile_arguments_of_any_other_kind_are_shown_by_their_codes(shell: Shell) -> None:
    ends, _ = shell.one_after_the_other(
        [ESCAPE],
        ["rollout", "web", ESCAPE],
        ["rollout", "web", f"--{ESCAPE}"],
        ["rollout", "web", *PLACE, "--emulator", ESCAPE],
        ["rollout", "web", *PLACE, "--policy", ESCAPE],
        ["simulate", ESCAPE],
        ["simulate", "--rps", ESCAPE],
        ["policy", ESCAPE],
        ["local", "fault", ESCAPE],
        ["local", "load", ESCAPE],
    )
    for end in ends:
        assert (end.returncode, end.stdout) == (2, "")
        assert is_printable(end.stderr)


# --- logs ---


class Terminal(io.StringIO):
    """A standard error that somebody looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged_on(stream: io.StringIO) -> str:
    """Log what strangers may have written, and return what there is to be seen then."""
    error = ValueError(HOSTILE)
    with redirect_stderr(stream):
        configure_logs()
        structlog.get_logger().warning(
            "decided", reason=HOSTILE, rollout=ESCAPE, nested={ESCAPE: [ESCAPE]}, what=error, exc_info=error
        )
        structlog.get_logger().warning(ESCAPE)
    return stream.getvalue()


@pytest.mark.usefixtures("logging")
def test_a_log_on_a_terminal_holds_no_escapes_but_its_own_colours() -> None:
    shown = logged_on(Terminal())
    assert "decided" in shown
    assert "ValueError" in shown
    assert is_printable(COLOURS.sub("", shown))
    assert not any(line.startswith("Promoted") for line in shown.splitlines())


@pytest.mark.usefixtures("logging")
def test_a_field_of_a_log_entry_is_plain_when_its_json_is_decoded() -> None:
    lines = logged_on(io.StringIO()).splitlines()
    assert len(lines) == 2
    for line in lines:
        entry = json.loads(line)
        traceback = entry.pop("exception", "")
        assert is_printable(traceback)
        assert is_printable(json.dumps(entry, ensure_ascii=False))
        assert "\x1b" not in str(entry)


# --- answers of a candidate ---


def test_an_answer_to_a_smoke_test_is_quoted_in_a_reason_that_fits_into_the_record() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(SECONDS)
        pool.submit(answer_with_rubbish, server)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        complaint = HttpProbes(lambda: NOW).ask(address, Probe(path="/ok")).problem
    assert "got no answer" in complaint
    rollout = a_rollout(Phase.CHECKING, step=-1)
    after = moved(rollout, Event.UNFIT, NOW, f"the smoke test failed: {complaint}", "controller")
    assert isinstance(after, Rollout)
    assert_plain(after.reason)
    assert parse_record(write_record(after)) == after


def answer_with_rubbish(server: socket.socket) -> None:
    """Answer with a status line of 60 KiB that no client understands."""
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(f"{ESCAPE}{'x' * 60_000}\r\n\r\n".encode())


# --- what is on record ---


def a_tampered_record(name: str, **fields: Any) -> str:
    """A paused rollout whose words somebody has changed."""
    rollout = a_rollout(
        Phase.PAUSED,
        service=name,
        stable=f"{name}-v1",
        candidate=f"{name}-v2",
        newest=f"{name}-v2",
        since=NOW,
    )
    plain = json.loads(write_record(rollout))
    return json.dumps(plain | {"reason": f"Zürich {HOSTILE[:2000]}", "by": ESCAPE} | fields)


@pytest.mark.processes
def test_words_that_somebody_put_into_a_record_are_shown_by_their_codes(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    cloud.set_record(name, a_tampered_record(name))
    shown = cloud.canary("status", name)
    assert shown.returncode == 0, shown.stderr
    assert is_printable(shown.stdout)
    assert "\\x1b[2J" in shown.stdout
    report = cloud.status(name)
    assert is_printable(json.dumps(report, ensure_ascii=False))
    assert report["by"] == "\\x1b[2J\\x1b]0;gone\\x07"


@pytest.mark.processes
def test_words_that_the_output_cannot_carry_do_not_end_a_command(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    cloud.set_record(name, a_tampered_record(name))
    for environment in ({"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}):
        shown = cloud("status", name, *cloud.at, **environment)
        assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.processes
def test_a_record_that_cannot_be_read_is_named_in_plain_words_and_left_as_it_is(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    for record in (
        "x" * 250 * 1024,
        a_tampered_record(name, candidate=ESCAPE),
        a_tampered_record("other"),
        a_tampered_record(name, since="0001-01-01T00:00:00Z"),
        a_tampered_record(name, **{ESCAPE: ESCAPE}),
    ):
        cloud.set_record(name, record)
        before = cloud.service(name)
        for end in cloud.commands(name, "rollout", "status", "promote", "rollback", "retry"):
            assert (end.returncode, end.stdout) == (2, "")
            assert end.stderr.startswith(f"canary: the record of {name} ")
            assert is_printable(end.stderr)
            assert end.stderr.count("\n") == 1
        assert cloud.service(name) == before
