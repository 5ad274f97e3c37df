"""A lab of machines inside this one: network namespaces on a bridge, each with its own processes, files and sshd.

A node's PID namespace is a must: `ray stop` ends every Ray process that it can see. What is installed on a node is an
overlay over this test's environment, so that set-up commands install for real and change nothing here. It, the node's
home and the folder that nodes may share are on this machine's disk, so that they outlive the node.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["Lab", "Node", "why_not"]

PROGRAMS = ("ip", "unshare", "ssh", "ssh-keygen", "sshd", "rsync", "curl", "mount")
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
HOME = "/mnt/home"  # of root, on every node
# sshd does not start without a user of its own, which this machine may lack.
USERS = f"root:x:0:0:root:{HOME}:/bin/bash\nsshd:x:74:65534::/run/sshd:/usr/sbin/nologin\n"
# Nothing of this machine's /tmp, /run and /dev/shm is seen on a node, nor its pip's settings followed. All of a node's
# /etc is its own: a mount over passwd alone would be gone once this machine replaces that file, as adding a user does.
SCRIPT = """
set -e
mount --make-rprivate /
mount -t tmpfs lab /mnt
mkdir -p /mnt/home /mnt/tmp "$LAB/$NAME.upper" "$LAB/$NAME.work"
chmod 1777 /mnt/tmp
mount --bind "$LAB/$NAME" /mnt/home
if [ -d "$LAB/shared" ]; then mkdir /mnt/resnet-search; mount --bind "$LAB/shared" /mnt/resnet-search; fi
cp -a /etc /mnt/etc
cp "$LAB/passwd" /mnt/etc/passwd
mount --bind /mnt/etc /etc
mount -t overlay lab -o "lowerdir=$ENVIRONMENT,upperdir=$LAB/$NAME.upper,workdir=$LAB/$NAME.work" "$ENVIRONMENT"
mkdir -p /mnt/home/resnet-search/venv
mount --bind "$ENVIRONMENT" /mnt/home/resnet-search/venv
mount -t tmpfs -o size=8g lab /dev/shm
for folder in "$ENVIRONMENT" "$PYTHON"; do
  case "$folder" in /tmp/*) mkdir -p "/mnt$folder"; mount --rbind "$folder" "/mnt$folder";; esac
done
mount --rbind /mnt/tmp /tmp
mount -t tmpfs lab /run
mkdir /run/sshd
hostname "$NAME"
exec env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$SSHD" -D -e -f /dev/null -o ListenAddress="$ADDRESS" \
  -o HostKey=/mnt/home/.ssh/host_key -o AuthorizedKeysFile=/mnt/home/.ssh/authorized_keys -o StrictModes=no \
  -o PermitRootLogin=prohibit-password -o PidFile=none
"""


def why_not(folder: Path) -> str | None:
    """Why no lab can be made in this folder; None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a cluster on one machine needs Linux and root, to make network namespaces"
    missing = [program for program in PROGRAMS if shutil.which(program, path=SEARCHED) is None]
    if missing:
        return f"a cluster on one machine needs {', '.join(missing)} (openssh-server, iproute2, rsync, curl)"
    probe = f"rslabprobe{os.getpid()}"
    try:
        _run("ip", "netns", "add", probe)
        try:
            inside = f"mount --make-rprivate / && cd {shlex.quote(str(folder))} && mkdir upper work && "
            inside += f"mount -t overlay lab -o lowerdir={sys.prefix},upperdir=upper,workdir=work {sys.prefix}"
            _run("ip", "netns", "exec", probe, "unshare", "--mount", "--pid", "--fork", "--uts", "--ipc",
                 "--mount-proc", "sh", "-c", inside)  # fmt: skip
            _run("ip", "link", "add", f"rsbr{os.getpid()}p", "type", "bridge")
            _run("ip", "link", "del", f"rsbr{os.getpid()}p")
        finally:
            _run("ip", "netns", "del", probe)
    except subprocess.CalledProcessError as error:
        return f"namespaces, overlays or bridges cannot be made here: {error.stderr.strip()[:200]}"
    return None


def _run(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"PATH": SEARCHED}
    ).stdout


def _remove_abandoned() -> None:
    """End what tests that were killed have left: a bridge of theirs would draw the traffic of the same network."""
    for namespace in re.findall(r"^rs\d+n\d+", _run("ip", "netns", "list"), re.MULTILINE):
        if _abandoned(namespace):
            for pid in _run("ip", "netns", "pids", namespace).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _run("ip", "netns", "del", namespace)
    for bridge in re.findall(r"^\d+: (rsbr\d+):", _run("ip", "-o", "link", "show", "type", "bridge"), re.MULTILINE):
        if _abandoned(bridge):
            _run("ip", "link", "del", bridge)


def _abandoned(name: str) -> bool:
    # Another of pytest-xdist's processes may have a lab of its own; its command line names Python alone.
    owner = Path("/proc", re.findall(r"\d+", name)[0], "cmdline")
    return not owner.exists() or b"python" not in owner.read_bytes()


class Node:
    """A machine of the lab. `start` switches it on and `kill` off, as by pulling the plug; both may be repeated."""

    def __init__(self, lab: Lab, number: int, name: str, address: str, login: str) -> None:
        self.lab, self.name, self.address, self.home = lab, name, address, lab.folder / name
        self._namespace = f"{lab.prefix}n{number}"
        self._inner, self._outer = f"{lab.prefix}i{number}", f"{lab.prefix}o{number}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = lab.folder / f"{name}.log"
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".config" / "pip").mkdir(parents=True)
        (self.home / ".bashrc").touch()
        # Everything but the wheel itself is there already: set-up commands that would need more than that fail.
        (self.home / ".config" / "pip" / "pip.conf").write_text("[global]\nno-index = true\n")
        (self.home / ".ssh" / "authorized_keys").write_text(f"{login}\n")
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.home / ".ssh" / "host_key"))

    def start(self) -> None:
        """Switch the machine on; returns when its sshd listens."""
        inner, outer = self._inner, self._outer
        _run("ip", "netns", "add", self._namespace)
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self._namespace)
        _run("ip", "link", "set", outer, "master", self.lab.bridge, "up")
        within = f"{self.address}/{self.lab.network.prefixlen}"
        for command in (("addr", "add", within, "dev", inner), ("link", "set", inner, "up"),
                        ("link", "set", "lo", "up"), ("route", "add", "default", "dev", inner)):  # fmt: skip
            _run("ip", "-n", self._namespace, *command)
        unshare = ("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--mount-proc", "--kill-child")
        variables = {
            "LAB": str(self.lab.folder), "NAME": self.name, "ADDRESS": self.address, "ENVIRONMENT": sys.prefix,
            "PYTHON": sys.base_prefix, "SSHD": str(shutil.which("sshd", path=SEARCHED)), "PATH": SEARCHED,
        }  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self._namespace, *unshare, "bash", "-c", SCRIPT],
                env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not come up:\n{self._log.read_text()}")
            time.sleep(0.2)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.address, 22), timeout=1):
            return True
        return False

    def kill(self) -> None:
        """Switch it off: every process of it ends at once, and it answers nobody."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)  # of unshare, which takes the namespace's init with it
            self._process.wait()
            self._process = None
            deadline = time.monotonic() + 30
            while self.processes() and time.monotonic() < deadline:
                time.sleep(0.1)
        existing = _run("ip", "netns", "list").split()
        if self._namespace in existing:
            with contextlib.suppress(subprocess.CalledProcessError):  # it went with the namespace of its other end
                _run("ip", "link", "del", self._outer)
            _run("ip", "netns", "del", self._namespace)

    def processes(self) -> list[str]:
        """The command line of each of its processes."""
        found = []
        for pid in _run("ip", "netns", "pids", self._namespace).split():
            with contextlib.suppress(OSError):
                found.append(Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        return found

    def trains(self) -> bool:
        """Whether a trial trains on it now."""
        # Ray names its workers by what they do: the actor's class, and the method that runs.
        return any(re.match(r"ray::Res(NetTrial|ourceTrainable)\.train", line) for line in self.processes())


class Lab:
    """Machines of a folder, and the network that they and this machine are on; a context manager.

    Args:
        folder: for all that is theirs.
        network: of the machines; this one has its last address.
        shared: whether /mnt/resnet-search is the same folder on every machine.
    """

    def __init__(self, folder: Path, network: str | None = None, *, shared: bool = True) -> None:
        self.folder, self.key = folder, folder / "key"
        self.prefix, self.bridge = f"rs{os.getpid()}", f"rsbr{os.getpid()}"
        self.network = ipaddress.IPv4Network(network or f"10.213.{os.getpid() % 250}.0/24")
        self.address = str(self.network.broadcast_address - 1)
        folder.mkdir(parents=True)
        if shared:
            (folder / "shared").mkdir()
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        (folder / "passwd").write_text(USERS)
        self.nodes: list[Node] = []

    def __enter__(self) -> Lab:
        _remove_abandoned()
        _run("ip", "link", "add", self.bridge, "type", "bridge")
        _run("ip", "addr", "add", f"{self.address}/{self.network.prefixlen}", "dev", self.bridge)
        _run("ip", "link", "set", self.bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()
        _run("ip", "link", "del", self.bridge)

    def node(self, name: str, address: str | None = None, login: str | None = None) -> Node:
        """A new machine, switched on.

        Args:
            name: its host name.
            address: in the lab's network; without, one is chosen.
            login: the public key that is let in as root; without, that of the lab's key.
        """
        number = len(self.nodes)
        address = address or str(self.network.network_address + 10 + number)
        login = login or Path(f"{self.key}.pub").read_text().strip()
        node = Node(self, number, name, address, login)
        self.nodes.append(node)
        node.start()
        return node
