# /// script
# requires-python = ">=3.11"
# dependencies = ["flask"]
# ///
"""The first lesson: a service that answers PONG. Start it with `uv run ping.py` or `python ping.py`."""

from flask import Flask

app = Flask("ping")


@app.get("/ping")
def ping() -> str:
    return "PONG"


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=9696)
