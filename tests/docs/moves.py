"""The picture of a job's life in farm/ARCHITECTURE.md: `python -P -m tests.docs.moves` makes it from the table."""

from __future__ import annotations

from farm.broker.job import MOVES


def picture() -> str:
    """A line for each state, with what may happen in it and where that leads."""
    states = list(dict.fromkeys(state for state, _ in MOVES))
    width = max(map(len, states))
    lines = []
    for state in states:
        moves = [f"{event} ▶ {after}" for (before, event), after in MOVES.items() if before == state]
        lines.append(f"    {state:<{width}}  " + "  ".join(f"{move:<19}" for move in moves).rstrip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(picture(), end="")
