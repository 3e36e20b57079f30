"""The entry point of `releasehand` and of `python -m releasehand.cli`."""

import typer

from .deploy import deploy
from .rollback import rollback
from .status import cancel, status
from .versions import versions

app = typer.Typer(
    name="releasehand",
    help="Carry out software releases, see them, take them back.",
    epilog="Controller and token: --server and --token-file, or RELEASEHAND_URL and RELEASEHAND_TOKEN.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # their frames would show the token
)
for command in (deploy, rollback, versions, status, cancel):
    app.command()(command)


def main() -> None:
    """Run the command line; ends the process with the exit codes of `releasehand.cli.complaint.Exit`."""
    app()


if __name__ == "__main__":
    main()
