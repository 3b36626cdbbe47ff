"""Servers' processes: starting, stopping, their memory."""

import os
import signal
import socket
import subprocess
import threading
import time

MIB = 1024.0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process, log, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended at once: {tail(log)}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"the server does not listen on port {port} after {seconds} s: {tail(log)}")


def tail(path):
    with open(path, errors="replace") as file:
        return file.read()[-400:].strip()


def stop(process, seconds=20):
    """Ends one process that this program started, by its pid."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def status_value(pid, name):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    return 0


class Memory:
    """Memory of one process: the kernel keeps the peak."""

    def __init__(self, pid):
        self.pid = pid

    def begin(self):
        pass

    def end(self):
        return {"peakMiB": round(status_value(self.pid, "VmHWM") / MIB, 1),
                "afterMiB": round(status_value(self.pid, "VmRSS") / MIB, 1)}


class TreeMemory:
    """Memory of a process with its children, shared pages counted once; the peak is looked for twice a second."""

    def __init__(self, pid):
        self.pid = pid
        self.peak = 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _sum(self):
        total = 0
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
                if int(entry) != self.pid and parent != self.pid:
                    continue
                with open(f"/proc/{entry}/smaps_rollup") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
            except (OSError, IndexError):
                continue
        return total

    def _watch(self):
        while not self.done.wait(0.5):
            self.peak = max(self.peak, self._sum())

    def begin(self):
        self.thread.start()

    def end(self):
        self.done.set()
        self.thread.join()
        after = self._sum()
        return {"peakMiB": round(max(self.peak, after) / MIB, 1), "afterMiB": round(after / MIB, 1)}


def tree_cpu_seconds(pid):
    """CPU time of a process with its children, those that have ended included."""
    ticks = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(entry) == pid or int(fields[1]) == pid:
            ticks += sum(int(value) for value in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")
