"""Other people's Gearman programs, in five languages, against a live `farm server`."""
