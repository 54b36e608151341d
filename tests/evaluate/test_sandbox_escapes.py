"""Programs that try to get out: each is stopped with its cause, or finds nothing; the host, looked at from outside, is
as it was."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandboxing import LINUX, indented, run

from ingot.evaluate.sandbox.guest.syscalls import numbers
from ingot.evaluate.sandbox.pool import Pool

pytestmark = LINUX

SECRET = "the host's secret"


class Host:
    """Things of the host that a program could reach for, and what they look like afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "secret.txt").write_text(SECRET)
        folder.chmod(0o777)
        self.sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.name = f"\0ingot-test-{os.getpid()}"
        self.abstract.bind(self.name)
        self.abstract.listen()
        self.came: list[str] = []
        for one, label in ((self.listener, "tcp"), (self.abstract, "unix")):
            threading.Thread(target=self._count, args=(one, label), daemon=True).start()

    def _count(self, listener: socket.socket, label: str) -> None:
        try:
            while True:
                listener.accept()
                self.came.append(label)
        except OSError:
            return

    @property
    def places(self) -> dict[str, object]:
        return {"folder": str(self.folder), "port": self.listener.getsockname()[1], "abstract": self.name,
                "sleeper": self.sleeper.pid, "host": os.getpid(), "home": str(Path.home()),
                "tgkill": numbers(platform.machine())["tgkill"]}  # fmt: skip

    def state(self) -> object:
        """All that must not change."""
        files = sorted((str(path), path.read_text()) for path in self.folder.iterdir())
        shared = sorted(os.listdir("/dev/shm")), Path("/proc/sysvipc/shm").read_text().count("\n")
        limits = Path("/proc/self/limits").read_text()
        mounts = Path("/proc/self/mounts").read_text()
        return files, shared, limits, mounts, self.sleeper.poll(), self.came, socket.gethostname(), os.getcwd()

    def close(self) -> None:
        self.sleeper.kill()
        self.sleeper.wait()
        for one in (self.listener, self.abstract):
            one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    found = Host(tmp_path_factory.mktemp("host"))
    os.environ["INGOT_TEST_SECRET"] = SECRET
    yield found
    del os.environ["INGOT_TEST_SECRET"]
    found.close()


