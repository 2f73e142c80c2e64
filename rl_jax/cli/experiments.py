"""`rl-jax experiments`: the claims of the text, computed; they are in a checkout."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from rl_jax.errors import UsageError

ROOT = pathlib.Path(__file__).parents[2]


def experiments(argv: Sequence[str]) -> None:
    """Runs them in a process of their own; its exit code is the command's."""
    if not (ROOT / "experiments" / "__main__.py").exists():
        raise UsageError(
            "experiments: there is no folder experiments/ beside the package; they "
            "are in a checkout of the repository, not in the wheel"
        )
    code = _run(argv)
    if code:
        sys.exit(code)


def _run(argv: Sequence[str]) -> int:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", "experiments", *argv]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # It got the signal too and says so; how it ends then is no matter.
            process.wait()
            return 130
    return code if code >= 0 else 128 - code
