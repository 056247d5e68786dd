"""Mixed load on the service while its workers are killed one after the other."""

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from conftest import GUNICORN, WAITRESS, Running, running, wait_until
from load import Question, load

CLIENTS = 4
# Of which the oldest is spared, so that its memory tells of leaks.
WORKERS = 3
KILL_SECONDS = 3
# Of load before the memory is looked at: until then caches fill, under waitress by a sixth of it.
WARM_UP_SECONDS = 5


class Soak(NamedTuple):
    """What a soak has shown."""

    seconds: float
    right: int
    kills: int
    cut_off: int
    longest_silence: float  # s between two answers, whoever got them
    memory_at_start: float  # MB: the proportional set size of all processes, when caches have filled
    memory_at_end: float


def soak(asked: list[Question], seconds: float, server: str = "gunicorn") -> Soak:
    """Run it, and assert that every answer was right and that what was cut off was cut off by a kill.

    Under waitress nobody is killed: there is one process.
    """
    command = [*GUNICORN, "--workers", str(WORKERS)] if server == "gunicorn" else WAITRESS
    chance = random.Random(2)
    cut_by_kills: list[int] = []
    killed_at: list[float] = []
    memory = []
    with running(command) as service:
        with load(service, CLIENTS, asked) as seen:
            time.sleep(WARM_UP_SECONDS)
            started = time.monotonic()
            while (passed := time.monotonic() - started) < seconds:
                time.sleep(min(KILL_SECONDS, max(0.1, seconds - passed)))
                memory.append(proportional_set_size(service))
                if server == "gunicorn":
                    wait_until(lambda: len(service.pids()) == WORKERS + 1)
                    victim = chance.choice(service.pids()[2:])
                    cut_by_kills += kill(victim, service.port)
                    killed_at.append(time.monotonic())
            passed = time.monotonic() - started
        assert service.process.poll() is None
        service.close()  # a connection from before, of which the worker may be gone
        assert service.get("/health").status == 200
    assert not seen.wrong, seen.wrong[:3]
    for cut_off in seen.cut_off:
        before = [round(cut_off.at - at, 3) for at in killed_at if at < cut_off.at]
        assert cut_off.port in cut_by_kills, f"{cut_off}, {before[-1:]} s after a kill, was not cut off by it"
        cut_by_kills.remove(cut_off.port)
    assert "Traceback" not in service.log()
    # Medians of the second eighth and of the last.
    eighth = len(memory) // 8
    early, late = median(memory[eighth : 2 * eighth + 1]), median(memory[-eighth - 1 :])
    return Soak(passed, seen.right, len(killed_at), len(seen.cut_off), seen.longest_silence, early, late)


def kill(pid: int, port: int) -> list[int]:
    """Kill a worker with SIGKILL; gives the ports of the clients that were connected to it."""
    # Stopped first: what it holds then is what the kill cuts off.
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    cut = clients_of(pid, port)
    os.kill(pid, signal.SIGKILL)
    return cut


def clients_of(pid: int, port: int) -> list[int]:
    """The ports of the clients whose connections to this port a process holds."""
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    # The list changes while it is read, and then may lack a line: it is read until nothing is added.
    found = set(_ports(port, inodes))
    while more := set(_ports(port, inodes)) - found:
        found |= more
    return list(found)


def _ports(port: int, inodes: set[str]) -> Iterator[int]:
    """The ports from which there are connections to this port, whose sockets here have these numbers."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        row = line.split()
        if int(row[1][-4:], 16) == port and row[9] in inodes:
            yield int(row[2][-4:], 16)


def proportional_set_size(service: Running) -> float:
    """The memory of a service's processes in MB, what they share counted once."""
    total = 0
    for pid in service.pids():
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(re.search(r"^Pss: +(\d+)", rollup, re.MULTILINE)[1])
    return total / 1000
