"""The documentation is run and compared: what it shows is what happens."""
