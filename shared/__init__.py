"""What both daemons must agree on: the attempt table, frames, the session, the clock, errors, logging and TLS."""
