"""sslyze, a scanner of TLS servers, at `listen_tls`: what it finds is held against what is promised, item by item."""

import importlib.util
import json
import sys

ITEMS = (
    "sslv2 sslv3 tlsv1 tlsv1_1 tlsv1_2 tlsv1_3 compression early_data fallback heartbleed openssl_ccs reneg resum robot "
    "elliptic_curves ems certinfo"
)
SUITES = {
    "tls_1_2": {
        f"TLS_ECDHE_{kind}_WITH_{cipher}_SHA{bits}"
        for kind in ("ECDSA", "RSA")
        for cipher, bits in (("AES_128_GCM", 256), ("AES_256_GCM", 384), ("CHACHA20_POLY1305", 256))
    },
    "tls_1_3": {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"},
}
CURVES = {"X25519", "secp256r1", "secp384r1"}


async def play(stage, port, authority):
    if importlib.util.find_spec("sslyze") is None:
        return stage.say("sslyze: SKIPPED, it can't be had here; openssl s_client has looked at versions, suites, tickets, renegotiation")
    found = stage.folder / "sslyze.json"
    items = [f"--{item}" for item in ITEMS.split()]
    command = [sys.executable, "-m", "sslyze", f"--json_out={found}", f"--certinfo_ca_file={authority.certificate}", *items]
    # It connects more slowly where it is told to.
    await stage.run("sslyze", *command, "--mozilla_config=disable", f"localhost:{port}{{127.0.0.1}}", deadline=240)
    server = json.loads(found.read_text())["server_scan_results"][0]
    assert server["scan_status"] == "COMPLETED", server
    items = server["scan_result"]

    def result(name):
        assert items[name]["status"] == "COMPLETED", (name, items[name])
        return items[name]["result"]

    def suites(version):
        return {accepted["cipher_suite"]["name"] for accepted in result(f"{version}_cipher_suites")["accepted_cipher_suites"]}

    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert suites(version) == set(), (version, suites(version))
    for version, expected in SUITES.items():
        assert suites(version) == expected, (version, suites(version) ^ expected)
    assert result("tls_compression")["supports_compression"] is False
    assert result("tls_1_3_early_data")["supports_early_data"] is False
    assert result("heartbleed")["is_vulnerable_to_heartbleed"] is False
    assert result("openssl_ccs_injection")["is_vulnerable_to_ccs_injection"] is False
    assert result("robot")["robot_result"] == "NOT_VULNERABLE_RSA_NOT_SUPPORTED", result("robot")
    assert result("session_renegotiation") == {
        "is_vulnerable_to_client_renegotiation_dos": False,
        "supports_secure_renegotiation": True,
        "client_renegotiations_success_count": 0,
    }, result("session_renegotiation")
    # It says "not supported" of tickets where a resumed session gets a new one, as here: it compares the two. s_client resumes.
    resumption = result("session_resumption")
    assert resumption["session_id_resumption_result"] == "NOT_SUPPORTED", resumption
    assert result("tls_extended_master_secret")["supports_ems_extension"] is True
    curves = {curve["name"] for curve in result("elliptic_curves")["supported_curves"]}
    assert curves == CURVES, curves
    deployments = result("certificate_info")["certificate_deployments"]
    assert len(deployments) == 2, "ECDSA and RSA"
    # Whether somebody signs it who is known is not its subject here.
    assert all(deployment["received_chain_has_valid_order"] for deployment in deployments), deployments
    fallback = result("tls_fallback_scsv")["supports_fallback_scsv"]
    stage.say(
        f"sslyze: {sum(map(len, SUITES.values()))} suites of TLS 1.2 and 1.3 and no other version; no compression, early data, Heartbleed, "
        f"CCS injection, ROBOT, renegotiation, nor sessions by id; curves {', '.join(sorted(curves))}; fallback SCSV: {fallback}"
    )
