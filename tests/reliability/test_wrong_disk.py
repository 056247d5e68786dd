"""A disk that is not as it should be: a clear line and no start, or the old state kept."""

import os
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from conftest import GUNICORN, MODEL_FILE, ROOT, WAITRESS, Running, free_port, running, wait_until, workers
from load import CSV, customers_and_probabilities, table
from test_metrics import scored
from test_reload import replace, sha256

ONE_WORKER = [*GUNICORN, "--workers", "1"]
SERVERS = pytest.mark.parametrize("server", [GUNICORN, WAITRESS], ids=["gunicorn", "waitress"])

# A process in a mount namespace of its own, after some commands there.
UNSHARE = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"]


def in_namespace(commands: str, server: list[str]) -> list[str]:
    return [*UNSHARE, f'{commands}; exec "$@"', "sh", *server]


def needs_mount() -> None:
    """Skip where this process may not mount anything."""
    if shutil.which("unshare") is None:
        pytest.skip("the program unshare is not installed")
    done = subprocess.run([*UNSHARE, "mount -t tmpfs none /mnt"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no mount here: {done.stderr.strip()}")


def unprivileged() -> list[str]:
    """What to put before a command so that files' permissions hold for it."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read anything, and the program setpriv is not installed")
    return ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]


def failed_start(server: list[str], **environment: str) -> str:
    """What a server says that ends by itself with a status that is not 0."""
    done = subprocess.run(
        [word.format(port=free_port()) for word in server],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


@SERVERS
def test_a_model_that_is_missing_stops_the_start_with_one_line(server, tmp_path):
    said = failed_start(server, SERVING_MODEL=str(tmp_path / "none.bin"))
    [line] = [line for line in said.splitlines() if "none.bin" in line]
    assert line.startswith("predict.py: the model cannot be served")
    assert "No such file" in line


@SERVERS
def test_a_model_that_may_not_be_read_stops_the_start_with_one_line(server, tmp_path):
    file = tmp_path / "mine.bin"
    shutil.copy(MODEL_FILE, file)
    file.chmod(0)
    said = failed_start([*unprivileged(), *server], SERVING_MODEL=str(file))
    assert "predict.py: the model cannot be served" in said
    assert "Permission denied" in said


@SERVERS
def test_half_a_model_stops_the_start_with_one_line(server, tmp_path):
    file = tmp_path / "half.bin"
    file.write_bytes(MODEL_FILE.read_bytes()[:1000])
    [line] = [line for line in failed_start(server, SERVING_MODEL=str(file)).splitlines() if "half.bin" in line]
    assert line.startswith("predict.py: the model cannot be served")
    assert "truncated" in line


def another_spelling() -> bytes:
    """The committed model in other bytes."""
    return pickle.dumps(pickle.loads(MODEL_FILE.read_bytes()), protocol=4)


def test_a_model_that_is_written_in_place_is_taken_over_only_when_it_is_whole(customer, tmp_path):
    file = tmp_path / "model.bin"
    shutil.copy(MODEL_FILE, file)
    new = another_spelling()
    with running(ONE_WORKER, SERVING_MODEL=str(file)) as service:
        before = sha256(service)
        expected = service.predict(customer).json
        with file.open("wb") as in_place:
            for number, end in enumerate((0, len(new) // 2, len(new) - 1), start=1):
                in_place.write(new[in_place.tell() : end])
                in_place.flush()
                service.process.send_signal(signal.SIGHUP)
                wait_until(lambda number=number: service.log().count("model refused") == number)
                assert sha256(service) == before
                assert service.predict(customer).json == expected
            in_place.write(new[in_place.tell() :])
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: sha256(service) != before)
        assert service.predict(customer).json == expected


def test_a_model_that_goes_away_or_cannot_be_read_leaves_the_old_one_serving(customer, tmp_path):
    file = tmp_path / "model.bin"
    shutil.copy(MODEL_FILE, file)
    with running(ONE_WORKER, SERVING_MODEL=str(file)) as service:
        before = sha256(service)
        file.unlink()
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.log().count("model refused") == 1)
        file.mkdir()
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.log().count("model refused") == 2)
        assert sha256(service) == before
        service.close()  # a worker that goes might have it
        assert service.predict(customer).status == 200
        file.rmdir()
        replace(file, MODEL_FILE.read_bytes())
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.log().count("model loaded") == 2)


@pytest.fixture(scope="module")
def large_table() -> bytes:
    """More than stays in memory when it is scored."""
    return table(customers_and_probabilities()[0] * 4)


def test_a_full_temporary_folder_refuses_large_tables_and_nothing_else(customer, large_table, tmp_path):
    needs_mount()
    commands = f"mount -t tmpfs -o size=1m none {tmp_path}; head -c 1000000 /dev/zero > {tmp_path}/full"
    with running(in_namespace(commands, ONE_WORKER), TMPDIR=str(tmp_path)) as service:
        keeps_answering(service, customer, large_table)


def test_a_read_only_file_system_refuses_large_tables_and_nothing_else(customer, large_table):
    needs_mount()
    # What is mounted elsewhere, like /dev/shm, stays writable, as in `docker run --read-only`.
    commands = (
        "mount --bind / /mnt; mount -o remount,bind,ro /mnt; mount --rbind /dev /mnt/dev; mount --rbind /proc /mnt/proc"
    )
    inside = ["unshare", "--root=/mnt", f"--wd={ROOT}", *ONE_WORKER]
    with running(in_namespace(commands, inside)) as service:
        keeps_answering(service, customer, large_table)


def test_one_folder_that_can_be_written_to_is_enough(customer, large_table, tmp_path):
    needs_mount()
    # Without the /dev/shm that a container has.
    commands = (
        "mount --bind / /mnt; mount -o remount,bind,ro /mnt; mount --bind /dev /mnt/dev; mount --bind /proc /mnt/proc;"
        f"mount -o remount,bind,ro /mnt/dev; mount --bind {tmp_path} /mnt{tmp_path}"
    )
    inside = ["unshare", "--root=/mnt", f"--wd={ROOT}", *ONE_WORKER]
    with running(in_namespace(commands, inside), TMPDIR=str(tmp_path)) as service:
        assert service.predict(large_table, CSV).status == 200
        assert service.predict(customer).status == 200
        assert scored(service) == 1
        assert any(tmp_path.glob("serving-metrics-*"))


def keeps_answering(service, customer, large_table) -> None:
    """Assert that a large table is refused for want of disk, and the rest answered."""
    answer = service.predict(large_table, CSV)
    assert answer.status == 507
    assert "disk" in answer.json["detail"]
    assert service.predict(customer).status == 200
    # Larger than what is left of the disk.
    scored = service.predict(table([customer] * 2000), CSV)
    assert (scored.status, scored.body.count(b"\n")) == (200, 2001)
    assert service.get("/health").status == 200
    assert service.process.poll() is None


@pytest.mark.parametrize("option", ["size=4k", "ro"])
def test_where_nothing_can_be_written_a_worker_knows_its_own_counts_and_says_so_once(option, customer, tmp_path):
    needs_mount()
    mount = f"mount -t tmpfs -o {option} none {tmp_path}"
    with running(in_namespace(mount, ONE_WORKER), PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) as service:
        for number in range(1, 4):
            assert service.predict(customer).status == 200
            assert scored(service) == number
            time.sleep(1.1)
        assert service.log().count("do not get to know this one's metrics") == 1
        service.close()
        next_worker(service, lambda old: os.kill(old, signal.SIGKILL))
        assert service.predict(customer).status == 200
        assert scored(service) == 1


def test_a_full_dev_shm_stops_the_start_of_no_service(customer):
    needs_mount()
    mount = "mount -t tmpfs -o size=4k none /dev/shm"
    with running(in_namespace(mount, ONE_WORKER)) as service:
        assert service.predict(customer).status == 200
        assert scored(service) == 1


def next_worker(service: Running, end: Callable[[int], None]) -> None:
    """End the one worker, and wait for the one that comes after it."""
    [old] = workers(service)
    end(old)
    wait_until(lambda: len(workers(service)) == 1 and workers(service) != [old])
