"""Fuzzing led by coverage (bin/check fuzz): it looks for bytes that break the decoder or the rules."""
