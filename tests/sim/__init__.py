"""The seeded simulator: real decoder, rules and store; simulated wires, clients, workers, crashes and time.

`python -m tests.sim SEED` replays one fate exactly. `ledger` is the oracle and shares no code with the rules; `mutants`
proves that it can say no.
"""
