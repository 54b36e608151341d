"""Programs that try the walls before anything else runs: each must be blocked, or find nothing and say so."""

from __future__ import annotations

from ingot.evaluate.sandbox.program import Program

_FILES = """
def found():
    seen = []
    for path in ("/etc/passwd", "/proc/self/environ", "/root", "/home", "/var", "/sys/kernel", "/usr/bin"):
        try:
            open(path).close()
            seen.append(path)
        except IsADirectoryError:
            import os
            try:
                seen.extend(os.listdir(path))
            except OSError:
                pass
        except OSError:
            pass
    return seen
"""
_WRITES = """
def found():
    seen = []
    for path in ("/written", "/dev/shm/written", "/var/tmp/written", "/etc/written", "/run/written", "/proc/written"):
        try:
            open(path, "w").close()
            seen.append(path)
        except OSError:
            pass
    return seen
"""
_SOCKET = "import socket\ndef found():\n    socket.socket(socket.AF_INET, socket.SOCK_STREAM)\n    return ['socket']\n"
_FORK = "import os\ndef found():\n    os._exit(0) if os.fork() == 0 else None\n    return ['fork']\n"
_EXEC = "import subprocess\ndef found():\n    return [subprocess.run(['/bin/true']).returncode]\n"
_TRACE = "import ctypes\ndef found():\n    ctypes.CDLL(None).ptrace(0, 0, 0, 0)\n    return ['ptrace']\n"
_USER = "import ctypes\ndef found():\n    return ['unshare'] * (ctypes.CDLL(None).unshare(0x10000000) == 0)\n"

PROBES = {
    name: Program(source, "assert found() == []", ("found",))
    for name, source in {
        "begin": "def found():\n    return []\n",
        "read files": _FILES,
        "write files": _WRITES,
        "connect": _SOCKET,
        "fork": _FORK,
        "execute": _EXEC,
        "trace": _TRACE,
        "become a user": _USER,
    }.items()
}
