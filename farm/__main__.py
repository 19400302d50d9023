"""`python -m farm` is `farm`."""

from farm.cli.entry import main

main()
