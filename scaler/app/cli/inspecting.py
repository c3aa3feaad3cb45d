"""headstart explain, doctor."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaler.app.cli.options import only_errors_are_logged, show, table
from scaler.errors import InputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scaler.domain.endpoint import EndpointId


def explain(
    endpoint: Annotated[str, typer.Argument(help="NAMESPACE/NAME", metavar="ENDPOINT")],
    store: Annotated[str | None, typer.Option(help="SQLAlchemy URL (default: sqlite:///headstart.db).")] = None,
    last: Annotated[int, typer.Option(help="How many of the latest decisions.", min=1, max=1000)] = 1,
    changes: Annotated[
        bool, typer.Option("--changes", help="Of the last 1000 only those that changed something or held.")
    ] = False,
) -> None:
    """Say why: the last decisions of an endpoint with the verdict of every guardrail."""
    key = _endpoint(endpoint)
    from scaler.adapters.store.store import SqlStore
    from scaler.app.settings import load_settings

    with closing(SqlStore.open(load_settings(store=store).store, must_exist=True)) as kept:
        rows = kept.last_rows(key, 1000 if changes else last)
        if not rows:
            known = ", ".join(str(name) for name in kept.endpoints()) or "none"
            raise InputError(f"{endpoint}: the store holds no decision of it; endpoints with decisions: {known}")
    told = [row for row in rows if not changes or row["final"] != row["current"] or row["plan"] is None]
    if not told:
        raise InputError(f"{endpoint}: none of the last {len(rows)} decisions changed something or held")
    for row in reversed(told[:last]):
        _explain_row(row)


def _endpoint(text: str) -> "EndpointId":
    from scaler.domain.endpoint import EndpointId

    try:
        return EndpointId.parse(text)
    except ValueError as error:
        raise SettingsError(f"ENDPOINT: found {text!r}; need NAMESPACE/NAME such as prod/chat-7b") from error


def _explain_row(row: "Mapping[str, Any]") -> None:
    show(f"{row['decided_at']}  {row['sentence']}")
    show(f"  came of it: {row['outcome']} ({row['mode']}){': ' + row['detail'] if row['detail'] else ''}")
    if row["why_setting"]:
        show(f"  the setting: {row['why_setting']}")
    if row["problem"]:
        show(f"  not known: {row['problem']}")
    verdicts = table("  guardrail", "before", "after", "code", "reason")
    for verdict in row["verdicts"]:
        moved = "" if verdict["before"] == verdict["after"] else " *"
        verdicts.add_row(
            f"  {verdict['guardrail']}{moved}",
            _count(verdict["before"]),
            _count(verdict["after"]),
            verdict["reason_code"],
            verdict["reason"],
        )
    show(verdicts)


def _count(replicas: int | None) -> str:
    return "–" if replicas is None else str(replicas)


def doctor(
    policies: Annotated[
        str | None,
        typer.Option(help="Folder of policy files, or one file; cluster: custom resources (default: policies)."),
    ] = None,
    store: Annotated[str | None, typer.Option(help="SQLAlchemy URL (default: sqlite:///headstart.db).")] = None,
    prometheus_url: Annotated[str | None, typer.Option(help="Where history comes from.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Default: as headstart run.")] = None,
    kube_context: Annotated[str | None, typer.Option(help="Default: the current context.")] = None,
) -> None:
    """Check settings, policies, store, metrics and cluster: what is found for each endpoint. Exit code 1 if anything
    is not ok; nothing is ordered and nothing but the store is written."""
    from rich.text import Text

    from scaler.app.doctor import examine
    from scaler.app.settings import load_settings

    settings = load_settings(
        policies=policies, store=store, prometheus_url=prometheus_url, kubeconfig=kubeconfig, kube_context=kube_context
    )
    only_errors_are_logged()
    findings = examine(settings)
    shown = table("", "what", "found")
    for finding in findings:
        verdict = Text("ok", "green") if finding.fine else Text("not ok", "red")
        shown.add_row(verdict, finding.what, finding.found)
    show(shown)
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)
