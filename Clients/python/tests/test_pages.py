"""What the pages show works: the Python blocks of each page run one after the other, against a server."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import uuid

import pytest
from processes import PATIENCE
from servers import Server

FOLDER = pathlib.Path(__file__).resolve().parents[1]
PAGES = [FOLDER / "README.md", *sorted((FOLDER / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: pathlib.Path, server: Server, tmp_path: pathlib.Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    environment = {
        **os.environ,
        "MARTLET_SERVER": server.target,
        "MARTLET_CA": server.ca,
        "MARTLET_TENANT": str(uuid.uuid4()),
        "PYTHONPATH": str(FOLDER / "src"),
    }
    done = subprocess.run(
        [sys.executable, "-"], input="\n".join(blocks), env=environment, cwd=tmp_path, timeout=PATIENCE, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_format_style_and_types() -> None:
    pytest.importorskip("mypy")
    done = subprocess.run(
        [FOLDER / "check"], env={**os.environ, "PYTHON": sys.executable}, text=True, timeout=PATIENCE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
