"""The service: `gunicorn predict:app`, or `python predict.py` for development."""

import errno
import os
import sys
from functools import partial
from pathlib import Path

import serving  # noqa: F401 (it says which Python is needed; an older one must be able to read this file until here)

try:
    import flask_swagger_ui
    import msgspec
    from flask import Flask, Response, render_template, request, send_from_directory
    from werkzeug.exceptions import HTTPException, MethodNotAllowed

    from serving.errors import BadTable, InvalidRecords, TooMuch
    from serving.model.base import NotExplainable
    from serving.model.stand_ins import BadModel
    from serving.records import Form, NotJSON
    from serving.tables import scored
    from serving.tables.scored import Explain, Scored
    from serving.web import about, bodies, drift, exposition, flask_service, keys, logs, openapi, page, problem, uploads
    from serving.web.counts import Tally
    from serving.web.metrics import meter
    from serving.web.problem import Problem
    from serving.web.served_model import ServedModel
    from serving.web.settings import BadSetting, Settings, from_environment
except ModuleNotFoundError as error:
    if str(error.name).startswith("serving"):
        raise  # a file of this folder is missing
    installed = "install it with: pipenv sync, and put in front of your command: pipenv run"
    sys.exit(f"predict.py needs the package {error.name}; {installed}")

HERE = Path(__file__).parent
SWAGGER_UI = Path(flask_swagger_ui.__file__).with_name("dist")

# How a disk says that it takes no more, or is not there.
NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT)

NO_DISK_LEFT = "The service has no disk left to keep the scored table on (a container's /tmp can be a volume)."

# What an address can say of reasons.
REASONS = {"true": True, "1": True, "": True, "words": True, "false": False, "0": False}

encode = msgspec.json.Encoder().encode

# What is wrong with a request: the status, and the sentence around what the exception says.
REFUSED: dict[type[Exception], tuple[int, str]] = {
    NotJSON: (400, "The body is not JSON: {}."),
    BadTable: (400, "The table cannot be read: {}."),
    TooMuch: (413, "{}"),
    InvalidRecords: (422, "{}"),
    NotExplainable: (422, "{}"),
}


