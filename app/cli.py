"""The `headwater` command: one entry per job, each loaded only when it is called.

Every failure a person can cause ends in one line on standard error that names what is wrong and
what to do (`CommandError`), and exit status 1; a trace is for bugs.
"""

import importlib
import sys

import click

from app.errors import CommandError

# command -> "module:object" of its click command
COMMANDS = {
    "archive": "app.archive.cli:archive",
    "cluster": "app.cluster.cli:cluster",
    "demo": "app.demo.cli:demo",
    "dev": "app.local.cli:dev",
    "docs": "app.docs.cli:docs",
    "doctor": "app.local.doctor_cli:doctor",
    "import": "app.backfill.cli:import_",
    "jobs": "jobs.cli:jobs",
    "key": "app.identity.cli:key",
    "migrate": "app.migrate.cli:migrate",
    "rate": "app.rate.cli:rate",
    "relay": "app.relay.cli:relay",
    "replay": "app.replay.cli:replay",
    "seed": "app.demo.seed_cli:seed_command",
    "sensor": "app.catalogue.cli:sensor",
    "serve": "app.serve:serve",
    "site": "app.catalogue.cli:site",
    "sql": "app.query.cli:sql",
    "tenant": "app.identity.tenant_cli:tenant",
}


class LazyGroup(click.Group):
    """Lists all commands, imports only the one that is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in alphabetical order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module now."""
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, name = target.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headwater")
def group() -> None:
    """Headwater: water-quality telemetry, from a sensor's batch to an operator's alert."""


def main() -> None:
    """Run the command line; turn expected failures into one line and exit status 1."""
    try:
        status = group(standalone_mode=False)  # that of an Exit is returned, not raised
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except CommandError as exc:
        click.echo(f"headwater: {exc}", err=True)
        sys.exit(1)
    if isinstance(status, int) and status:
        sys.exit(status)
