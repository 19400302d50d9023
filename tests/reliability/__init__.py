"""Real servers that are killed, stopped, frozen and lied to about the time, while real clients and workers go on."""
