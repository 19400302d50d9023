"""A server whose every system call on its store is recorded, and the power cut that it might have met after each."""
