"""The command line. Modules here import nothing heavy at the top: `headstart --help` is instant."""

import os
import sys

import typer

from forecaster.errors import BadKey, BadSeries, ForecasterError, UnknownMethod
from scaler.app.cli import forecasting, inspecting, policies, replaying, serving
from scaler.errors import HeadstartError, InputError

app = typer.Typer(
    name="headstart",
    help="GPU replicas that are ready before the requests are: a predictive autoscaler that replays itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(serving.run)
app.command("replay")(replaying.replay)
app.command("backtest")(forecasting.backtest)
app.command("forecast")(forecasting.forecast)
app.command("fit")(forecasting.fit)
app.add_typer(forecasting.models, name="models")
app.command("validate")(policies.validate)
app.command("test")(replaying.run_tests)
app.command("tune")(replaying.tune)
app.command("explain")(inspecting.explain)
app.command("doctor")(inspecting.doctor)
app.command("init")(policies.init)
app.command("schema")(policies.schema)


def main() -> None:
    """Exit code 0: done. 1: it could not be done. 2: what a person wrote cannot be used, and nothing was written.

    Everything computes on one thread unless OMP_NUM_THREADS says otherwise: by itself OpenMP would start one for each
    core of the node, which a pod's CPU limit then makes wait for one another. Work is shared among processes instead.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when OpenMP and BLAS are loaded, with the first command's work
    try:
        app()
    except (InputError, BadKey, BadSeries, UnknownMethod) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (HeadstartError, ForecasterError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
