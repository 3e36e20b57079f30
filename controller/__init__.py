"""The daemon that schedulers call and agents connect to."""
