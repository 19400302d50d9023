"""The working side: one command per job, fed and read at the same time, in any number of slots, for any servers."""
