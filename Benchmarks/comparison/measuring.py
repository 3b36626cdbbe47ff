"""One run of one work."""

import json
import shutil
import subprocess

from . import servers
from .busy import Others
from .processes import tree_cpu_seconds


def measure(work, peer, options, folder):
    """One run with a server of its own. Returns its figures, or what went wrong."""
    run = {"work": work.name, "peer": peer}
    server, file = None, folder / "result.json"
    others, storage, before = Others(), None, 0
    try:
        server = servers.make(peer, folder / peer)
        server.work = work
        server.start()
        memory = server.memory()
        if memory:
            memory.begin()
        command = [str(part) for part in server.driver(work, options, file)]
        storage = server.storage_pid()
        before = tree_cpu_seconds(storage) if storage else 0
        driver = subprocess.run(command, capture_output=True, text=True, timeout=180 + options.warmup + options.seconds)
        used = memory.end() if memory else None
        if driver.returncode != 0:
            run["error"] = (driver.stderr or driver.stdout).strip().replace("\n", "; ")[-300:]
            return run
        result = json.loads(file.read_text() if server.writes_file else driver.stdout)
        result.pop("timeline", None)
        if used:
            result["memory"] = used
        if storage and storage != server.pid:
            # Of the whole run, what was written before included.
            result["storageCPUSeconds"] = round(tree_cpu_seconds(storage) - before, 2)
        errors = {reason: count for reason, count in result.get("errors", {}).items() if reason != "NOT_STARTED"}
        if errors:
            run["error"] = f"calls failed: {errors}"
            return run
        run["result"] = result
    except subprocess.TimeoutExpired as expired:
        run["error"] = f"no end after {expired.timeout:.0f} s"
    except (RuntimeError, OSError, ValueError, subprocess.CalledProcessError) as error:
        run["error"] = str(error)
    finally:
        stored = tree_cpu_seconds(storage) - before if storage else 0
        if server:
            server.stop()
        run["othersCores"] = others.cores(stored)
        shutil.rmtree(folder / peer, ignore_errors=True)
        file.unlink(missing_ok=True)
    return run
