"""`make demo`: releases on this machine, by real daemons over HTTPS, proved at the services' own ports."""
