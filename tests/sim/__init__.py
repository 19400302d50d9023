"""The seeded simulator: real decoder, rules, journal and promises; simulated wires, disk, clients, workers, crashes and
time.

`python -m tests.sim SEED` replays one fate exactly. `ledger` is the oracle and shares no code with the rules; `mutants`
proves that it can say no.
"""
