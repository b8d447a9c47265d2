"""Compare wsgi_oauth with its peers: install their current versions into an environment of its own, and measure.

The environment is kept in the user's cache folder. Nothing else is installed. Apache with mod_auth_openidc and nginx
are compared if they are installed (Debian: apache2, libapache2-mod-auth-openidc, nginx).
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def main() -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsgi_oauth"
    folder = cache / f"peers-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"creating {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True)
    requirements = Path(__file__).with_name("requirements.txt")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    subprocess.run([*install, "--requirement", requirements, "--editable", f"{ROOT}[redis,sealed]"], check=True)
    # The peers would be measured with the tools of this environment, but only with their own packages.
    raise SystemExit(subprocess.call([python, "-m", "benchmarks.peers.compare", *sys.argv[1:]], cwd=ROOT))


if __name__ == "__main__":
    main()
