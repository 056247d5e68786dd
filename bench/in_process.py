"""Call a WSGI application with the same POST /predict, in this process.

usage: in_process.py MODULE:APP REQUESTS     (run.py runs it under valgrind)
"""

import gc
import importlib
import io
import json
import sys

import customers

name, requests = sys.argv[1], int(sys.argv[2])
module, _, attribute = name.partition(":")
app = getattr(importlib.import_module(module), attribute)
body = json.dumps(customers.ONE).encode()


def environ() -> dict:
    """What gunicorn passes for a request of wrk's."""
    return {
        "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": object,
        "wsgi.input_terminated": True,
        "wsgi.input": io.BytesIO(body),
        "wsgi.url_scheme": "http",
        "SERVER_SOFTWARE": "gunicorn",
        "REQUEST_METHOD": "POST",
        "QUERY_STRING": "",
        "RAW_URI": "/predict",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1:9696",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "9696",
        "PATH_INFO": "/predict",
        "SCRIPT_NAME": "",
    }


def start_response(status: str, headers: list, exc_info: object = None) -> None:
    assert status == "200 OK", status


gc.disable()  # when it runs depends on the start, not on the requests
for _ in range(requests):
    answer = app(environ(), start_response)
    assert b"".join(answer).startswith(b'{"churn_probability":0.339064')
    if hasattr(answer, "close"):
        answer.close()
if "serving.web.metrics" in sys.modules:  # where the last second's requests still wait to be passed on
    sys.modules["serving.web.metrics"].meter.flush()
