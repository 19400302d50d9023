"""Benchmarks: each against a peer, in the same run, in turns with it, so that a busy machine slows both."""
