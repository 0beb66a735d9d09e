"""The files under deploy/: they are what their readers take, and name what the server really has."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from asr.cli.main import parser
from asr.server import workers
from asr.server.options import ServerOptions
from serving import serving

DEPLOY = Path(__file__).parent.parent / "deploy"
KUBERNETES = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
NEWEST = kubernetes_validate.latest_version()


def of_kind(kind: str) -> dict[str, Any]:
    (manifest,) = (manifest for manifest in KUBERNETES if manifest["kind"] == kind)
    return manifest


DEPLOYMENT, SCALER = of_kind("Deployment"), of_kind("HorizontalPodAutoscaler")
POD = DEPLOYMENT["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


@pytest.mark.parametrize("manifest", KUBERNETES, ids=lambda manifest: manifest["kind"])
@pytest.mark.parametrize("version", ["1.30", NEWEST])
def test_manifests_are_what_kubernetes_takes(manifest, version) -> None:
    """Each fits the schema of its kind, in a newer and an older version, with no field that is unknown there."""
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_find_what_is_wrong() -> None:
    """A misspelt field does not pass."""
    wrong = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def test_manifests_belong_together() -> None:
    """What selects pods selects these, the scaler scales this deployment, and the service's port is the container's."""
    labels = POD["metadata"]["labels"].items()
    service = of_kind("Service")["spec"]
    for selector in (
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        service["selector"],
    ):
        assert selector.items() <= labels
    target = SCALER["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (DEPLOYMENT["kind"], DEPLOYMENT["metadata"]["name"])
    assert "replicas" not in DEPLOYMENT["spec"]
    (port,) = CONTAINER["ports"]
    assert {service["ports"][0]["targetPort"], *(probe["httpGet"]["port"] for probe in probes())} == {port["name"]}


def probes() -> list[dict[str, Any]]:
    return [CONTAINER[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")]


def test_the_server_answers_where_it_is_asked(recognizer) -> None:
    """Every path that is probed or scraped is served, and every figure that is asked for is among the server's."""
    scraped = POD["metadata"]["annotations"]["prometheus.io/path"]
    balancer = re.findall(r"httpchk GET (\S+)", (DEPLOY / "haproxy.cfg").read_text())
    image = re.findall(r"http://127\.0\.0\.1:2700(/\w+)", (DEPLOY / "Containerfile").read_text())
    assert len(balancer) == len(image) == 1
    with serving(recognizer) as (address, _):
        answers = {}
        for path in {scraped, *balancer, *image, *(probe["httpGet"]["path"] for probe in probes())}:
            with urllib.request.urlopen(address.replace("ws:", "http:") + path) as response:
                answers[path] = response.read().decode()
    figures = set(re.findall(r"^(asr_\w+) ", answers[scraped], re.MULTILINE))
    asked = {metric["pods"]["metric"]["name"] for metric in SCALER["spec"]["metrics"]}
    adapter = yaml.safe_load((DEPLOY / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    assert asked <= figures
    assert asked == set(re.findall(r"asr_\w+", rule["seriesQuery"]))
    documented = re.findall(r"`(asr_\w+)", (DEPLOY.parent / "docs" / "deploying.md").read_text())
    assert figures == {*documented, "asr_event_loop_late_seconds_max"}


def test_ports_and_arguments_are_the_server_s() -> None:
    """The image listens where the manifest says, and the server takes the arguments of both."""
    image = (DEPLOY / "Containerfile").read_text()
    entry = yaml.safe_load(re.search(r"^ENTRYPOINT (\[.*\])$", image, re.MULTILINE)[1])
    assert entry[0].endswith("/asr")
    options = parser().parse_args([*entry[1:], *CONTAINER["args"]])
    port = ServerOptions.port
    assert (
        options.port == port == CONTAINER["ports"][0]["containerPort"] == of_kind("Service")["spec"]["ports"][0]["port"]
    )
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(port)
    assert f"EXPOSE {port}" in image
    # Behind an ingress all have its address.
    assert options.max_per_address == options.max_connections
    (streams,) = (m["pods"] for m in SCALER["spec"]["metrics"] if m["pods"]["metric"]["name"] == "asr_streams")
    assert int(streams["target"]["averageValue"]) < options.max_connections


def test_there_is_time_to_stop() -> None:
    """Nobody kills a server before the pause and the time in which it finishes streams are over."""
    pause_s = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    drain_s = ServerOptions.drain_s + workers._GRACE_S
    assert POD["spec"]["terminationGracePeriodSeconds"] > pause_s + drain_s
    (unit_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "asr.service").read_text(), re.MULTILINE)
    assert int(unit_s) > drain_s
