"""The ``pixelzip`` command.

Reports go to standard output, unless a picture goes there; errors, notes and progress always go to
standard error. The exit status is 0 if all went well, 1 if any file failed (the others are still
done), 2 for a command line that makes no sense, 3 if something was left out, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn, cast

import click
from click.shell_completion import get_completion_class

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

MODULES = {
    "compress": "compress",
    "decompress": "decompress",
    "verify": "verify",
    "info": "info",
    "inspect": "inspect",
    "bits": "bits",
    "networks": "networks",
    "manifest": "manifest",
    "sample": "sampling",
    "complete": "sampling",
    "train": "training",
    "freeze": "training",
}
"""Command -> the module of `pixelzip.commands` that it stands in."""


class Commands(click.Group):
    """Ours in this order, then those of other packages; each is loaded on use."""

    def list_commands(self, _context: click.Context) -> list[str]:
        ours = dict.fromkeys([*MODULES, *self.commands])
        return [*ours, *_of_others()]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in MODULES:
            module = import_module(f"pixelzip.commands.{MODULES[name]}")
            return cast(click.Command, getattr(module, name))
        if name not in self.commands and name in (others := _of_others()):
            self.add_command(others[name].load(), name)
        return super().get_command(context, name)


def _of_others() -> dict[str, EntryPoint]:
    """The commands of other packages."""
    from importlib.metadata import entry_points  # slow to load

    return {entry.name: entry for entry in entry_points(group="pixelzip.commands")}


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pixelzip", message="pixelzip %(version)s")
def cli() -> None:
    """Compress images without loss, with the probabilities of a trained network.

    \b
    pixelzip compress photo.png          makes photo.pxz
    pixelzip decompress photo.pxz        makes photo.png, the same picture
    pixelzip info photo.pxz              says what is in it
    pixelzip verify photo.pxz            decodes it and checks its checksum

    A file made on any machine decodes on any machine.
    """


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes a shell complete this command.

    \b
    bash, in ~/.bashrc:    eval "$(pixelzip completion bash)"
    zsh, in ~/.zshrc:      eval "$(pixelzip completion zsh)"
    fish:                  pixelzip completion fish > ~/.config/fish/completions/pixelzip.fish
    """
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(cli, {}, "pixelzip", "_PIXELZIP_COMPLETE").source())


def main() -> NoReturn:
    """The console script."""
    for number in range(3):  # else a file of ours could become a standard stream that was closed
        try:
            os.fstat(number)
        except OSError:  # what is said must not seem to have been heard; errors may go unheard
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        status = cli.main(prog_name="pixelzip", standalone_mode=False) or 0
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = 130
    except OSError as error:
        # Of a reader that has left nobody wants to know; a flush at exit must not fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            click.echo(f"Error: what there is to say cannot be written: {error.strerror}", err=True)
        status = 1
    sys.exit(status)
