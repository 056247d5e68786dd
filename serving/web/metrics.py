"""The meter, which counts for Prometheus what a process does.

A request only leaves a note; once a second, or when there are many, the notes are counted, which would cost each
request 50 us.
Where PROMETHEUS_MULTIPROC_DIR names a folder, each process then writes its counts to a file of its own there,
and whichever is asked for them adds up all files; gunicorn.conf.py makes such a folder. Elsewhere a process
knows its own counts only.
"""

import contextlib
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Collection
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from serving.errors import FieldError
from serving.model.base import Model
from serving.records import Columns, Form, Records
from serving.schema import Schema
from serving.web.counts import SECONDS, Bins, Counts, Outcome, Tally, as_known, observe, zeros

FOLDER = "PROMETHEUS_MULTIPROC_DIR"

# Where no route was found: paths are invented without end.
UNKNOWN = "unknown"

# How the names of files with counts end.
SUFFIX = ".serving-metrics"

# Seconds between two times that the notes are counted, and single records that are noted before: others wait while
# they are counted. 500 take 1 ms, and 4,000 would take 10; a record costs the same.
SECONDS_BETWEEN, MOST_NOTES = 1.0, 500

log = logging.getLogger(__name__)


class Meter:
    """Counts what a process does. Threads may share it."""

    def __init__(self) -> None:
        self._requests: deque[tuple[str, int, float]] = deque()
        self._alone: deque[tuple[Records, list[float]]] = deque()
        self._known: Counts = Counter()
        self._tally = Tally(Schema(()))  # till there is a model
        self._lock = threading.Lock()
        self._is_changed = False
        self._loop: threading.Thread | None = None
        self._file: Path | None = None
        self._is_written = True

    def request(self, route: str, status: int, seconds: float) -> None:
        """Note a request that was answered after so many seconds."""
        self._requests.append((route, status, seconds))
        if self._loop is None:  # a thread that was started before a fork would be none after it
            self._loop = threading.Thread(target=self._flush_every_second, daemon=True)
            self._loop.start()

    def follow(self, model: Model) -> None:
        """Count records of this model from now on; what was counted of fields or probabilities that it has otherwise
        is gone."""
        self.count()
        with self._lock:
            bins = Bins.of_model(model)
            self._known = zeros(model.schema, bins)
            before, self._tally = self._tally, Tally(model.schema, bins, self._known)
            self._counts.update(as_known(before.counts, self._known))
            self._is_changed = True

    @property
    def _counts(self) -> Counts:
        return self._tally.counts

    def add(self, tally: Tally) -> None:
        """Count what was counted apart; of a schema that is no longer followed, what is known of both."""
        with self._lock:
            self._is_changed = True
            counts = tally.counts
            if tally.schema is not self._tally.schema:
                counts = zeros(tally.schema, tally.bins)
                counts.update(tally.counts)
                counts = as_known(counts, self._known)
            self._counts.update(counts)

    def scored(self, records: Records, probabilities: list[float]) -> None:
        """Count records that were scored, each with a probability; a single one is only noted."""
        if records.form == "object":
            self._alone.append((records, probabilities))
            if len(self._alone) >= MOST_NOTES:
                self.count()
            return
        with self._lock:
            self._is_changed = True
            self._tally.scored(records, probabilities)

    def invalid(self, form: Form, errors: Collection[FieldError], records: int) -> None:
        """Count so many records that are invalid, and the fields that are wrong."""
        with self._lock:
            self._is_changed = True
            self._tally.invalid(form, errors, records)

    def model_file(self, outcome: Outcome) -> None:
        """Count a model file that was to be taken over."""
        with self._lock:
            self._is_changed = True
            self._counts["serving_model_files", outcome] += 1

    def count(self) -> None:
        """Count what was noted."""
        with self._lock:
            if requests := _taken(self._requests):
                self._is_changed = True
                self._counts.update(("serving_requests", route, str(status)) for route, status, _ in requests)
                for route in {route for route, _, _ in requests}:
                    seconds = [seconds for each, _, seconds in requests if each == route]
                    observe(self._counts, ("serving_request_seconds", route), SECONDS, seconds)
            if alone := _taken(self._alone):
                records, probabilities = zip(*alone, strict=True)
                all_columns = zip(*(each.columns for each in records), strict=True)
                columns: Columns = [[*chain.from_iterable(each)] for each in all_columns]
                unusual = {place: each.unusual[0] for place, each in enumerate(records) if each.unusual}
                blanks = Counter(chain.from_iterable(each.blanks for each in records))  # one at most of a field
                together = Records("object", columns, unusual, blanks)
                self._tally.scored(together, [*chain.from_iterable(probabilities)])

    def flush(self) -> None:
        """Count what was noted, and pass it on to the other processes where there is a folder for that."""
        self.count()
        if not os.environ.get(FOLDER):
            return
        with self._lock:
            if self._file is None:
                self._continue(str(os.getpid()))
            if self._is_changed or not self._is_written:
                self._write()

    def join(self, place: str) -> None:
        """Keep this process's counts, from 0, in the file of this place, and go on from what it holds.

        No other living process may use it.
        """
        with self._lock:
            self._tally = Tally(self._tally.schema, self._tally.bins, self._known)
            self._continue(place)

    def total(self) -> Counts:
        """The counts of all processes, this one's up to now, the others' at most a second old."""
        self.flush()
        with self._lock:
            counts = self._counts.copy()
        if self._file is not None:
            for file in self._file.parent.glob(f"*{SUFFIX}"):
                if file != self._file:
                    counts.update(as_known(_read(file), self._known))
        return counts

    def _continue(self, place: str) -> None:
        self._file = Path(os.environ[FOLDER], f"{place}{SUFFIX}")
        self._counts.update(as_known(_read(self._file), self._known))

    def _write(self) -> None:
        assert self._file is not None
        self._is_changed = False
        try:
            write(self._counts, self._file)
            self._is_written = True
        except OSError as error:
            if self._is_written:  # till now: it is said once
                log.error("The other processes do not get to know this one's metrics: %s", error.strerror)
            self._is_written = False

    def _flush_every_second(self) -> None:
        while True:
            time.sleep(SECONDS_BETWEEN)
            self.flush()


def _taken(notes: deque[Any]) -> list[Any]:
    """What has been noted so far; threads may go on noting."""
    return [notes.popleft() for _ in range(len(notes))]


def write(counts: Counts, file: Path) -> None:
    """Write counts to a file, which is there whole or not at all. Raises `OSError`."""
    unfinished = file.with_suffix(".new")
    try:
        unfinished.write_bytes(msgspec.json.encode([*counts.items()]))
        unfinished.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def _read(file: Path) -> Counts:
    """The counts in a file; none where there is no such file, or it has none."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=list[tuple[tuple[str, ...], int | float]])
    except (OSError, msgspec.DecodeError) as error:
        if not isinstance(error, FileNotFoundError):
            log.error("The counts in %s cannot be read: %s", file, error)
        return Counter()
    return Counter(dict(found))


meter = Meter()
