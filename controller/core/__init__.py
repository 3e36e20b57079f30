"""What the controller decides, from values alone: no clock, no network, no database."""