def create_app(settings: Settings) -> Flask:
    """The service with these settings. Raises `BadModel`, and `OSError` where the model cannot be read."""
    served = ServedModel(HERE, settings)
    app = flask_service.Service(__name__, served)
    api_keys, metrics_keys = keys.configured(settings), keys.configured(settings, also=settings.metrics_key)
    if api_keys is None:
        app.logger.warning(keys.OPEN)

    @app.get("/ping")
    def ping() -> Response:
        return Response("PONG", mimetype="text/plain")

    @app.get("/health")
    def health() -> Response:
        try:
            served.predictor.of_example()
        except Exception as error:
            raise Problem(503, "The model does not score; the service's log says why.") from error
        if not served.refusal:
            return _json({"status": "ok"})
        return _json({"status": "ok", "detail": f"The model is the old one. The new one was refused: {served.refusal}"})

    @app.post("/predict")
    def predict() -> Response:
        environ = request.environ
        if api_keys is not None:
            api_keys.check(environ)
        explain = _explain() if environ.get("QUERY_STRING") else None
        sent = flask_service.mimetype(environ)
        if sent == flask_service.JSON:
            return _predicted(bodies.whole(environ, settings.max_json_bytes), bool(explain))
        if sent in (flask_service.CSV, flask_service.EXCEL, flask_service.FORM):
            return _table_answer(_scored_table(explain))
        wanted = f"{flask_service.JSON}, or {flask_service.CSV} for a table"
        raise Problem(415, f"Send the header Content-Type: {wanted} (it is {sent or 'not there'}).")

    def _predicted(body: bytes, explain: bool) -> Response:
        predictor = served.predictor
        try:
            records = predictor.read(body, settings.max_records)
        except InvalidRecords as invalid:
            form: Form = "array" if body.lstrip().startswith(b"[") else "object"
            meter.invalid(form, invalid.errors, invalid.number)
            raise
        probabilities, answer = predictor.predict(records, explain)
        meter.scored(records, probabilities)
        return _json(answer)

    def _scored_table(explain: Explain | None) -> Scored:
        predictor = served.predictor
        tally = Tally.of_model(predictor.model)
        try:
            with uploads.table(request.environ, settings.max_table_bytes) as upload:
                found = scored.score(upload, predictor, explain, tally)
        except OSError as error:
            if error.errno in NO_DISK:
                raise Problem(507, NO_DISK_LEFT) from error
            raise
        meter.add(tally)  # now that all of it is known to be a table
        return found

    def _table_answer(found: Scored) -> Response:
        answer = flask_service.file_response(found.file, found.encoding)
        if found.reasons_unit:
            answer.headers["X-Reasons-Unit"] = found.reasons_unit
        return answer

    def _hides() -> bool:
        """Whether values that may be ids are not for whoever asks."""
        return api_keys is not None and not api_keys.opens(request.environ)

    @app.get("/model")
    def about_model() -> Response:
        return _json(about.served(served.predictor, _hides()))

    @app.get("/")
    def index() -> Response:
        return flask_service.page(render_template("page.html", **page.context(served.predictor, _hides())))

    @app.get("/openapi.json")
    def description() -> Response:
        described = render_template("openapi.json", **openapi.context(served.predictor, _hides()))
        return _json(msgspec.json.decode(described))

    @app.get("/docs")
    def docs() -> Response:
        return flask_service.page(render_template("docs.html"))

    @app.get("/docs/<path:file>")
    def docs_asset(file: str) -> Response:
        return send_from_directory(SWAGGER_UI, file)

    @app.get("/metrics")
    def all_metrics() -> Response:
        if metrics_keys is not None:
            metrics_keys.check(request.environ)
        return Response(exposition.page(meter.total(), served.predictor.model), content_type=exposition.MEDIA_TYPE)

    @app.get("/drift")
    def drift_since_start() -> Response:
        if metrics_keys is not None:
            metrics_keys.check(request.environ)
        return _json(drift.since_start(meter.total(), served.predictor.model))

    for kind, (status, sentence) in REFUSED.items():
        app.register_error_handler(kind, partial(_refused, status, sentence))

    @app.errorhandler(bodies.BodyTooLarge)
    def too_large(error: bodies.BodyTooLarge) -> Response:  # noqa: ARG001 (it does not know the limit)
        if request.mimetype != flask_service.JSON:
            detail = f"A table can have {settings.max_table_bytes:,} bytes (SERVING_MAX_TABLE_BYTES); send it in parts."
        else:
            limit = f"A JSON body can have {settings.max_json_bytes:,} bytes (SERVING_MAX_JSON_BYTES)"
            detail = f"{limit}; send more as a table (CSV)."
        return _problem(Problem(413, detail))

    @app.errorhandler(Problem)
    def other_problem(error: Problem) -> Response:
        if error.status >= 500 and error.__cause__:  # else it is no failure, but says when to come back
            app.log_failure(error, error.status)
        return _problem(error)

    @app.errorhandler(HTTPException)
    def http_problem(error: HTTPException) -> Response:
        detail = error.description or ""
        if isinstance(error, MethodNotAllowed):
            detail = f"{request.path} takes {' and '.join(sorted(error.valid_methods or ()))}, not {request.method}."
        headers = dict(error.get_headers(request.environ))  # such as Allow
        return _problem(Problem(error.code or 500, detail, headers=headers))

    return app


def _explain() -> Explain | None:
    """What the address asks of reasons, with ?explain=true or ?explain=words&from=0.5."""
    asked, least = request.args.get("explain", "false"), request.args.get("from", "0")
    if asked not in REASONS:
        raise Problem(400, f"explain is {asked!r}; it can be true, false or words.")
    try:
        if not 0 <= float(least) <= 1:
            raise ValueError
    except ValueError as error:
        raise Problem(400, f"from is {least!r}; it can be a probability, from 0 to 1.") from error
    return Explain(float(least), in_words=asked == "words") if REASONS[asked] else None


def _refused(status: int, sentence: str, error: Exception) -> Response:
    return _problem(Problem(status, sentence.format(error), getattr(error, "errors", ())))


def _json(answer: object) -> Response:
    return flask_service.JSONResponse(encode(answer))


def _problem(found: Problem) -> Response:
    return Response(
        found.json(flask_service.request_id(request)), found.status, found.headers, content_type=problem.MEDIA_TYPE
    )


logs.start()
try:
    app = create_app(from_environment())
except BadSetting as wrong:
    sys.exit(f"predict.py: {wrong}")
except (BadModel, OSError) as unusable:
    logs.model_refused(unusable)
    remedy = " (python train.py makes model_C=1.0.bin)" if isinstance(unusable, FileNotFoundError) else ""
    sys.exit(f"predict.py: the model cannot be served: {unusable}{remedy}")

if __name__ == "__main__":
    port = os.environ.get("PORT", "9696")
    if not port.isdecimal():
        sys.exit(f"predict.py: PORT is {port!r}, which is no port number")
    app.run(host="127.0.0.1", port=int(port))
