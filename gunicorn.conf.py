"""Settings of every `gunicorn predict:app` that is started in this folder; its flags override them."""

import errno
import os
import socket
import sys

# Without PORT the service is for this machine; with it, as containers and platforms set it, for all.
_port = os.environ.get("PORT")
if _port and not _port.isdecimal():
    sys.exit(f"PORT is {_port!r}, which is no port number")
bind = f"0.0.0.0:{_port}" if _port else "127.0.0.1:9696"

# Threads, so that a connection that is kept alive, or slow, does not hold up the others.
worker_class = "gthread"
threads = 4

# The model is read once, before the workers start: they share its memory, and a file that cannot
# be read stops the start with one line instead of workers that keep failing.
preload_app = True

# Nobody asked for gunicorn's remote control, and a read-only file system has no place for its socket.
control_socket_disable = True


def on_starting(server):
    """Say in one line that an address is taken, where gunicorn itself would retry for five seconds."""
    if "GUNICORN_FD" in os.environ or "LISTEN_FDS" in os.environ:
        return  # the sockets were handed over by an older gunicorn or by systemd
    for address in server.cfg.address:
        if isinstance(address, tuple):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(address)
                except OSError as error:
                    if error.errno == errno.EADDRINUSE:
                        where = f"{address[0]}:{address[1]}"
                        server.log.error("%s is taken by another program; stop it, or choose another --bind.", where)
                        sys.exit(1)
