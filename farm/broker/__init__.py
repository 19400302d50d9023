"""The rules: jobs, queues, who can do what, who is asleep, who watches what. No I/O; `now` is an argument."""
