"""What the compose file promises: encrypted, authenticated, unprivileged, restarted, bounded."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from flwr.common.config import parse_config_args
from flwr.supercore.cli.flower_superexec import _parse_args as superexec_parser
from flwr.superlink.cli.flower_superlink import _parse_args_run_superlink as superlink_parser
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode as supernode_parser

from feddag_flwr.settings import Settings
from feddag_lab.docker_demo import steps

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = ROOT / "docker" / "compose.yaml"
COMPOSE = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
NODES = sorted(name for name in SERVICES if name.startswith("ward-"))
LONG_LIVED = ["superlink", "superexec", *NODES]
ONE_SHOT = ["prepare", "register", "submit"]


def secrets_of(service):
    """Return a service's secrets: the name inside the container to the name of the secret."""
    listed = SERVICES[service].get("secrets", [])
    pairs = [(s, s) if isinstance(s, str) else (s["target"], s["source"]) for s in listed]
    return dict(pairs)


def options_of(service):
    """Return a Flower command's options as Flower's own parser reads them."""
    command = SERVICES[service]["command"]
    if service == "superlink":
        return superlink_parser().parse_args(command[1:])
    if service == "superexec":
        return superexec_parser().parse_args(command[1:])
    return supernode_parser().parse_args(command)


def test_there_are_six_nodes_and_no_service_that_these_tests_pass_over():
    assert len(NODES) == 6
    assert sorted(SERVICES) == sorted([*LONG_LIVED, *ONE_SHOT])
    assert steps.NODES == NODES
    assert steps.LONG_LIVED == LONG_LIVED


@pytest.mark.parametrize("service", [*LONG_LIVED, *ONE_SHOT])
def test_no_container_has_privileges(service):
    body = SERVICES[service]
    assert re.fullmatch(r"\$\{FEDDAG_USER:-[1-9]\d*:[1-9]\d*\}", body["user"])
    assert body["cap_drop"] == ["ALL"]
    assert body["security_opt"] == ["no-new-privileges:true"]
    assert body["read_only"] is True
    assert body["pids_limit"] == 1024
    assert not {"privileged", "cap_add", "pid", "ports"} & body.keys()


@pytest.mark.parametrize("service", LONG_LIVED)
def test_what_lives_long_is_watched_restarted_and_bounded(service):
    body = SERVICES[service]
    assert body["restart"] == "unless-stopped"
    assert body["init"] is True  # its end is the container's, though it is not process 1
    assert re.fullmatch(r"\d+g", body["mem_limit"])
    check = body["healthcheck"]["test"]
    assert options_of(service).health_server_address == check[3] == "127.0.0.1:9095"
    assert body["logging"]["options"]["max-size"] == "10m"


def test_nodes_reach_the_superlink_alone():
    assert COMPOSE["networks"]["nodes"] == {"internal": True}
    on_it = {name for name, body in SERVICES.items() if "nodes" in body.get("networks", [])}
    assert on_it == {"superlink", *NODES}
    assert all(SERVICES[node]["networks"] == ["nodes"] for node in NODES)
    assert SERVICES["prepare"]["network_mode"] == "none"  # it makes keys
    assert all("networks" in body for name, body in SERVICES.items() if name != "prepare")


def test_a_node_is_healthy_when_it_is_connected():
    for node in NODES:
        port = options_of("superlink").fleet_api_address.rpartition(":")[2]
        assert SERVICES[node]["healthcheck"]["test"][4:] == ["--connected-to", port]


def test_nothing_is_insecure():
    assert "insecure" not in FILE.read_text(encoding="utf-8")
    superlink = options_of("superlink")
    assert superlink.enable_supernode_auth
    files = (superlink.ssl_ca_certfile, superlink.ssl_certfile, superlink.ssl_keyfile)
    assert files == tuple(f"/run/secrets/{n}" for n in ("ca.crt", "server.pem", "server.key"))
    inner = (superlink.runtime_ssl_ca_certfile, superlink.runtime_ssl_certfile)
    assert (*inner, superlink.runtime_ssl_keyfile) == files
    superexec = options_of("superexec")
    assert superexec.root_certificates == "/run/secrets/ca.crt"
    assert superexec.superexec_auth_secret_file == superlink.superexec_auth_secret_file
    for node in NODES:
        options = options_of(node)
        assert options.root_certificates == "/run/secrets/ca.crt"
        assert options.auth_supernode_private_key == "/run/secrets/node.key"


def test_the_server_app_outlives_the_superlink():
    superlink = options_of("superlink")
    assert superlink.isolation == "process"
    (state,) = SERVICES["superlink"]["volumes"]
    volume, folder = state.split(":")
    assert volume in COMPOSE["volumes"]
    assert superlink.database.startswith(f"{folder}/")
    assert options_of("superexec").plugin_type == "serverapp"


@pytest.mark.parametrize("node", NODES)
def test_a_node_has_its_own_key_and_data_and_nothing_else(node):
    assert secrets_of(node) == {"ca.crt": "ca.crt", "node.key": f"{node}.key"}
    assert COMPOSE["secrets"][f"{node}.key"]["file"].endswith(f"/keys/nodes/{node}/key")
    (mount,) = SERVICES[node]["volumes"]
    assert mount.endswith(f"/data/{node}:/data:ro")
    config = parse_config_args([options_of(node).node_config])
    assert config == {"client-name": node, "data-path": "/data/part.npz"}


def test_private_keys_are_where_they_belong():
    for secret, body in COMPOSE["secrets"].items():
        assert not body["file"].endswith("ca.key")
        holders = {name for name in SERVICES if secret in secrets_of(name).values()}
        if secret == "server.key":
            assert holders == {"superlink"}
        if secret == "superexec.secret":
            assert holders == {"superlink", "superexec"}
    folders = [
        n for n in SERVICES if any("federation}:" in v for v in SERVICES[n].get("volumes", []))
    ]
    assert folders == ["prepare"]
    assert SERVICES["prepare"]["network_mode"] == "none"


def test_every_node_is_registered_before_it_starts():
    keys = {f"{node}.pub": f"{node}.pub" for node in NODES}
    assert secrets_of("register") == {"ca.crt": "ca.crt", **keys}
    for node in NODES:
        assert SERVICES[node]["depends_on"]["register"] == {
            "condition": "service_completed_successfully"
        }


def test_the_certificate_is_for_the_name_that_is_used():
    host = next(w for w in SERVICES["prepare"]["command"] if w.startswith("--host="))
    assert host == "--host=superlink"
    for node in NODES:
        assert options_of(node).superlink.split(":")[0] == "superlink"
    assert options_of("superexec").runtime_api_address.split(":")[0] == "superlink"


def test_the_run_has_settings_that_the_app_takes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    run = tomllib.loads((ROOT / "docker" / "run.toml").read_text(encoding="utf-8"))
    settings = Settings.from_run_config({**project["tool"]["flwr"]["app"]["config"], **run})
    assert settings.run.num_clients == len(NODES)
    assert (settings.deployment.identity, settings.data.scenario, settings.data.dataset) == (
        "node",
        "own",
        "npz",
    )
    assert settings.run.num_rounds > steps.SUPERLINK_DIES_AFTER_ROUND + 1
    assert steps.SUPERLINK_DIES_AFTER_ROUND > steps.NODE_DIES_AFTER_ROUND + 1
    (mount,) = SERVICES["superexec"]["volumes"]
    assert settings.run.run_dir == mount.split(":")[1]
