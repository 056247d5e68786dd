"""PythonAnywhere's WSGI file: its uWSGI looks for `application`.

The project is in ~/churn-serving, and the API keys, one a line, in ~/serving-keys: the service is closed without them.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path.home() / "churn-serving"))
os.environ["SERVING_API_KEYS_FILE"] = str(Path.home() / "serving-keys")

from predict import app


def application(environ, start_response):
    """The service's answer. What was left of the body is read too: uWSGI would reset the connection over it."""
    answer = app(environ, start_response)
    while environ["wsgi.input"].read(65_536):
        pass
    return answer
