"""The root command: options that hold everywhere, and what becomes of errors.

Exit codes: 0 done, 1 the answer is no, 2 bad input, 3 an engine or a service is missing or failed, 130 interrupted.
"""

from __future__ import annotations

import os
import traceback
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

import dftbparam
from dftbparam.cli import campaign, delta, doctor, fit, publish, references, report, score, skf, trials, validate
from dftbparam.cli.output import complain
from dftbparam.errors import DftbparamError

INTERRUPTED: Final = 130
"""128 + SIGINT, the shell's custom."""

BAD_INPUT: Final = 2

FAILED: Final = 3
"""Exit code of a defect: no answer was found, and the input is not to blame."""

DEBUG_VARIABLE: Final = "DFTBPARAM_DEBUG"


class ErrorGroup(TyperGroup):
    """Turns errors of the commands below it into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except DftbparamError as error:
            _trace(ctx)
            complain(error.message)
            raise typer.Exit(error.exit_code) from None
        except Exception as error:
            # Bad usage and exits are typer's own business (older versions hand through click's), broken pipes too.
            if type(error).__module__.split(".")[0] in ("typer", "click") or isinstance(error, BrokenPipeError):
                # A wrong option is bad input like any other: one line rather than a frame around it.
                if getattr(error, "exit_code", None) == BAD_INPUT and hasattr(error, "format_message"):
                    command = getattr(getattr(error, "ctx", None), "command_path", "dftbparam")
                    reason = error.format_message().replace("Value error, ", "").rstrip(".")
                    complain(f"{reason}; see '{command} --help'")
                    raise typer.Exit(BAD_INPUT) from None
                raise
            _trace(ctx)
            complain(
                f"unexpected {type(error).__name__}: {error}. This is a defect of dftbparam; "
                "'dftbparam --debug ...' shows where it happened"
            )
            raise typer.Exit(FAILED) from None


def _trace(ctx: Any) -> None:
    if ctx.params.get("debug") or os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        traceback.print_exc()


app = typer.Typer(
    cls=ErrorGroup,
    name="dftbparam",
    help="DFTB parameter sets, made by Bayesian optimisation against DFT reference data.",
    epilog="Exit codes: 0 done, 1 the answer is no, 2 bad input, 3 an engine or service is missing or failed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dftbparam {dftbparam.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from, with its traceback.")] = False,
) -> None:
    """DFTB parameter sets, made by Bayesian optimisation against DFT reference data."""


app.command("fit")(fit.fit)
app.add_typer(campaign.app, name="campaign")
app.command("trials")(trials.trials)
app.command("score")(score.score)
app.command("validate")(validate.validate)
app.add_typer(references.app, name="references")
app.command("report")(report.report)
app.add_typer(delta.app, name="delta")
app.add_typer(skf.app, name="skf")
app.command("publish")(publish.publish)
app.command("doctor")(doctor.doctor)
