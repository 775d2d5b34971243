"""Makes certificates for one scene with OpenSSL: an authority, a server, clients by name."""

import ssl

ECDSA = "ec -pkeyopt ec_paramgen_curve:P-256"
RSA = "rsa:2048"
CONFIG = """
[ca]
default_ca = d
[d]
database = index.txt
serial = serial.txt
default_md = sha256
new_certs_dir = .
unique_subject = no
copy_extensions = copy
policy = p
[p]
commonName = supplied
"""


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

    async def issue(self, common_name, names=None, kind=ECDSA, expired=False):
        """A file with certificate and key."""
        stem = f"leaf-{len(list(self.folder.iterdir()))}"
        request = f"req -newkey {kind} -nodes -utf8".split()
        subject = ["-subj", f"/CN={common_name}"]
        extension = ["-addext", f"subjectAltName={names}"] if names else []
        await self.openssl(*request, "-keyout", f"{stem}.key", "-out", f"{stem}.csr", *subject, *extension)
        if expired:
            times = "-startdate 20200101000000Z -enddate 20210101000000Z"
            sign = [*self.ca(), *f"-batch -notext {times}".split()]
        else:
            sign = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy".split()
        await self.openssl(*sign, "-in", f"{stem}.csr", "-out", f"{stem}.crt")
        both = self.folder / f"{stem}.pem"
        both.write_text((self.folder / f"{stem}.crt").read_text() + (self.folder / f"{stem}.key").read_text())
        return both

    async def revocations(self, *revoked, expired=False):
        """The text of a list with these certificates, which `issue` gave."""
        command = self.ca()
        for certificate in revoked:
            await self.openssl(*command, "-revoke", certificate)
        times = "-crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z" if expired else "-crldays 2"
        await self.openssl(*command, "-gencrl", *times.split(), "-out", "crl.pem")
        return (self.folder / "crl.pem").read_text()

    def ca(self):
        """The front of a command for what only `openssl ca` can do."""
        config = self.folder / "ca.cnf"
        if not config.exists():
            config.write_text(CONFIG)
            (self.folder / "index.txt").touch()
            (self.folder / "serial.txt").write_text("1000\n")
        return "ca -config ca.cnf -keyfile ca.key -cert ca.pem".split()


def client_context(authority, certificate=None):
    """Believes that authority, and shows that certificate."""
    context = ssl.create_default_context(cafile=authority.certificate)
    if certificate:
        context.load_cert_chain(certificate)
    return context
