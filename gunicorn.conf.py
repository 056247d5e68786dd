"""Settings of every `gunicorn predict:app` that is started in this folder; its flags override them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # gunicorn does so later

try:
    from gevent import monkey

    monkey.patch_all()

    from serving.web import metrics
except ModuleNotFoundError as missing:
    installed = "install it with: pipenv sync, and start with: pipenv run gunicorn predict:app"
    sys.exit(f"gunicorn.conf.py needs the package {missing.name}; {installed}")

import atexit
import errno
import gc
import itertools
import math
import os
import shutil
import signal
import socket
import tempfile


def cores():
    """The processor cores that this process may use: its share of the container's, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:  # a container's limit, as Linux's control groups (version 2) tell it: "200000 100000" or "max 100000"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return allowed


def number(variable):
    """A whole number from the environment, or None where it is not set."""
    text = os.environ.get(variable)
    if text and not text.isdecimal():
        sys.exit(f"{variable} is {text!r}, which is no number")
    return int(text) if text else None


# Without PORT the service is for this machine; with it, as containers and platforms set it, for all.
bind = f"0.0.0.0:{number('PORT')}" if number("PORT") else "127.0.0.1:9696"

# A prediction is all computation: a worker process for each core, and no more.
workers = number("WEB_CONCURRENCY") or cores()

# One thread, and a greenlet for each connection: slow and stuck clients hold up nobody, and a thousand of them fit.
# The class is gunicorn's own for gevent, with time limits.
worker_class = "serving.web.gunicorn_worker.Worker"

# Longer than a load balancer keeps an idle connection (60 s at AWS and in nginx, 90 s at Heroku): it must be
# the one to close it, or now and then it sends a request into a connection that has just gone, and answers 502.
keepalive = 95

# No proxy is taken at its word, not even one on this machine: no answer depends on the scheme, the address or the
# prefix that its headers may tell, and whoever is behind it may have written them.
forwarded_allow_ips = ""

# What is being answered when a stop is asked for has this many seconds to finish.
graceful_timeout = 30

# The model is read once, before the workers start: they share its memory, and a file that cannot
# be read stops the start with one line instead of workers that keep failing.
preload_app = True

# The workers' heartbeat is a file; on a slow disk its updates could stall them.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def metrics_folder():
    """The folder where the processes keep their counts: the user's, or one that goes when the service does."""
    named = os.environ.get("PROMETHEUS_MULTIPROC_DIR")  # since the start, where this is a reload
    made_by, own = "serving-metrics-", f"serving-metrics-{os.getpid()}-"
    try:
        # One that another gunicorn made, which this one is to replace (USR2), goes with that.
        if named and (not Path(named).name.startswith(made_by) or Path(named).name.startswith(own)):
            Path(named).mkdir(parents=True, exist_ok=True)
            return named
        made = tempfile.mkdtemp(prefix=own, dir=worker_tmp_dir)
    except OSError as error:
        sys.exit(f"There is no folder for the metrics: {error}")
    master = os.getpid()
    # Workers leave through here too.
    atexit.register(lambda: os.getpid() == master and shutil.rmtree(made, ignore_errors=True))
    return made


os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics_folder()

# Lines of JSON, also gunicorn's own; `--access-logfile -` adds one a request.
logger_class = "serving.web.gunicorn_log.Logger"

# Nobody asked for gunicorn's remote control, and a read-only file system has no place for its socket.
control_socket_disable = True


def on_reload(server):
    """Take over the model file anew on SIGHUP, before the new workers start.

    Where it cannot be served they go on with the old one: the application was loaded once, here.
    """
    served = getattr(server.app.wsgi(), "served", None)
    if served:
        served.reload()
        metrics.meter.flush()


def on_starting(server):
    refuse_taken_addresses(server)
    if "GUNICORN_PID" not in os.environ:  # or it is shared with the gunicorn that this one is about to replace
        for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob(f"*{metrics.SUFFIX}"):
            file.unlink(missing_ok=True)
    metrics.meter.join(f"{server.pid}-main")


def when_ready(server):  # noqa: ARG001 (gunicorn's signature)
    """Have the garbage collector leave alone what is there before the workers start.

    It writes into every object that it looks at, and a page of memory that is written to is shared no more.
    Of what comes later it looks at 50,000 objects at a time: an array of 10,000 takes a tenth less time than
    with the 700 that are Python's default.
    """
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


def pre_fork(server, worker):
    """Give a worker a place in the metrics: that of a dead one, whose counts it continues, where there is one."""
    taken = {other.place for other in server.WORKERS.values()}
    worker.place = next(place for place in itertools.count() if place not in taken)


def post_fork(server, worker):
    """Have a worker that is still starting heed a stop, and open its place in the metrics."""
    # What it has from gunicorn's main process would only note the signal, for nobody to read, and then the stop would
    # wait for it in vain. Later gunicorn gives it handlers of its own.
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(each, lambda *_: sys.exit())
    metrics.meter.join(f"{server.pid}-{worker.place}")


def worker_exit(server, worker):  # noqa: ARG001 (gunicorn's signature)
    """Pass on the last second's counts."""
    metrics.meter.flush()


def refuse_taken_addresses(server):
    """Say in one line that an address is taken, where gunicorn itself would retry for five seconds."""
    if "GUNICORN_FD" in os.environ or "LISTEN_FDS" in os.environ:
        return  # the sockets were handed over by an older gunicorn or by systemd
    for host, port in (address for address in server.cfg.address if isinstance(address, tuple)):
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                other = f"PORT={port + 1} make serve, or --bind {host}:{port + 1}"
                sys.exit(f"{host}:{port} is taken by another program; stop it, or choose another port: {other}")
