from __future__ import annotations

import subprocess
import sys


def run_python(code: str) -> str:
    """What ``code`` prints in a Python of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr
    return done.stdout.strip()
