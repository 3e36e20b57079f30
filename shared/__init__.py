"""What both daemons agree on: the attempt table, frames, the session, the clock, errors, logging and TLS."""
