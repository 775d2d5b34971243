"""Runs a Prometheus with config/prometheus.yml, and the exporter that looks at certificates."""

import re

from stage import ROOT, listens, until


class Prometheus:
    def __init__(self, stage, session):
        self.stage = stage
        self.session = session
        self.port = stage.port()

    async def start_alone(self, admin):
        """ws2api at that port of this machine, without HAProxy. The rules look back ten seconds, so that nobody waits for minutes."""
        rules = self.stage.folder / "ws2api.rules.yml"
        rules.write_text(re.sub(r"\[\dm\]", "[10s]", (ROOT / "config/ws2api.rules.yml").read_text()))
        text = (ROOT / "config/prometheus.yml").read_text()
        others = text.index("  # BIND_STATISTICS"), text.index("rule_files:")
        replacements = {"127.0.0.1:4002": f"127.0.0.1:{admin}"}
        return await self.run(text[: others[0]] + text[others[1] :], replacements, rules)

    async def start(self, admin, statistics, tls, authority):
        """Three ports of this machine, and who has signed the certificate at the third."""
        prober = self.stage.port()
        await start_prober(self.stage, prober, authority)
        text = (ROOT / "config/prometheus.yml").read_text()
        replacements = {
            "127.0.0.1:4002": f"127.0.0.1:{admin}",
            "127.0.0.1:4005": f"127.0.0.1:{statistics}",
            "chargers.example.org:443": f"localhost:{tls}",
            "127.0.0.1:9115": f"127.0.0.1:{prober}",
        }
        return await self.run(text, replacements, ROOT / "config/ws2api.rules.yml")

    async def run(self, text, replacements, rules):
        folder = self.stage.folder
        replacements["_interval: 15s"] = "_interval: 1s"
        replacements["- ws2api.rules.yml"] = f"- {rules}"
        for old, new in replacements.items():
            assert old in text, f"config/prometheus.yml has no {old!r} any more"
            text = text.replace(old, new)
        config = folder / "prometheus.yml"
        config.write_text(text)
        arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder}/prometheus", "--log.level=warn"]
        arguments.append(f"--web.listen-address=127.0.0.1:{self.port}")
        await self.stage.start("prometheus", "prometheus", *arguments)
        await until("Prometheus", lambda: listens("127.0.0.1", self.port))
        return self

    async def query(self, expression):
        """Pairs of labels and value."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query"
        async with self.session.get(url, params={"query": expression}) as answer:
            if answer.status != 200:
                return []
            result = (await answer.json())["data"]["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    async def alerts(self):
        """The names of alerts that fire, or will if it goes on like this."""
        return {labels["alertname"] for labels, _ in await self.query("ALERTS")}


async def start_prober(stage, port, authority):
    text = (ROOT / "config/blackbox.yml").read_text()
    for line in ("      # tls_config:", "      #   ca_file: /etc/prometheus/ca.pem"):
        assert line in text, f"config/blackbox.yml has no {line!r} any more"
        text = text.replace(line, line.replace("# ", "", 1))
    config = stage.folder / "blackbox.yml"
    config.write_text(text.replace("/etc/prometheus/ca.pem", str(authority)))
    arguments = [f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}"]
    await stage.start("blackbox", "prometheus-blackbox-exporter", *arguments)
    await until("the prober", lambda: listens("127.0.0.1", port))
