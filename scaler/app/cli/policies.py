"""headstart validate, init, schema."""

from pathlib import Path
from typing import Annotated

import typer

from scaler.app.cli.options import check_out_file, show, writing


def validate(
    paths: Annotated[list[Path], typer.Argument(help="Policy files or folders of them.", metavar="P.yaml...")],
) -> None:
    """Check policies: one line for each that is fine, one error for each thing that is not; exit code 2 if any."""
    from scaler.adapters.policies import load_policies, warnings_for

    found = load_policies(paths)
    for policy in found:
        spec = policy.spec
        show(
            f"ok: {policy.endpoint} ({spec.mode.value}, {spec.replicas.min}..{spec.replicas.max} replicas, "
            f"objective {spec.slo.objective:g})"
        )
        for warning in warnings_for(policy):
            show(f"  mind: {warning}")


def schema(
    crd: Annotated[
        bool, typer.Option("--crd", help="Instead: the CustomResourceDefinition, for policies in a cluster.")
    ] = False,
    admission: Annotated[
        bool,
        typer.Option(
            "--admission", help="Instead: the ValidatingAdmissionPolicy that refuses unknown fields (Kubernetes 1.30)."
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write it there instead of on stdout.")] = None,
) -> None:
    """The JSON Schema of the policy, for editors and for CI."""
    from scaler.adapters.policies import admission_text, definition_text, schema_text
    from scaler.errors import InputError

    if crd and admission:
        raise InputError("schema: found both --crd and --admission, need at most one; write each to a file of its own")
    text = definition_text() if crd else admission_text() if admission else schema_text()
    if out is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        with writing(check_out_file(out)):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(text)


def init(
    name: Annotated[str, typer.Argument(help="Name of the running Deployment (or what --kind says).")],
    namespace: Annotated[str, typer.Option(help="Where it runs.")] = "default",
    kind: Annotated[str, typer.Option(help="Anything with a scale subresource.")] = "Deployment",
    api_version: Annotated[str, typer.Option(help="Of that kind.")] = "apps/v1",
    preset: Annotated[
        str, typer.Option(help="Signal set: http, istio, vllm, sglang, triton, ray-serve, knative, kafka.")
    ] = "http",
    out: Annotated[Path | None, typer.Option(help="Default: policies/NAME.yaml.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Default: as headstart run.")] = None,
    kube_context: Annotated[str | None, typer.Option(help="Default: the current context.")] = None,
) -> None:
    """Write a first policy from what is running: it observes, and never overwrites a file."""
    from scaler.app.first_policy import first_policy_text, read_running
    from scaler.errors import InputError

    file = out or Path("policies") / f"{name}.yaml"
    if file.exists():
        raise InputError(f"{file}: exists already; choose another --out")
    check_out_file(file)
    running = read_running(
        name=name,
        namespace=namespace,
        kind=kind,
        api_version=api_version,
        preset=preset,
        kubeconfig=kubeconfig,
        context=kube_context or "",
    )
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(first_policy_text(running))
    show(f"wrote {file}: mode Observe, {running.replicas} replicas now. Look it over, then: headstart validate {file}")
