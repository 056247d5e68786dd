"""A Parquet file in, the same one with its scores out, in flat memory.

Its columns keep their types. What the model is asked about is read as the same table in CSV would be.
"""

from typing import IO, Any

import pyarrow as pa
from pyarrow import parquet

from serving.errors import BadTable
from serving.prediction import Predictor
from serving.tables.numbers import ROWS
from serving.tables.rows import RowReader
from serving.tables.scored import Counting, in_words, noted

# Values that are in memory at once; so many rows become a row group.
BLOCK_VALUES = 1_000_000

# Bytes that are read at once of each column: else it is a row group's share of it.
BUFFER = 1_000_000


def score(table: IO[bytes], predictor: Predictor, counting: Counting, file: IO[bytes]) -> None:
    """Score a table, with the columns that a scored CSV has behind its own.

    A row that is no record keeps its place, without scores and with its errors in words. An added column whose name is
    taken has an underscore behind it, since most programs read no file with two columns of one name. Raises `BadTable`
    and `InvalidRecords` as for a CSV.
    """
    try:
        source = parquet.ParquetFile(table, buffer_size=BUFFER, pre_buffer=False)
        reader = _Reader(source.schema_arrow, predictor, counting)
        rows = max(ROWS, BLOCK_VALUES // max(1, len(source.schema_arrow)))
        with parquet.ParquetWriter(file, reader.schema) as writer:
            for batch in source.iter_batches(rows, use_threads=False):
                writer.write_batch(reader.scored(batch))
    except pa.ArrowException as error:
        raise BadTable(f"it cannot be read as Parquet: {' '.join(str(error).split())}") from error


class _Reader:
    """Scores batches of a table that has this Arrow schema; `schema` is that of the scored table."""

    def __init__(self, arrow: pa.Schema, predictor: Predictor, counting: Counting):
        schema = predictor.model.schema
        self._model, self._counting = predictor.model, counting
        self._places = [place for place, name in enumerate(arrow.names) if schema.meant(name) in schema.names]
        header = [arrow.names[place] for place in self._places]
        self._read = RowReader(schema, header, predictor.lenient, absent=predictor.model.absent)
        self.schema = arrow
        for name, kind in (
            (f"{schema.target}_probability", pa.float64()),
            (schema.target, pa.bool_()),
            ("note", pa.string()),
            ("error", pa.string()),
        ):
            while name in self.schema.names:
                name += "_"  # noqa: PLW2901
            self.schema = self.schema.append(pa.field(name, kind))

    def scored(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch with its scores."""
        added: list[tuple[Any, ...]] = []
        for start in range(0, len(batch), ROWS):
            added += self._scores(batch.slice(start, ROWS))
        columns = zip(*added, strict=True) if added else [[]] * 4
        types = self.schema.types[-4:]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
        return pa.RecordBatch.from_arrays([*batch.columns, *arrays], schema=self.schema)

    def _scores(self, block: pa.RecordBatch) -> list[tuple[Any, ...]]:
        """The four values that are added to each row."""
        cells = [_texts(block.column(place), block.schema.names[place]) for place in self._places]
        records, wrong = self._read([*zip(*cells, strict=True)] or [()] * len(block))
        probabilities = self._model.probabilities(records.columns)
        self._counting.scored(records, probabilities)
        threshold = self._model.schema.threshold
        notes = {place: noted(names) for place, names in records.unusual.items()}
        scores = [(each, each >= threshold, notes.get(place), None) for place, each in enumerate(probabilities)]
        if not wrong:
            return [*scores]
        rest = iter(scores)
        for errors in wrong.values():
            self._counting.invalid("csv", errors, records=1)
        return [(None, None, None, in_words(wrong[row])) if row in wrong else next(rest) for row in range(len(block))]


def _texts(column: pa.Array, name: str) -> list[str]:
    """A column's values as a CSV has them."""
    try:
        texts: list[str] = column.cast(pa.string()).fill_null("").to_pylist()
        return texts
    except pa.ArrowException as error:
        raise BadTable(f"its column {name} holds {column.type}, which is not read as text") from error
