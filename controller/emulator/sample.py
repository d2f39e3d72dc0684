"""A small service to roll out: `python -m controller.emulator.sample`, with knobs in its environment.

| variable          | what it does                                                     | default     |
|-------------------|------------------------------------------------------------------|-------------|
| PORT              | where it listens                                                 | 8080        |
| ERROR_SHARE       | share of requests answered with 500, 0 to 1                      | 0           |
| PROBE_ERROR_SHARE | the same where the user agent begins with cloud-run-canary-probe | ERROR_SHARE |
| LATENCY_MS        | median latency in milliseconds                                   | 50          |
| LATENCY_SPREAD    | spread of the latency: standard deviation of its logarithm       | 0.25        |
| START_SECONDS     | real seconds until it listens                                    | 0           |
| CRASH             | 1 = end with code 3 instead of listening                         | 0           |
| TEXT              | what it answers                                                  | a greeting  |

It imports nothing but the standard library and its knobs, so that it starts in a tenth of a second.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys

from controller.emulator.serving.knobs import Knobs

HTTP_OK, HTTP_ERROR = 200, 500
REASONS = {HTTP_OK: "OK", HTTP_ERROR: "Internal Server Error"}
LARGEST_HEAD = 64 * 1024
_USER_AGENT = b"\r\nuser-agent:"
A_YEAR = 365 * 86400.0
SECONDS_TO_END = 8.0
"""After SIGTERM; at ten, SIGKILL comes."""


class Sample:
    """Answers every request with a text, late and sometimes wrong, as its knobs say."""

    def __init__(self, knobs: Knobs, rng: random.Random) -> None:
        self._knobs = knobs
        self._rng = rng
        self._stamp = os.environ.get("K_REVISION", "").encode()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self._under_way += 1
                self._idle.clear()
                try:
                    await _skip_body(reader, head)
                    writer.write(await self._answer(_user_agent(head)))
                    await writer.drain()
                finally:
                    self._under_way -= 1
                    if not self._under_way:
                        self._idle.set()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            pass  # the other side is gone, or does not speak HTTP
        finally:
            writer.close()

    async def end(self, seconds: float) -> None:
        """Wait until no request is under way, but no longer than that."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)

    async def _answer(self, user_agent: bytes) -> bytes:
        await asyncio.sleep(self._knobs.draw_latency(self._rng) / 1000)
        status = HTTP_ERROR if self._rng.random() < self._knobs.error_share_of(user_agent) else HTTP_OK
        text = self._knobs.text if status == HTTP_OK else "This request failed on purpose."
        body = f"{text}\n".encode()
        head = (
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nX-Revision: "
        )
        return head.encode() + self._stamp + b"\r\n\r\n" + body


def _user_agent(head: bytes) -> bytes:
    place = head.lower().find(_USER_AGENT)
    return head[place + len(_USER_AGENT) :].partition(b"\r\n")[0].strip() if place >= 0 else b""


async def _skip_body(reader: asyncio.StreamReader, head: bytes) -> None:
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        while size := int((await reader.readline()).partition(b";")[0], 16):
            await reader.readexactly(size + 2)
        while (await reader.readline()).strip():
            pass
    else:
        await reader.readexactly(int(fields.get(b"content-length", b"0")))


async def serve(knobs: Knobs, port: int) -> None:
    """Listen until SIGTERM; requests under way have a moment to end."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    sample = Sample(knobs, random.Random())
    if knobs.start_seconds:
        await asyncio.wait({asyncio.ensure_future(ended.wait())}, timeout=min(knobs.start_seconds, A_YEAR))
    if not ended.is_set():
        server = await asyncio.start_server(
            sample.converse, "127.0.0.1", port, limit=LARGEST_HEAD, backlog=1024
        )
        _say(f"listening on port {port}")
        await ended.wait()
        server.close()
        await sample.end(SECONDS_TO_END)
    _say("asked to end, ending")


def _say(text: str) -> None:
    sys.stdout.write(f"sample: {text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the sample service; return its exit code."""
    try:
        knobs = Knobs.parse(os.environ)
        port = int(os.environ.get("PORT", "8080"))
    except ValueError as error:
        sys.stderr.write(f"sample: {error}\n")
        return 2
    if knobs.crashes:
        sys.stderr.write("sample: CRASH is set, ending with code 3\n")
        return 3
    asyncio.run(serve(knobs, port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
