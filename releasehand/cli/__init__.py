"""The command line `releasehand`.

Modules that `--help` needs import neither the HTTP library nor the models, which cost half a second: commands
import them in their bodies."""
