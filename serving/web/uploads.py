"""The table in a request: it is the body, or a file in the form that is the body."""

import io
from typing import IO, Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from serving import spool
from serving.errors import BadTable
from serving.tables import workbook
from serving.web import bodies
from serving.web.flask_service import FORM
from serving.web.observation import Environ

# Parts that a form may have, and bytes of those that are no file.
MOST_PARTS, MOST_OTHER_BYTES = 10, 100_000


def table(environ: Environ, most: int) -> IO[bytes]:
    """The file that is to be read as a table, from its beginning.

    Raises what `bodies.of` does, `BadTable` where a form has not one file, and `OSError` where the disk is full.
    """
    body = io.BufferedReader(bodies.of(environ, most), bodies.CHUNK)
    kind, options = parse_options_header(environ.get("CONTENT_TYPE"))
    if kind.lower() != FORM:
        if workbook.is_one(body.peek(workbook.BEGINNING)):
            bodies.take_place(environ)
        return body
    files: list[IO[bytes]] = []

    def new_file(*_: Any, **__: Any) -> IO[bytes]:
        files.append(spool.file())
        return files[-1]

    parser = FormDataParser(new_file, max_form_memory_size=MOST_OTHER_BYTES, max_form_parts=MOST_PARTS, silent=False)
    try:
        try:
            parser.parse(body, FORM, None, options)
        except ValueError as error:
            raise BadTable(f"the form is not as its Content-Type says: {error}") from error
        except RequestEntityTooLarge as error:
            if isinstance(error, bodies.BodyTooLarge):
                raise
            limit = f"{MOST_PARTS} parts, or {MOST_OTHER_BYTES:,} bytes in a part that is no file"
            raise BadTable(f"the form has more than {limit}") from error
        if len(files) != 1:
            raise BadTable(f"the form has {len(files)} files, and it must be one (curl -F file=@table.csv)")
        if workbook.is_one(files[0].read(workbook.BEGINNING)):
            bodies.take_place(environ)
        files[0].seek(0)
        return files[0]
    except BaseException:
        for file in files:
            file.close()
        raise
