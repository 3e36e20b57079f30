"""What both daemons must agree on: attempts, frames, the session, clock, errors, settings, logs and TLS."""
