"""Makes certificates for one scene with OpenSSL: an authority, a server, clients by name."""

import ssl


class Authority:
    def __init__(self, stage, name):
        self.stage = stage
        self.name = name
        self.folder = stage.folder / f"ca-{name}"
        self.folder.mkdir()

    @property
    def certificate(self):
        return self.folder / "ca.pem"

    async def openssl(self, *arguments):
        await self.stage.run("openssl", "openssl", *arguments, cwd=self.folder)

    async def create(self):
        await self.openssl(
            *"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2".split(),
            "-subj", f"/CN={self.name}",
        )  # fmt: skip
        return self

    async def issue(self, common_name, names=None):
        """A file with certificate and key."""
        stem = f"leaf-{len(list(self.folder.iterdir()))}"
        request = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -utf8".split()
        subject = ["-subj", f"/CN={common_name}"]
        extension = ["-addext", f"subjectAltName={names}"] if names else []
        await self.openssl(*request, "-keyout", f"{stem}.key", "-out", f"{stem}.csr", *subject, *extension)
        sign = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy".split()
        await self.openssl(*sign, "-in", f"{stem}.csr", "-out", f"{stem}.crt")
        both = self.folder / f"{stem}.pem"
        both.write_text((self.folder / f"{stem}.crt").read_text() + (self.folder / f"{stem}.key").read_text())
        return both

    async def revocations(self, *revoked, expired=False):
        """The text of a list with these certificates, which `issue` gave."""
        config = self.folder / "ca.cnf"
        if not config.exists():
            config.write_text("[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\ndefault_md = sha256\n")
            (self.folder / "index.txt").touch()
        command = "ca -config ca.cnf -keyfile ca.key -cert ca.pem".split()
        for certificate in revoked:
            await self.openssl(*command, "-revoke", certificate)
        times = "-crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z" if expired else "-crldays 2"
        await self.openssl(*command, "-gencrl", *times.split(), "-out", "crl.pem")
        return (self.folder / "crl.pem").read_text()


def client_context(authority, certificate=None):
    """Believes that authority, and shows that certificate."""
    context = ssl.create_default_context(cafile=authority.certificate)
    if certificate:
        context.load_cert_chain(certificate)
    return context
