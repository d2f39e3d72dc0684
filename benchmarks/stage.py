"""What the benchmark of the HTTP front sets up: nginx, a local Cloud Run in a process of its own, wrk."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.cloud import run_v2
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport
from google.protobuf import field_mask_pb2

from controller.emulator.deploy import REVISION, Deployment, deploy

CONNECTIONS = 16
BODY = "0123456789" * 6
SHARES = {"web-stable": 90, "web-canary": 10}
SECONDS = 30.0
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "nginx"
_BACKEND = """
daemon off; master_process off; pid {folder}/{port}.pid; error_log {folder}/errors.log error;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000;
    {temporary}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{ default_type text/plain; return 200 "{body}"; }}
    }}
}}
"""
_FRONT = """
daemon off; worker_processes 1; pid {folder}/{port}.pid; error_log {folder}/errors.log error;
events {{ worker_connections 4096; }}
http {{
    log_format json escape=json '{{"time":"$time_iso8601","method":"$request_method","uri":"$request_uri",'
        '"status":$status,"size":$body_bytes_sent,"seconds":$request_time,"agent":"$http_user_agent",'
        '"address":"$remote_addr","upstream":"$upstream_addr","id":"$request_id"}}';
    access_log {folder}/access.log json; keepalive_requests 1000000000;
    {temporary}
    split_clients $request_id $revision {{ 10% canary; * stable; }}
    upstream stable {{ server 127.0.0.1:{stable}; keepalive 64; keepalive_requests 1000000000; }}
    upstream canary {{ server 127.0.0.1:{canary}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://$revision; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Load:
    """What wrk measured: requests a second, and latencies in milliseconds."""

    rate: float
    p50: float
    p99: float
    failures: int


def wrk(url: str, seconds: float) -> Load:
    """Load a URL with one thread and 16 connections."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", "-H", "Host: web.localhost"]
    said = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    failures = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    for numbers in re.findall(r"Socket errors: (.*)", said):
        failures += sum(map(int, re.findall(r"\d+", numbers)))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if rate is None:
        raise RuntimeError(f"wrk said nothing of requests a second:\n{said}")
    return Load(float(rate[1]), _milliseconds(said, "50%"), _milliseconds(said, "99%"), failures)


def _milliseconds(said: str, percentile: str) -> float:
    found = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)", said)
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]] if found else float("nan")


@contextmanager
def nginx_front(folder: Path) -> Iterator[str]:
    """Run nginx before two nginx backends; yield its URL."""
    ports = [_free_port() for _ in range(3)]
    stable, canary, front = ports
    texts = [_backend(folder, str(stable)), _backend(folder, str(canary))]
    texts.append(
        _FRONT.format(folder=folder, port=front, stable=stable, canary=canary, temporary=_temporary(folder))
    )
    running = []
    try:
        for port, text in zip(ports, texts, strict=True):
            path = folder / f"nginx-{port}.conf"
            path.write_text(text)
            running.append(subprocess.Popen([NGINX, "-c", str(path), "-e", str(folder / "errors.log")]))
        for port in ports:
            wait_for_port(port)
        yield f"http://127.0.0.1:{front}/"
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _backend(folder: Path, port: str) -> str:
    return _BACKEND.format(folder=folder, port=port, body=BODY, temporary=_temporary(folder))


def _temporary(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until something listens."""
    deadline, pause = time.monotonic() + SECONDS, threading.Event()
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            pause.wait(0.005)
        else:
            return
    raise RuntimeError(f"nothing listens on port {port}")


class LocalProcess:
    """`canary local up`, as a user starts it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "CANARY_LOCAL_DIR": str(folder)}
        self.state: dict[str, Any] = {}

    def up(self) -> float:
        """Start it; return the seconds until its ports answer."""
        begun = time.monotonic()
        self._canary("local", "up", "--speed", "1")
        self.state = json.loads((self._folder / "local.json").read_text())
        self.status()
        wait_for_port(int(self.state["front_address"].rpartition(":")[2]))
        wait_for_port(int(self.state["grpc_address"].rpartition(":")[2]))
        return time.monotonic() - begun

    def down(self) -> None:
        """End it."""
        self._canary("local", "down")

    def deploy_two(self) -> str:
        """Deploy nginx twice, 90 to 10; return the URL of the front."""
        template = self._folder / "backend.conf"
        template.write_text(_backend(self._folder, "PORT_OF_IT"))
        script = (
            f"sed s/PORT_OF_IT/$PORT/g {template} > {self._folder}/$PORT.conf && "
            f"exec {NGINX} -c {self._folder}/$PORT.conf -e {self._folder}/errors.log"
        )
        address, project, region = (self.state[name] for name in ("grpc_address", "project", "region"))
        for revision in SHARES:
            wanted = Deployment("web", ["sh", "-c", script], revision=revision, concurrency=1000)
            deploy(address, project, region, wanted)
        self._split(address, f"projects/{project}/locations/{region}/services/web")
        return f"http://{self.state['front_address']}/"

    def _split(self, address: str, name: str) -> None:
        traffic = [
            run_v2.TrafficTarget(type_=REVISION, revision=revision, percent=percent)
            for revision, percent in SHARES.items()
        ]
        with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            client = run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=channel))
            service = run_v2.Service(name=name, traffic=traffic)
            mask = field_mask_pb2.FieldMask(paths=["traffic"])
            client.update_service(service=service, update_mask=mask, timeout=SECONDS)
        front = int(self.state["front_address"].rpartition(":")[2])
        deadline = time.monotonic() + SECONDS
        while not self.counts()["web-canary"]:
            if time.monotonic() > deadline:
                raise RuntimeError("the split does not arrive")
            asyncio.run(send(front, 1000))

    def counts(self) -> dict[str, int]:
        """Return the requests that each revision has answered."""
        (service,) = self.status()["services"]
        return {name: sum(one["requests"].values()) for name, one in service["revisions"].items()}

    def status(self) -> dict[str, Any]:
        """Return what the admin port tells."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.state['admin_address']}/", timeout=SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def resident_mebibytes(self) -> float:
        """Return the memory of its process that is in use."""
        text = Path(f"/proc/{self.state['pid']}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        return int(found[1]) / 1024 if found else float("nan")

    def _canary(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "controller", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"canary {' '.join(arguments)} failed: {done.stderr or done.stdout}")


async def send(port: int, requests: int, at_once: int = 25) -> None:
    """Send exactly so many requests over 16 connections, some at once on each."""
    request = b"GET / HTTP/1.1\r\nHost: web.localhost\r\n\r\n"
    left = requests

    async def user() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left:
            now = min(at_once, left)
            left -= now
            writer.write(request * now)
            for _ in range(now):
                await reader.readuntil(BODY.encode())
        writer.close()

    await asyncio.gather(*(user() for _ in range(CONNECTIONS)))
