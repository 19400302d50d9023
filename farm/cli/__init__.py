"""The command line: one table of options, a light parser, typer for help and errors, one file for each command."""
