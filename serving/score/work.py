"""What a worker does: a part is read, scored as the service scores it, and written whole or not at all."""

import contextlib
import io
import os
import shutil
import sys
import uuid
from collections.abc import Collection, Iterator
from threading import Thread
from typing import IO, Literal

import fsspec
from distributed import Client, KilledWorker, Worker, WorkerPlugin, as_completed, get_worker
from msgspec import Struct

from serving.errors import BadTable, FieldError, InvalidRecords, TooMuch, said
from serving.model import file
from serving.model.file import Source
from serving.prediction import Predictor
from serving.records import Records
from serving.score import parquet
from serving.score.places import Output, Part
from serving.tables import scored

# Columns that a part may lack and that are named: it can be thousands.
MOST_NAMED = 5

# Seconds in which workers must have given up a run's model.
PATIENCE = 5


class Counted(Struct):
    """How many rows a part has, and how many of them are no records; or the `reason` why it has no scores."""

    rows: int = 0
    bad: int = 0
    reason: str = ""

    def scored(self, records: Records, probabilities: list[float]) -> None:  # noqa: ARG002 (as `scored.Counting`)
        """Count records that were scored."""
        self.rows += len(probabilities)

    def invalid(self, form: Literal["csv"], errors: Collection[FieldError], records: int) -> None:  # noqa: ARG002
        """Count records that are none."""
        self.rows += records
        self.bad += records


class ModelOnWorkers(WorkerPlugin):
    """Brings the model to every worker, also to one that takes the place of another: none needs its file."""

    def __init__(self, source: Source, lenient: bool):
        self._source, self._lenient = source, lenient

    def setup(self, worker: Worker) -> None:  # noqa: ARG002
        """Read it, once in each process."""
        self.predictor = Predictor(file.of(self._source), self._lenient)
        del self._source


@contextlib.contextmanager
def model_on_workers(client: Client, source: Source, lenient: bool, run: str) -> Iterator[None]:
    """A cluster's workers have the model, for a run. Raises `OSError` where they cannot read it."""
    try:
        try:
            client.register_plugin(ModelOnWorkers(source, lenient), name=run)
        except Exception as error:  # whatever was raised there; where this project is missing too
            raise ConnectionError(f"the workers cannot read the model: {said(error)}") from error
        if not client.scheduler_info()["workers"]:
            print("The cluster has no workers yet; waiting for them.", file=sys.stderr)
        yield
    finally:
        # In a thread, since it has no time limit of its own: a run that is stopped may be one whose cluster is stuck.
        forgetting = Thread(target=_take_model, args=[client, run], daemon=True)
        forgetting.start()
        forgetting.join(PATIENCE)


def _take_model(client: Client, run: str) -> None:
    """Take a run's model from the workers again, and from those that join; if it is there, and they answer."""
    with contextlib.suppress(Exception):
        client.unregister_worker_plugin(run)


def score(client: Client, parts: list[Part], output: Output) -> Iterator[tuple[Part, Counted]]:
    """Score parts on workers that have the model; gives each when it is done. Raises `OSError` without a scheduler."""
    # Keys of one beginning are one group, and a worker gets of a group what it works on: only that suffers if it dies.
    by_key = {(f"score-{output.run}", place): part for place, part in enumerate(parts)}
    folder = output.files, output.folder, output.run
    # Nothing else keeps the futures: of a part that is done and forgotten no worker's death makes work again.
    for future in as_completed(client.map(_score, parts, [folder] * len(parts), key=[*by_key], pure=False)):
        if future.status == "cancelled":
            raise ConnectionError("the scheduler is gone")
        failure = future.exception()
        yield by_key[future.key], Counted(reason=_failure(failure)) if failure else future.result()
        del future


def _failure(error: BaseException) -> str:
    if isinstance(error, KilledWorker):
        return f"{error.allowed_failures + 1} workers died while they had it; perhaps their memory is too small"
    return f"{type(error).__name__}: {said(error)}"


def _score(part: Part, folder: tuple[fsspec.AbstractFileSystem, str, str]) -> Counted:
    """Score a part, in a worker."""
    files, path, run = folder
    model = get_worker().plugins[run]
    assert isinstance(model, ModelOnWorkers)
    # Another one for each attempt: a worker that was taken for dead may still write.
    unfinished = f"{path}/.{part.name}.{run}.{uuid.uuid4().hex[:8]}"
    counted = Counted()
    try:
        with part.open() as table, files.open(unfinished, "wb") as written:
            if part.is_parquet:
                parquet.score(table, model.predictor, counted, written)
            else:
                with scored.score(table, model.predictor, None, counted).file as answer:
                    shutil.copyfileobj(answer, written, 1_000_000)
            _to_disk(written)
        files.mv(unfinished, f"{path}/{part.name}")
        return counted
    except InvalidRecords as error:
        more = f"; and {left} more" if (left := len(error.errors) - MOST_NAMED) > 0 else ""
        return Counted(reason=scored.in_words(error.errors[:MOST_NAMED]) + more)
    except (BadTable, TooMuch, OSError) as error:
        return Counted(reason=said(error))
    finally:
        with contextlib.suppress(OSError):
            if files.exists(unfinished):
                files.rm_file(unfinished)


def _to_disk(file: IO[bytes]) -> None:
    """Where it is a file on a disk, have it there before it gets its name: a part that is there is whole."""
    with contextlib.suppress(io.UnsupportedOperation):
        number = file.fileno()
        file.flush()
        os.fsync(number)
