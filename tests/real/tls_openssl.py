"""What `openssl s_client` sees at `listen_tls`: versions, suites, tickets, alerts, renegotiation, changes of keys, client certificates."""

from tls_client import SClient, frame, handshake

TLS13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
TLS12 = [
    f"ECDHE-{kind}-{cipher}"
    for kind in ("ECDSA", "RSA")
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
]
SUITES = [("-tls1_3", "-ciphersuites", suite) for suite in TLS13] + [("-tls1_2", "-cipher", suite) for suite in TLS12]
OLD = "DEFAULT@SECLEVEL=0"
REFUSED = [
    ("-tls1_1", "-cipher", OLD),
    ("-tls1", "-cipher", OLD),
    ("-tls1_2", "-cipher", "AES128-SHA:AES128-GCM-SHA256:@SECLEVEL=0"),
    ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES256-SHA384:@SECLEVEL=0"),
    ("-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"),
    ("-tls1_3", "-groups", "P-521"),
]
NO_RENEGOTIATION = "warning no_renegotiation"


async def play(stage, port, servers, clients, strangers, backend):
    trust = ("-CAfile", servers.certificate, "-verify_return_error")
    for arguments in SUITES:
        client = await SClient(stage, port, *trust, *arguments).start()
        code = await client.finish()
        assert code == 0 and "Verify return code: 0 (ok)" in client.text() and arguments[-1] in client.text(), client.text()
        assert "Compression: NONE" in client.text(), client.text()
        # It has said that it ends, and has been told so.
        assert client.messages(">>>", "warning close_notify"), arguments
    stage.say(f"openssl s_client: {len(SUITES)} suites of TLS 1.2 and 1.3, with the ECDSA and the RSA certificate")
    await play_refused(stage, port)
    await play_tickets(stage, port, trust)
    await play_renegotiation(stage, port, trust, backend)
    await play_key_updates(stage, port, trust)
    await play_certificates(stage, port, trust, clients, strangers, backend)


async def play_refused(stage, port):
    alerts = set()
    for arguments in REFUSED:
        client = await SClient(stage, port, *arguments).start()
        assert await client.finish() != 0 and "Cipher is (NONE)" in client.text(), (arguments, client.text())
        told = [line.split("fatal ")[1] for line in client.messages("<<<", "Alert") if "fatal " in line]
        assert len(told) == 1, (arguments, client.messages("<<<", ""))
        alerts.update(told)
    assert alerts == {"handshake_failure"}, alerts
    # A group that the client has and has not guessed is asked for, once.
    client = await SClient(stage, port, "-tls1_3", "-groups", "P-521:P-384").start()
    assert await client.finish() == 0 and len(client.messages("<<<", "ServerHello")) == 2, client.text()
    stage.say(f"openssl s_client: {len(REFUSED)} refused with handshake_failure: TLS 1.0, 1.1, RSA and DHE key exchange, CBC, P-521 alone")


async def play_tickets(stage, port, trust):
    for version in ("-tls1_2", "-tls1_3"):
        file = stage.folder / f"session{version}"
        # The ticket of TLS 1.3 comes behind the handshake: it is there with the answer.
        client = await SClient(stage, port, *trust, version, "-sess_out", file).start()
        await client.open("S1")
        await client.finish()
        assert client.messages("<<<", "NewSessionTicket"), version
        client = await SClient(stage, port, *trust, version, "-sess_in", file).start()
        await client.finish()
        assert "Reused, " in client.text(), client.text()
    stage.say("openssl s_client: sessions are resumed with tickets")


async def play_renegotiation(stage, port, trust, backend):
    # Before the request, and in the middle of a WebSocket.
    for name in (None, "R1"):
        client = await SClient(stage, port, *trust, "-tls1_2").start()
        if name:
            await client.open(name)
        else:
            await client.expect(b"Verify return code")
        await client.send(b"R\n")
        await client.expect(b"RENEGOTIATING")
        code = await client.end()
        assert code != 0 and "no renegotiation" in client.text(), client.text()
        assert client.messages("<<<", NO_RENEGOTIATION), client.messages("<<<", "")
        # It has seen one handshake and no second one.
        came = [line for line in client.messages("<<<", "ServerHello") if line.endswith("ServerHello")]
        assert len(client.messages(">>>", "ClientHello")) == 2 and len(came) == 1, client.messages("", "")
    await backend.expect_disconnect("R1")
    stage.say(f"openssl s_client: renegotiation is refused ({NO_RENEGOTIATION}), before the request and in a WebSocket")


async def play_key_updates(stage, port, trust):
    for suite in TLS13:
        client = await SClient(stage, port, *trust, "-tls1_3", "-ciphersuites", suite).start()
        await client.open("K1")
        asked = 0
        for number, command in enumerate(b"KkKKkKkkK"):
            await client.send(bytes([command]) + b"\n")
            asked += command == ord("K")
            await client.expect(b"KEYUPDATE\n")
            client.output = client.output.replace(b"KEYUPDATE\n", b"")
            await client.send(frame(f'[2,"{number}","Echo",{{"k":{number}}}]'))
            await client.expect(f'[3,"{number}",{{"k":{number}}}]'.encode())
        sent, came = (len(client.messages(direction, "KeyUpdate")) for direction in (">>>", "<<<"))
        assert (sent, came) == (9, asked), (sent, came, asked)
        await client.kill()
    stage.say(f"openssl s_client: {sent} changes of its keys (K, k), {came} of ours that it asked for, Calls between, with {len(TLS13)} suites")


async def play_certificates(stage, port, trust, clients, strangers, backend):
    own = await clients.issue("S2", "DNS:s2.example")
    for certificate, name, expected in [(own, "S2", "101"), (own, "S3", "403"), (None, "S4", "101")]:
        shown = ("-cert", certificate, "-key", certificate) if certificate else ()
        client = await SClient(stage, port, *trust, *shown).start()
        await client.expect(b"Verify return code")
        await client.send(handshake(name))
        await client.expect(f"HTTP/1.1 {expected} ".encode())
        await client.kill()
    assert backend.told["S2"]["X-Client-Cert-Cn"] == "S2" and backend.told["S2"]["X-Client-Cert-Verified"] == "true"
    assert "X-Client-Cert-Cn" not in backend.told["S4"] and "S3" not in backend.told
    for authority, expired, alert in ((strangers, False, "fatal unknown_ca"), (clients, True, "fatal certificate_expired")):
        stranger = await authority.issue("S5", "DNS:s5.example", expired=expired)
        for version in ("-tls1_2", "-tls1_3"):
            client = await SClient(stage, port, *trust, version, "-cert", stranger, "-key", stranger).start()
            await client.end()
            assert client.messages("<<<", alert), client.messages("<<<", "Alert")
    assert "S5" not in backend.told
    stage.say("openssl s_client: client certificates: its own 101, another one's 403, a stranger's and an old one an alert, without one 101")


async def play_required(stage, port, clients, servers):
    """At a node that wants a certificate of everybody."""
    for version, alert in (("-tls1_2", "fatal certificate_required"), ("-tls1_3", "fatal certificate_required")):
        client = await SClient(stage, port, "-CAfile", servers.certificate, version).start()
        assert await client.end() != 0 and client.messages("<<<", alert), (version, client.messages("<<<", "Alert"))
    own = await clients.issue("S6", "DNS:s6.example")
    client = await SClient(stage, port, "-CAfile", servers.certificate, "-cert", own, "-key", own).start()
    await client.open("S6")
    await client.kill()
    stage.say("openssl s_client: where a certificate is required, without one an alert, with one 101")
