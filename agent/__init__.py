"""The daemon on a host: it installs releases there and says what is live."""
