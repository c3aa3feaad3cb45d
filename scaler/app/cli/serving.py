"""headstart run."""

from pathlib import Path
from typing import Annotated

import typer

DEMO_TIME_SCALE = 60.0


def run(
    demo: Annotated[
        bool,
        typer.Option(
            "--demo",
            help="Generated traffic and a simulated cluster at accelerated time; with --store "
            "it goes on after the last turn there.",
        ),
    ] = False,
    http: Annotated[
        str | None, typer.Option(help="HOST:PORT of page, API, metrics and probes (default: 127.0.0.1:8080).")
    ] = None,
    keda: Annotated[
        str | None, typer.Option(help="HOST:PORT where KEDA is served, in plain gRPC (default: not served).")
    ] = None,
    policies: Annotated[
        str | None,
        typer.Option(help="Folder of policy files, or one file; cluster: custom resources (default: policies)."),
    ] = None,
    store: Annotated[str | None, typer.Option(help="SQLAlchemy URL (default: sqlite:///headstart.db).")] = None,
    prometheus_url: Annotated[
        str | None, typer.Option(help="Where history comes from (default: http://127.0.0.1:9090).")
    ] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Default: the pod's service account, else your own.")] = None,
    kube_context: Annotated[str | None, typer.Option(help="Default: the kubeconfig's current context.")] = None,
    turn: Annotated[str | None, typer.Option(help="Time between two decisions (default: 15s).")] = None,
    pools: Annotated[str | None, typer.Option(help="GPUs of each pool: a100=64,h100=16 (default: no limits).")] = None,
    time_scale: Annotated[
        float | None, typer.Option(help="Service seconds per wall second, for rehearsals (default: 1; demo: 60).")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error (default: info; demo: warning).")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="json or console (default: json; demo: console).")] = None,
) -> None:
    """The service: history from Prometheus, orders to Kubernetes, until it is stopped.

    Every option may be set as HEADSTART_<NAME>; docs/operations.md lists those that have no flag.
    """
    from scaler.app.settings import load_settings

    flags = {
        "http": http,
        "keda": keda,
        "policies": policies,
        "store": store,
        "prometheus_url": prometheus_url,
        "kubeconfig": kubeconfig,
        "kube_context": kube_context,
        "turn": turn,
        "pools": pools,
        "time_scale": time_scale,
        "log_level": log_level,
        "log_format": log_format,
    }
    if demo:
        given = {name: value for name, value in flags.items() if value is not None}
        _run_demo({**_demo_defaults(), **given})
        return
    settings = load_settings(**flags)
    from scaler.app.bootstrap import build_service
    from scaler.app.logs import configure_logs
    from scaler.app.runtime import run_until_stopped

    configure_logs(settings.log_level, settings.log_format)
    run_until_stopped(build_service(settings))


def _demo_defaults() -> dict[str, object]:
    """What the demonstration does differently where neither a flag nor the environment says otherwise."""
    import os

    differs = {"time_scale": DEMO_TIME_SCALE, "log_level": "warning", "log_format": "console"}
    return {name: value for name, value in differs.items() if f"HEADSTART_{name.upper()}" not in os.environ}


def _run_demo(flags: dict[str, object]) -> None:
    import sys
    import tempfile

    from rich.console import Console

    from scaler.app.settings import load_settings

    console = Console(file=sys.stderr, highlight=False)
    with tempfile.TemporaryDirectory(prefix="headstart-demo-") as folder:
        settings = load_settings(**{"store": f"sqlite:///{folder}/demo.db", **flags})
        console.print("[bold]Headstart[/bold] demonstration: four endpoints, two weeks of generated history")
        from scaler.app.bootstrap import build_demo_service
        from scaler.app.logs import configure_logs
        from scaler.app.runtime import run_until_stopped

        configure_logs(settings.log_level, settings.log_format)
        service, demo = build_demo_service(settings)

        def ready(url: str) -> None:
            console.print(f"  the page is at [bold]{url}[/bold] (time runs {settings.time_scale:g} times as fast)")
            console.print("  models are fitted in the background, orders get better as they come; Ctrl-C ends it")

        run_until_stopped(service, status=demo.status, on_ready=ready)
        console.print("ended")
