"""The daemon: sockets around the rules. It holds no rule; what a packet means to a job is in `farm.broker`."""
