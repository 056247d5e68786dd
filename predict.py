"""The churn service: `gunicorn predict:app`, or `python predict.py` for development."""

import errno
import os
import sys
from functools import partial
from pathlib import Path
from typing import IO

import flask_swagger_ui
import msgspec
from flask import Flask, Response, render_template, request, send_from_directory
from msgspec.structs import astuple
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from serving import about, bodies, exposition, keys, logs, openapi, page, prediction, problem, table, web
from serving.customer import SEED_CUSTOMER, InvalidCustomers
from serving.metrics import meter
from serving.model import NotExplainable
from serving.pickles import BadModel
from serving.problem import Problem
from serving.records import NotJSON, TooMuch
from serving.rows import BadTable
from serving.served_model import ServedModel
from serving.settings import BadSetting, Settings, from_environment

HERE = Path(__file__).parent
SWAGGER_UI = Path(flask_swagger_ui.__file__).with_name("dist")

SEED = astuple(SEED_CUSTOMER)

# How a disk says that it takes no more; where it is read-only, Python finds no temporary folder.
NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT)

# What is wrong with a request: the status, and the sentence around what the exception says.
REFUSED: dict[type[Exception], tuple[int, str]] = {
    NotJSON: (400, "The body is not JSON: {}."),
    BadTable: (400, "The table cannot be read: {}."),
    TooMuch: (413, "{}"),
    InvalidCustomers: (422, "{}"),
    NotExplainable: (422, "{}"),
}


def create_app(settings: Settings) -> Flask:
    """The service with these settings. Raises `BadModel`, and `OSError` where the model cannot be read."""
    served = ServedModel(HERE / settings.model)
    logs.model_loaded(served.model.about)
    app = web.Service(__name__, served)
    api_keys, metrics_keys = keys.configured(settings), keys.configured(settings, also=settings.metrics_key)
    if api_keys is None:
        app.logger.warning(keys.OPEN)

    @app.get("/ping")
    def ping() -> Response:
        return Response("PONG", mimetype="text/plain")

    @app.get("/health")
    def health() -> Response:
        try:
            served.model.probability(SEED)
        except Exception as error:
            raise Problem(503, "The model does not score; the service's log says why.") from error
        return _json({"status": "ok"})

    @app.post("/predict")
    def predict() -> Response:
        environ = request.environ
        if api_keys is not None:
            api_keys.check(environ)
        explain = bool(environ.get("QUERY_STRING")) and _asks_for_reasons()
        match web.mimetype(environ):
            case web.JSON:
                body = bodies.whole(environ, settings.max_json_bytes)
                return _json(prediction.answer(served.model, body, settings.max_records, explain))
            case web.CSV:
                return web.file_response(_scored_table(explain), web.CSV)
            case other:
                it_is = other or "not there"
                raise Problem(
                    415, f"Send the header Content-Type: {web.JSON}, or {web.CSV} for a table (it is {it_is})."
                )

    def _scored_table(explain: bool) -> IO[bytes]:
        try:
            return table.score(bodies.Body(request.environ, settings.max_table_bytes), served.model, explain)
        except OSError as error:
            if error.errno in NO_DISK:
                raise Problem(507, "The service has no disk left to keep the scored table on.") from error
            raise

    @app.get("/model")
    def about_model() -> Response:
        return _json(about.served(served.model))

    @app.get("/")
    def index() -> Response:
        return web.page(render_template("page.html", **page.context(about.served(served.model))))

    @app.get("/openapi.json")
    def description() -> Response:
        return _json(openapi.document())

    @app.get("/docs")
    def docs() -> Response:
        return web.page(render_template("docs.html"))

    @app.get("/docs/<path:file>")
    def docs_asset(file: str) -> Response:
        return send_from_directory(SWAGGER_UI, file)

    @app.get("/metrics")
    def all_metrics() -> Response:
        if metrics_keys is not None:
            metrics_keys.check(request.environ)
        return Response(exposition.page(meter.total(), served.model.about), content_type=exposition.MEDIA_TYPE)

    for kind, (status, sentence) in REFUSED.items():
        app.register_error_handler(kind, partial(_refused, status, sentence))

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(error: RequestEntityTooLarge) -> Response:  # noqa: ARG001 (it does not know the limit)
        if request.mimetype == web.CSV:
            detail = f"A table can have {settings.max_table_bytes:,} bytes (SERVING_MAX_TABLE_BYTES); send it in parts."
        else:
            limit = f"A JSON body can have {settings.max_json_bytes:,} bytes (SERVING_MAX_JSON_BYTES)"
            detail = f"{limit}; send more customers as a table (CSV)."
        return _problem(Problem(413, detail))

    @app.errorhandler(Problem)
    def other_problem(error: Problem) -> Response:
        if error.status >= 500 and error.__cause__:  # else it is no failure, but says when to come back
            app.log_failure(error, error.status)
        return _problem(error)

    @app.errorhandler(HTTPException)
    def http_problem(error: HTTPException) -> Response:
        answer = Response(headers=error.get_headers(request.environ))  # such as Allow
        answer.status_code = error.code or 500
        detail = error.description or ""
        if isinstance(error, MethodNotAllowed):
            detail = f"{request.path} takes {' and '.join(sorted(error.valid_methods or ()))}, not {request.method}."
        answer.data = Problem(answer.status_code, detail).json(web.request_id(request))
        answer.content_type = problem.MEDIA_TYPE
        return answer

    return app


def _asks_for_reasons() -> bool:
    """Whether the address ends with ?explain=true."""
    match request.args.get("explain", "false"):
        case "true" | "1" | "":
            return True
        case "false" | "0":
            return False
        case other:
            raise Problem(400, f"explain is {other!r}; it can be true or false.")


def _refused(status: int, sentence: str, error: Exception) -> Response:
    return _problem(Problem(status, sentence.format(error), getattr(error, "errors", ())))


def _json(answer: object) -> Response:
    return web.JSONResponse(msgspec.json.encode(answer))


def _problem(found: Problem) -> Response:
    return Response(found.json(web.request_id(request)), found.status, found.headers, content_type=problem.MEDIA_TYPE)


logs.start()
try:
    app = create_app(from_environment())
except BadSetting as wrong:
    sys.exit(f"predict.py: {wrong}")
except (BadModel, OSError) as unusable:
    logs.model_refused(unusable)
    sys.exit(f"predict.py: the model cannot be served: {unusable}")

if __name__ == "__main__":
    port = os.environ.get("PORT", "9696")
    if not port.isdecimal():
        sys.exit(f"predict.py: PORT is {port!r}, which is no port number")
    app.run(host="127.0.0.1", port=int(port))
