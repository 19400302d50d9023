"""The durable journal of background jobs: one contract, several stores, one conformance suite (tests/contract)."""
