"""`karat`: the verbs, each imported only when it is called.

Checked: tests/cli/test_main.py.
"""

import os
import sys
from importlib import import_module
from typing import Annotated, Any

from karat.core.threads import single_thread

single_thread()  # before anything that computes is imported

import typer  # noqa: E402
from typer.core import TyperCommand, TyperGroup  # noqa: E402

VERBS = {
    "run": ("karat.cli.run:run", "Run a campaign; interrupted, it resumes."),
    "plan": ("karat.cli.plan:plan", "Show the steps of a campaign, and which are done."),
    "init": ("karat.cli.init:init", "Write a campaign from flags or a few questions."),
    "schema": ("karat.cli.schema:schema", "Print the JSON schema of campaign files."),
    "label": ("karat.cli.label:label", "Label structures with a reference engine."),
    "check": ("karat.cli.check:check", "The data doctor: what is wrong with labelled data."),
    "data": ("karat.cli.data:data", "Reference collections: list, show, add, get."),
    "split": ("karat.cli.split:split", "Split labelled data into train, valid and test files."),
    "train": ("karat.cli.train:train", "Fit a potential to labelled data."),
    "assay": ("karat.cli.assay:assay", "Measure a potential on labelled test structures."),
    "compare": ("karat.cli.compare:compare", "Two result folders: better, worse, or tied."),
    "compute": ("karat.cli.compute:compute", "A property of structures: elastic, phonons, eos, …"),
    "export": ("karat.cli.export:export", "A potential for ASE, OpenMM or LAMMPS, verified there."),
    "import": ("karat.cli.import_model:import_model", "A mace-torch model as a .karat file."),
    "environments": ("karat.cli.environments:environments", "Environments of foreign packages."),
    "report": ("karat.cli.report:report", "Render the report of a finished campaign again."),
    "compress": (
        "karat.cli.compress:compress",
        "Tables for DeepPot-SE's networks, verified.",
    ),
    "list": ("karat.cli.listing:list_members", "Potentials, engines, assays, samplers, models."),
    "doctor": ("karat.cli.doctor:doctor", "What is installed here and works, by trying it."),
}
"""Verb → where its function is, and what it does in one line."""

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 3
EXIT_UNEXPECTED = 70
"""A fault of karat itself (EX_SOFTWARE of sysexits.h)."""

TYPER_INTERRUPTED = 130
INTERRUPTED = "interrupted. Give the same command again: what is done is not done twice."
ISSUES = "the project's issue tracker"


class VerbGroup(TyperGroup):
    """Lists verbs from the table; imports one only when it is called or completed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        return TyperCommand(cmd_name, help=VERBS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, *rest = args
        if name in VERBS:
            return name, load_verb(name), rest
        if name.startswith("-"):
            return super().resolve_command(ctx, args)
        from karat.core.errors import unknown_key

        raise unknown_key("karat", name, VERBS)


def load_verb(name: str) -> Any:
    """The command of a verb."""
    module, _, attribute = VERBS[name][0].partition(":")
    function = getattr(import_module(module), attribute)
    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    one.command(name)(function)
    return typer.main.get_command(one)


app = typer.Typer(
    name="karat",
    cls=VerbGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(value: bool) -> None:
    if value:
        import karat

        typer.echo(f"karat {karat.__version__}")
        raise typer.Exit()


@app.callback()
def karat_command(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error arose (traceback).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Which interatomic potential can I trust, for my system, within my budget?

    Exit status: 0 done, 1 done with failures counted, 2 bad input, 3 interrupted.
    """
    os.environ["KARAT_DEBUG"] = "1" if debug else ""


def main() -> None:
    """Entry point: errors become one message and an exit status."""
    from karat.core.errors import BadInput, KaratError

    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for `my_module:MyPotential` in a campaign
    try:
        app()
    except KeyboardInterrupt:
        _end(INTERRUPTED, EXIT_INTERRUPTED)
    except SystemExit as ending:
        if ending.code == TYPER_INTERRUPTED:
            _end(INTERRUPTED, EXIT_INTERRUPTED)
        raise
    except BadInput as error:
        _end(str(error), EXIT_BAD_INPUT)
    except KaratError as error:
        _end(str(error), 1)
    except BrokenPipeError:  # `karat … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        text = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {text[0] if text else 'no message'}"
        _end(
            f"unexpected error: {what}\nThis is a fault of karat. Repeat the command as "
            f"`karat --debug {' '.join(sys.argv[1:])}` and report its output to {ISSUES}.",
            EXIT_UNEXPECTED,
        )


def _end(message: str, status: int) -> None:
    if os.environ.get("KARAT_DEBUG"):
        import traceback

        traceback.print_exc()
    print(f"karat: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
