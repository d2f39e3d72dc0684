"""An instance that answers each path in its own way, rightly or wrongly; run as a process of its own."""

import asyncio
import hashlib
import json
import os
import sys

FORWARDED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LATER = asyncio.Event()
COUNTS = {"connections": 0, "sent": 0}
WRONG = {
    "/garbage": b"This is no HTTP at all\r\n\r\n",
    "/nothing": b"",
    "/large-head": b"HTTP/1.1 200 OK\r\nX-Large: " + b"x" * 300_000,
    "/unasked-switch": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\n",
    "/short": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this",
    "/bad-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwell\r\nxyz\r\n",
}
"""What is sent before the connection is closed."""
PLAIN = {
    "/": FORWARDED,
    "/no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/not-modified": b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 100\r\n\r\n',
    "/informed": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + FORWARDED,
    "/hops": b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nConnection: keep-alive\r\n"
    b"X-Stays: yes\r\nContent-Length: 0\r\n\r\n",
    "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
}


class Conversation:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.closes_at_next = False
        COUNTS["connections"] += 1
        self.number = COUNTS["connections"]

    async def run(self) -> None:
        try:
            while await self.exchange():
                await self.writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writer.close()

    async def exchange(self) -> bool:
        """Answer one request; return whether another may follow."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if self.closes_at_next:
            return False
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        path = target.partition("?")[0]
        if path in WRONG:
            self.writer.write(WRONG[path])
            return False
        if method == "HEAD":
            self.writer.write(FORWARDED.removesuffix(b"ok"))
            return True
        if path in PLAIN:
            self.writer.write(PLAIN[path])
            return True
        goes_on: bool = await getattr(self, path.strip("/").replace("-", "_"))(method, target, lines)
        return goes_on

    async def echo(self, method: str, target: str, lines: list[str]) -> bool:
        body = await self.body(lines)
        said = {
            "method": method,
            "target": target,
            "lines": lines,
            "size": len(body),
            "sha": hashlib.sha256(body).hexdigest(),
            "connection": self.number,
        }
        self.answer(json.dumps(said).encode())
        return True

    async def body(self, lines: list[str]) -> bytes:
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if fields.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(fields.get("content-length", "0")))
        parts = []
        while size := int(await self.reader.readline(), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return b"".join(parts)

    def answer(self, body: bytes) -> None:
        stamp = os.environ["K_REVISION"].encode()
        self.writer.write(
            b"HTTP/1.1 200 OK\r\nX-Revision: %s\r\nContent-Length: %d\r\n\r\n%s" % (stamp, len(body), body)
        )

    async def counts(self, *_: object) -> bool:
        self.answer(json.dumps(COUNTS).encode())
        return True

    async def revision(self, *_: object) -> bool:
        self.answer(os.environ["K_REVISION"].encode())
        return True

    async def until_close(self, *_: object) -> bool:
        self.writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        return False

    async def closes_next(self, *_: object) -> bool:
        self.closes_at_next = True
        self.writer.write(FORWARDED)
        return True

    async def hangs(self, *_: object) -> bool:
        """Never answer, and tell when the other side is gone."""
        say("hanging")
        await self.reader.read()
        say("left alone")
        return False

    async def begins_and_hangs(self, *_: object) -> bool:
        self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
        await self.reader.read()
        say("left alone in the middle")
        return False

    async def waits(self, *_: object) -> bool:
        """Send a first chunk, and the last one when /go is asked for."""
        self.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await LATER.wait()
        LATER.clear()
        self.writer.write(b"4\r\nlast\r\n0\r\n\r\n")
        return True

    async def go(self, *_: object) -> bool:
        LATER.set()
        self.writer.write(FORWARDED)
        return True

    async def endless(self, *_: object) -> bool:
        self.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            self.writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await self.writer.drain()
            COUNTS["sent"] += 65536

    async def dies(self, *_: object) -> bool:
        self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nlast words")
        await self.writer.drain()
        os._exit(7)

    async def early(self, *_: object) -> bool:
        """Answer without having read the body."""
        self.answer(b"enough")
        await asyncio.sleep(3600)
        return False

    async def reads_nothing(self, *_: object) -> bool:
        await LATER.wait()
        LATER.clear()
        return False

    async def socket(self, method: str, target: str, lines: list[str]) -> bool:  # noqa: ARG002
        """Switch protocols, and send everything back from then on."""
        assert "Upgrade: websocket" in lines
        self.writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: yes\r\n\r\nwelcome"
        )
        while data := await self.reader.read(65536):
            self.writer.write(data)
            await self.writer.drain()
        say("the tunnel is closed")
        return False


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main() -> None:
    server = await asyncio.start_server(
        lambda reader, writer: Conversation(reader, writer).run(),
        "127.0.0.1",
        int(os.environ["PORT"]),
        backlog=2048,
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
