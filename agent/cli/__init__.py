"""`releasehand-agent`: what people type on a host."""
