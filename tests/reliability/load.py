"""A mixed load whose right answers are known beforehand, from scikit-learn."""

import csv
import http.client
import io
import json
import pickle
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from conftest import MODEL_FILE, Answer, Service

from serving.training import telecom

JSON, CSV, PROBLEM = "application/json", "text/csv", "application/problem+json"

# A client that waits longer than this counts the service as stopped.
MOST_SECONDS = 15

# Questions on one connection: then a client opens another, or in time all would be at the worker that lives longest.
QUESTIONS_A_CONNECTION = 50


class Question(NamedTuple):
    """A request to /predict, and what its answer must be: a status, and the probabilities where there are some."""

    content_type: str
    body: bytes
    status: int
    probabilities: list[float]

    def is_right(self, answer: Answer) -> bool:
        """Whether an answer is the one that scikit-learn would give, or the problem that is due."""
        if answer.status != self.status:
            return False
        if self.status != 200:
            return answer.headers["content-type"] == PROBLEM and answer.json["status"] == self.status
        if answer.headers["content-type"].partition(";")[0] != self.content_type:
            return False
        if self.content_type == CSV:
            rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
            found = [(float(row["churn_probability"]), row["churn"] == "true") for row in rows]
        else:
            scores = answer.json if isinstance(answer.json, list) else [answer.json]
            found = [(score["churn_probability"], score["churn"]) for score in scores]
        return len(found) == len(self.probabilities) and all(
            abs(probability - expected) <= 1e-12 and churn == (expected >= 0.5)
            for (probability, churn), expected in zip(found, self.probabilities, strict=True)
        )


def customers_and_probabilities(model_file: Path = MODEL_FILE) -> tuple[list[dict[str, Any]], list[float]]:
    """The training table's customers, and what scikit-learn alone says of them."""
    vectorizer, classifier = pickle.loads(model_file.read_bytes())
    table = telecom.packaged()
    customers = table.records(range(len(table.rows)))
    return customers, classifier.predict_proba(vectorizer.transform(customers))[:, 1].tolist()


def questions() -> list[Question]:
    """Objects, arrays, tables and bad input, in an order that is always the same."""
    customers, probabilities = customers_and_probabilities()
    asked = []
    for start in range(0, 7000, 350):
        some, expected = customers[start : start + 350], probabilities[start : start + 350]
        asked += [
            Question(JSON, json.dumps(customer).encode(), 200, [probability])
            for customer, probability in zip(some[:40], expected, strict=False)
        ]
        asked += [Question(JSON, json.dumps(some[:size]).encode(), 200, expected[:size]) for size in (2, 30, 100)]
        asked.append(Question(CSV, table(some), 200, expected))
        asked += [
            Question(JSON, json.dumps(some[0] | {"contract": "weekly"}).encode(), 422, []),
            Question(JSON, json.dumps(some[0]).encode()[:-1], 400, []),
            Question(CSV, b"gender,tenure\nfemale,1\n", 422, []),
            Question(CSV, table(some[:3]) + b"\x81\n", 400, []),
            Question("text/plain", b"hello", 415, []),
        ]
    random.Random(1).shuffle(asked)
    return asked


def table(customers: list[dict[str, Any]]) -> bytes:
    """These customers as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, customers[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(customers)
    return text.getvalue().encode()


class CutOff(NamedTuple):
    """A request whose connection ended before its answer."""

    port: int  # the client's own, which tells whose connection it was
    is_first: bool  # nothing had been answered on this connection: the service may never have taken it
    error: str
    at: float  # on the monotonic clock


class Seen:
    """What the clients of a load have seen together."""

    def __init__(self) -> None:
        self.right = 0
        self.wrong: list[str] = []
        self.cut_off: list[CutOff] = []
        self.times: list[float] = []
        self.longest_silence = 0.0
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def answered(self, question: Question, answer: Answer, seconds: float) -> None:
        is_right = question.is_right(answer)
        with self._lock:
            now = time.monotonic()
            self.longest_silence = max(self.longest_silence, now - self._last)
            self._last = now
            if is_right:
                self.right += 1
                self.times.append(seconds)
            else:
                self.wrong.append(f"{question.body[:200]!r}: {answer}")

    def cut(self, cut_off: CutOff) -> None:
        with self._lock:
            self.cut_off.append(cut_off)


def client(port: int, asked: list[Question], seen: Seen, stop: threading.Event, offset: int) -> None:
    """Ask one question after the other over a kept connection until told to stop, or until nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=MOST_SECONDS)
    number = offset
    answers = 0
    while not stop.is_set():
        question = asked[number % len(asked)]
        number += 1
        mine = 0
        started = time.monotonic()
        try:
            if answers == QUESTIONS_A_CONNECTION:
                connection.close()
            if connection.sock is None:
                answers = 0
                connection.connect()
            mine = connection.sock.getsockname()[1]
            connection.request("POST", "/predict", question.body, {"Content-Type": question.content_type})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            answer = Answer(response.status, headers, response.read())
        except ConnectionRefusedError:
            break
        except (http.client.HTTPException, OSError) as error:
            seen.cut(CutOff(mine, answers == 0, repr(error), time.monotonic()))
            connection.close()
            continue
        answers += 1
        seen.answered(question, answer, time.monotonic() - started)
    connection.close()


@contextmanager
def load(service: Service, clients: int, asked: list[Question]) -> Iterator[Seen]:
    """Clients that ask while the block runs; what they saw is complete when it ends."""
    seen, stop = Seen(), threading.Event()
    threads = [
        threading.Thread(target=client, args=(service.port, asked, seen, stop, 101 * number))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=2 * MOST_SECONDS)
    assert not any(thread.is_alive() for thread in threads)


def percentile(times: list[float], share: float) -> float:
    """The value that this share of the times does not exceed."""
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def pause(seconds: float, still: Callable[[], bool]) -> None:
    """Wait, but no longer than something holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and still():
        time.sleep(0.05)
