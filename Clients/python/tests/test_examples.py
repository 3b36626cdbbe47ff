"""The examples' own tests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from processes import PATIENCE
from servers import REPOSITORY


def test_temporal() -> None:
    pytest.importorskip("temporalio")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", REPOSITORY / "Examples" / "temporal"],
        env=dict(os.environ),
        text=True,
        timeout=PATIENCE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout
