"""The quickest section of docs/environments.md, as CI types it; `make environments` types the slower ones too."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import GUNICORN, run, running
from managers import CommandFailed, differences, follow, install


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that goes: pytest would keep three of half a gigabyte each."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_what_a_user_of_uv_types_serves_with_the_locked_packages(folder):
    try:
        path = f"{install('uv', folder)}:{os.environ['PATH']}"
    except CommandFailed as error:
        pytest.skip(f"uv cannot be had: {error}")
    try:
        seen = follow("uv", folder, PATH=path, UV_CACHE_DIR=str(folder / "cache"))
    except CommandFailed as error:
        if any(said in str(error) for said in ("Failed to fetch", "Failed to download", "No interpreter found")):
            pytest.skip(f"uv reaches no package index (it reads none of pip's settings) or has no Python: {error}")
        raise
    assert not differences(seen)
    with running(GUNICORN) as service:
        assert seen.answer == run("predict-test.py", "--url", service.url).stdout.splitlines()[0]
