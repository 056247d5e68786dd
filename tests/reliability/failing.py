"""The service with a route that fails, as no route should."""

from predict import app


@app.get("/fail")
def fail() -> str:
    raise RuntimeError("a secret of the service")


__all__ = ["app"]
