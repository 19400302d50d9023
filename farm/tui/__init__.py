"""Screens: what is shown is a pure function of a snapshot and a size; a small loop draws it."""