@pytest.fixture(scope="module", params=["full", "partial"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """All walls; then those of a machine without namespaces, where the filter and Landlock must do."""
    without = ["user", "mount", "net", "ipc", "uts", "pid"] if request.param == "partial" else []
    with Pool(1, without=without) as found:
        missing = {name: why for name, why in found.protection.mechanisms.items() if why is not None}
        if request.param == "full" and {"user", "mount", "net", "pid"} & missing.keys():
            pytest.skip(f"this machine gives no namespaces: {missing}")
        assert found.protection.level == request.param, missing
        yield found


BLOCKED = {
    "connect by TCP": ("import socket\nsocket.create_connection(('127.0.0.1', PORT))", "socket"),
    "connect by UDP": ("import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "socket"),
    "ask for a name": ("import socket\nsocket.getaddrinfo('example.com', 80)", "socket"),
    "abstract socket": ("import socket\nsocket.socket(socket.AF_UNIX).connect(ABSTRACT)", "socket"),
    "raw socket": ("import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "socket"),
    "packet socket": ("import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "socket"),
    "netlink": ("import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "socket"),
    "pair of another family": ("import socket\nsocket.socketpair(socket.AF_INET)", "socketpair"),
    "urlopen": ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:%d' % PORT)", "socket"),
    "fork": ("import os\nos.fork()", "clone"),
    "fork bomb": ("import os\nwhile True:\n    os.fork()", "clone"),
    "pool of processes": ("import multiprocessing\nmultiprocessing.Process(target=print).start()", None),
    "run a shell": ("import os\nos.system('id')", None),
    "subprocess": ("import subprocess\nsubprocess.run(['/bin/true'])", None),
    "replace itself": ("import os\nos.execv('/bin/sh', ['sh'])", "execve"),
    "posix_spawn": ("import os\nos.posix_spawn('/bin/true', ['true'], {})", None),
    "kill the parent": ("import os\nos.kill(os.getppid(), 9)", "kill"),
    "kill all": ("import os\nos.kill(-1, 9)", "kill"),
    "kill its group": ("import os\nos.killpg(0, 9)", "kill"),
    "kill a process of the host": ("import os\nos.kill(SLEEPER, 9)", "kill"),
    "kill a thread of the host": ("import ctypes\nctypes.CDLL(None).syscall(TGKILL, SLEEPER, SLEEPER, 9)", "tgkill"),
    "kill by a pipe": ("import fcntl, os\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, SLEEPER)", "fcntl"),
    "kill by a pipe's signal": ("import fcntl, os\nfcntl.fcntl(os.pipe()[0], 10, 9)", "fcntl"),
    "become root": ("import os\nos.setuid(0)", "setuid"),
    "join groups": ("import os\nos.setgroups([0])", "setgroups"),
    "make a device": ("import os\nos.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))", None),
    "another root": ("import os\nos.chroot('/tmp')", "chroot"),
    "the host's name": ("import socket\nsocket.sethostname('mine')", "sethostname"),
    "set the clock": ("import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)", "clock_settime"),
    "limits of another": ("import resource\nresource.prlimit(HOST, resource.RLIMIT_NOFILE, (1, 1))", "prlimit64"),
    "anonymous file": ("import os\nos.memfd_create('x')", "memfd_create"),
    "shared memory": ("import ctypes\nctypes.CDLL(None).shmget(1, 4096, 0o1600)", "shmget"),
    "32 bit calls": ("import ctypes\nctypes.CDLL(None).syscall(0x40000000 + 41, 2, 1, 0)", None),
}  # fmt: skip
RAW = """
ptrace process_vm_readv process_vm_writev mount umount2 pivot_root unshare setns io_uring_setup bpf perf_event_open
keyctl add_key request_key userfaultfd init_module finit_module delete_module kexec_load reboot swapon acct
open_by_handle_at name_to_handle_at pidfd_open pidfd_getfd pidfd_send_signal seccomp landlock_create_ruleset personality
syslog quotactl move_mount fsopen open_tree msgget semget mq_open socket connect bind listen accept4 kcmp tkill vhangup
move_pages migrate_pages mbind set_mempolicy process_madvise fanotify_init lookup_dcookie settimeofday adjtimex capset
""".split()  # noqa: SIM905


def placed(source: str, host: Host) -> str:
    return "".join(f"{name.upper()} = {value!r}\n" for name, value in host.places.items()) + source


@pytest.mark.parametrize("name", BLOCKED)
def test_what_is_forbidden_is_blocked(pool: Pool, host: Host, name: str) -> None:
    body, cause = BLOCKED[name]
    before = host.state()
    outcome = run(pool, placed(indented(body), host))
    assert outcome.verdict == "blocked", outcome
    assert cause is None or outcome.cause == cause
    assert host.state() == before


@pytest.mark.parametrize("name", [name for name in RAW if name in numbers(platform.machine())])
def test_calls_past_the_library_are_blocked_by_name(pool: Pool, host: Host, name: str) -> None:
    before = host.state()
    number = numbers(platform.machine())[name]
    outcome = run(pool, indented(f"import ctypes\nctypes.CDLL(None).syscall({number}, 0, 0, 0, 0, 0)"))
    assert (outcome.verdict, outcome.cause) == ("blocked", name)
    assert host.state() == before


HARMLESS = {
    "the host's file": "try:\n    return open(FOLDER + '/secret.txt').read()\nexcept OSError:\n    return None",
    "shadow": "try:\n    return open('/etc/shadow').read()\nexcept OSError:\n    return None",
    "passwd": "try:\n    return open('/etc/passwd').read()\nexcept OSError:\n    return None",
    "the home": "import os\ntry:\n    return os.listdir(HOME)\nexcept OSError:\n    return None",
    "the home's keys": "try:\n    return open(HOME + '/.ssh/id_rsa').read()\nexcept OSError:\n    return None",
    "its environment": "import os\nreturn dict(os.environ) or None",
    "environment in memory": "import ctypes\nget = ctypes.CDLL(None).getenv\nget.restype = ctypes.c_char_p\n"
    "return get(b'INGOT_TEST_SECRET')",
    "environments of others": "for pid in (1, 'self', HOST, 'thread-self'):\n    try:\n"
    "        return open(f'/proc/{pid}/environ').read()\n    except OSError:\n        pass\nreturn None",
    "its memory's map": "try:\n    return open('/proc/self/maps').read()\nexcept OSError:\n    return None",
    "a root elsewhere": "import os\ntry:\n    return os.listdir('/proc/self/root')\nexcept OSError:\n    return None",
    "the kernel's files": "import os\ntry:\n    return os.listdir('/sys')\nexcept OSError:\n    return None",
    "write beside the "
    "secret": "try:\n    open(FOLDER + '/new', 'w')\n    return 'written'\nexcept OSError:\n    return None",
    "write over the "
    "secret": "try:\n    open(FOLDER + '/secret.txt', 'w')\n    return 'written'\nexcept OSError:\n    return None",
    "write to the root": "try:\n    open('/new', 'w')\n    return 'written'\nexcept OSError:\n    return None",
    "write to "
    "Python": "import os\ntry:\n    open(os.__file__, 'a')\n    return 'written'\nexcept OSError:\n    return None",
    "remove "
    "Python": "import os\ntry:\n    os.remove(os.__file__)\n    return 'gone'\nexcept OSError:\n    return None",
    "a symbolic link "
    "out": "import os\nos.symlink(FOLDER + '/secret.txt', 'link')\ntry:\n    return open('link').read()\n"
    "except OSError:\n    return None",
    "a hard link out": "import os\ntry:\n    os.link(FOLDER + '/secret.txt', 'link')\n    return 'linked'\n"
    "except OSError:\n    return None",
    "climb": "import os\ntry:\n    return open('../' * 30 + FOLDER + '/secret.txt').read()\nexcept OSError:\n"
        "    return None",
    "move the "
    "secret": "import os\ntry:\n    os.rename(FOLDER + '/secret.txt', FOLDER + '/taken')\n    return 'moved'\n"
    "except OSError:\n    return None",
    "shared memory by "
    "file": "try:\n    open('/dev/shm/x', 'w')\n    return 'written'\nexcept OSError:\n    return None",
    "10 GB of "
    "file": "try:\n    with open('big', 'wb') as file:\n        while True:\n"
        "            file.write(b'0' * (1 << 20))\n"
    "except OSError as error:\n    import errno\n"
    "    return None if error.errno in (errno.EFBIG, errno.ENOSPC) else error.errno",
    "descriptors left "
    "open": "import os\nopen_ = []\nfor number in range(4, 256):\n    try:\n        os.fstat(number)\n"
    "        open_.append(number)\n    except OSError:\n        pass\nreturn open_ or None",
    "higher "
    "limits": "import resource\ntry:\n    resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))\n"
        "    return 'raised'\n"
    "except (ValueError, OSError):\n    return None",
    "type to the "
    "terminal": "import fcntl\ntry:\n    fcntl.ioctl(1, 0x5412, b'x')\n    return 'typed'\nexcept OSError:\n"
        "    return None",
    "threads without end": "import threading\nstarted = 0\ntry:\n    while started < 500:\n"
    "        threading.Thread(target=threading.Event().wait, daemon=True).start()\n        started += 1\n"
    "except (RuntimeError, MemoryError):\n    return None\nreturn started",
    "packages of the "
    "host": "try:\n    import pydantic\n    return pydantic.__file__\nexcept ImportError:\n    return None",
    "read the input": "import sys\nreturn sys.stdin.read() or None",
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_out_of_reach_is_not_there(pool: Pool, host: Host, name: str) -> None:
    before = host.state()
    outcome = run(pool, placed(indented(HARMLESS[name]), host))
    assert outcome.verdict == "passed", outcome
    assert host.state() == before


def test_memory_without_end(pool: Pool, host: Host) -> None:
    before = host.state()
    assert run(pool, indented("return bytearray(10 << 30)")).verdict == "memory"
    assert run(pool, indented("kept = []\nwhile True:\n    kept.append(bytes(1 << 20))")).verdict == "memory"
    assert host.state() == before


def test_a_crash_leaves_no_core(pool: Pool, host: Host) -> None:
    before = host.state()
    for body in ("import os\nos.abort()", "import ctypes\nctypes.string_at(0)"):
        outcome = run(pool, indented(body))
        assert (outcome.verdict, outcome.cause[:8]) == ("error", "crashed:")
    assert host.state() == before
    assert not [name for name in os.listdir(host.folder) if "core" in name]


def test_one_program_leaves_nothing_for_the_next(pool: Pool) -> None:
    assert run(pool, indented("open('note', 'w').write('here')\nimport math\nmath.pi = 3")).verdict == "passed"
    body = "import os, math\nreturn os.listdir('.') or ('note' if os.path.exists('/tmp/note') else None)"
    assert run(pool, indented(body)).verdict == "passed"
    assert run(pool, indented("import math\nreturn math.pi"), "assert found() > 3.14").verdict == "passed"
