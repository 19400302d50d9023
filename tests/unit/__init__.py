"""Tests without sockets: the wire, the rules, the command line's pieces."""
