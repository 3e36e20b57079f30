"""What this project measures of itself; each benchmark runs beside a baseline, in one run."""
