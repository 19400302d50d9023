"""farm: a Gearman job server, and a toolkit that makes any Unix command a worker."""

__version__ = "0.1.0"
