"""Throwaway database servers for the tests: one function each, on a free loopback port, gone afterwards.

In:  programs found on PATH or in Debian's places.
Out: a running server and its address; `ServerMissingError` says in one line what to install.

A later server (MariaDB, Prometheus, ...) is one more context manager that uses `find_program`, `take_free_port`
and `run_server`, and one more fixture in conftest.py.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 10.0


class ServerMissingError(Exception):
    """A server's program is not installed. The message is one line that names the packages."""


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL, superuser `postgres`, no password, HypoPG available and not created.

    Args:
        port: On 127.0.0.1.
        version: Major version.
        bin: Directory of its programs.
    """

    port: int
    version: int
    bin: Path

    def url(self, database: str = "postgres", *, driver: str = "psycopg", user: str = "postgres") -> str:
        """Return SQLAlchemy's URL of a database of this server."""
        return f"postgresql+{driver}://{user}@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def start_postgres(*options: str) -> Iterator[Postgres]:
    """Run a PostgreSQL until the block ends.

    Args:
        options: Settings such as `work_mem=64MB`, added to those that make it quick.

    Raises:
        ServerMissingError: PostgreSQL or HypoPG is not installed.
    """
    programs = find_program("postgres", *_newest_first("/usr/lib/postgresql/*/bin")).resolve().parent
    version = int(_ask(programs / "postgres", "--version").split()[2].split(".")[0])
    extensions = Path(_ask(programs / "pg_config", "--sharedir")) / "extension"
    if not (extensions / "hypopg.control").exists():
        raise ServerMissingError(
            f"HypoPG is not installed for PostgreSQL {version}. Run: apt-get install postgresql-{version}-hypopg"
        )
    with _directory_for("postgres") as directory:
        data = directory / "data"
        _run_as_owner(
            [programs / "initdb", "--no-sync", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"],
            directory,
        )
        settings = [
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={directory}",
            # The data live as long as the tests: nothing has to reach the disk.
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "autovacuum=off",
            "shared_buffers=64MB",
            *options,
        ]

        def command(port: int) -> list[str]:
            return [
                str(programs / "postgres"), "-D", str(data), "-p", str(port),
                *(part for setting in settings for part in ("-c", setting)),
            ]  # fmt: skip

        def is_ready(_port: int) -> bool:
            # Its last line says when connections are taken; the port alone is open a little earlier.
            status = data / "postmaster.pid"
            return status.exists() and "ready" in status.read_text()

        with run_server(command, is_ready, directory) as port:
            yield Postgres(port, version, programs)


@contextlib.contextmanager
def start_redis() -> Iterator[str]:
    """Run a Redis that keeps nothing, until the block ends, and yield its URL.

    Raises:
        ServerMissingError: Redis is not installed.
    """
    # Not resolved: Debian's redis-server is a link to a program that does what it is called by.
    program = find_program("redis-server")

    def command(port: int) -> list[str]:
        return [str(program), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]

    def is_ready(port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False

    with _directory_for("redis") as directory, run_server(command, is_ready, directory) as port:
        yield f"redis://127.0.0.1:{port}/0"


def find_program(name: str, *places: Path) -> Path:
    """Return the path of a program, on PATH or in one of *places*.

    Raises:
        ServerMissingError: It is in none of them.
    """
    on_path = shutil.which(name)
    for path in [Path(on_path)] if on_path else [place / name for place in places]:
        if path.exists():
            return path
    raise ServerMissingError(f"{name} is not installed. Run: {_INSTALL[name]}")


_INSTALL = {
    "postgres": "apt-get install postgresql and the package postgresql-<its version>-hypopg",
    "redis-server": "apt-get install redis-server",
}


def take_free_port() -> int:
    """Return a loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def run_server(
    command: Callable[[int], Sequence[str]], is_ready: Callable[[int], bool], directory: Path
) -> Iterator[int]:
    """Start *command* on a free port as the owner of *directory*, and stop that very process when the block ends.

    Args:
        command: Command line for a port.
        is_ready: Whether the server takes connections on a port.
        directory: Working directory; `server.log` in it holds what the server prints.
    """
    for attempt in range(3):
        port = take_free_port()
        with (directory / "server.log").open("wb") as log:
            process = subprocess.Popen(
                command(port), cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_identity(directory)
            )
        if _wait(lambda: process.poll() is not None or is_ready(port)) and process.poll() is None:  # noqa: B023
            break
        _stop(process)
        # Another program may have taken the port in between: once more with another one.
        if attempt == 2:
            raise RuntimeError(f"{command(port)[0]} did not start:\n{(directory / 'server.log').read_text()}")
    try:
        yield port
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        # PostgreSQL's fast shutdown: it does not wait for clients that a failed test left behind.
        process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def _newest_first(pattern: str) -> list[Path]:
    def numbers(path: Path) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", str(path))]

    root = Path("/")
    return sorted(root.glob(pattern.removeprefix("/")), key=numbers, reverse=True)


@contextlib.contextmanager
def _directory_for(user: str) -> Iterator[Path]:
    """A temporary directory; owned by *user* or `nobody` when we are root, because servers refuse to run as root."""
    directory = Path(tempfile.mkdtemp(prefix="querywatch-test-"))
    try:
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            owner = pwd.getpwnam(user if user in names else "nobody")
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _identity(directory: Path) -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    status = directory.stat()
    return {"user": status.st_uid, "group": status.st_gid, "extra_groups": []}


def _run_as_owner(command: Sequence[object], directory: Path) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=directory, capture_output=True, text=True, check=False,
        **_identity(directory),
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")


def _ask(program: Path, option: str) -> str:
    try:
        return subprocess.run([program, option], capture_output=True, text=True, check=True).stdout.strip()
    except FileNotFoundError:
        raise ServerMissingError(f"{program.name} is not installed. Run: {_INSTALL['postgres']}") from None
