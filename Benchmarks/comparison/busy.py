"""How much of the machine others use: what was busy, less what this program and its children used."""

import os
import resource
import time


def _busy_seconds():
    """CPU time of everybody since the start of the machine; time stolen by other machines included."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = (int(value) for value in file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds():
    """CPU time of this process, and of the children that have ended."""
    total = 0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


class Others:
    """From its making to `cores`: the CPU time that others used by wall time, in cores."""

    def __init__(self):
        self.begun, self.busy, self.own = time.monotonic(), _busy_seconds(), _own_seconds()

    def cores(self, also_own=0):
        """Children that this program did not start, and that work for it, are told as `also_own` seconds. Call it after
        the end of all children."""
        used = _busy_seconds() - self.busy - (_own_seconds() - self.own) - also_own
        return round(max(0.0, used) / max(0.01, time.monotonic() - self.begun), 2)


def is_busy(cores):
    """More than a tenth of the machine: figures of that time are doubtful."""
    return cores > 0.1 * os.cpu_count()


def probe(seconds=1):
    """What others use while this program does nothing, in cores."""
    others = Others()
    time.sleep(seconds)
    return others.cores()
