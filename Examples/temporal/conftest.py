"""Lets the tests find the example, the client, and what starts a server."""

import sys
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "Clients" / "python"
sys.path += [str(Path(__file__).parent), str(CLIENT / "src"), str(CLIENT / "tests")]
