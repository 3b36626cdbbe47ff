"""Medians over the rounds, and whether the rounds are far enough apart to say which of two is more."""

import statistics

REACHED, MISSED, OPEN = "reached", "not reached", "open"


class Figure:
    """One figure of a work and a peer in all rounds."""

    def __init__(self, values):
        self.values = list(values)
        self.median, self.least, self.most = statistics.median(self.values), min(self.values), max(self.values)


class Figures:
    """By work and peer; None where something was not measured."""

    def __init__(self, rounds):
        self.rounds = rounds

    def figure(self, work, peer, name="rate"):
        values = [figures[name] for figures in self.rounds.get((work, peer), []) if figures.get(name) is not None]
        return Figure(values) if values else None

    def best(self, works, peers):
        """The one with the highest median rate."""
        all_of_them = [found for work in works for peer in peers if (found := self.figure(work, peer))]
        return max(all_of_them, key=lambda found: found.median, default=None)


def overlap(one, other):
    return one.least <= other.most and other.least <= one.most


def at_least(factor, one, other):
    """Whether `one` is at least `factor` times `other`: the verdict, and the ratio of the medians. Open where the
    rounds of the two, whichever are put side by side, do not agree. None where one of them was not measured."""
    if one is None or other is None or other.median == 0:
        return None
    if one.least >= factor * other.most:
        verdict = REACHED
    elif one.most < factor * other.least:
        verdict = MISSED
    else:
        verdict = OPEN
    return verdict, one.median / other.median


def against(limit, one):
    """The same with a number instead of another's rounds: whether `one` is at least as much."""
    if one is None:
        return None
    return REACHED if one.least >= limit else MISSED if one.most < limit else OPEN


def below(one, other):
    """Whether `one` is below `other`, which may be a number."""
    if one is None or other is None:
        return None
    least, most = (other.least, other.most) if isinstance(other, Figure) else (other, other)
    return REACHED if one.most < least else MISSED if one.least >= most else OPEN


def both(*verdicts):
    """Of several things that must hold; None where one was not measured."""
    if None in verdicts:
        return None
    return MISSED if MISSED in verdicts else OPEN if OPEN in verdicts else REACHED
