"""The size of a core install (without torch) in a new virtual environment, pip included. Target: <= 190 MB."""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from measure import calibration, report


def main() -> None:
    root = Path(__file__).parent.parent
    start = calibration()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "venv"
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        install = [python, "-m", "pip", "install", "-q", root]
        subprocess.run([str(word) for word in install], check=True, stdout=sys.stderr)
        sizes: dict[str, int] = {}
        for file in folder.rglob("*"):
            if file.is_file() and not file.is_symlink():
                parts = file.relative_to(folder).parts
                name = parts[parts.index("site-packages") + 1] if "site-packages" in parts else parts[0]
                sizes[name] = sizes.get(name, 0) + file.stat().st_size
        subprocess.run(
            [str(folder / "bin" / "manako"), "watch", "私は", "-n", "1"], check=True, stdout=subprocess.DEVNULL
        )
    largest = dict(sorted(sizes.items(), key=lambda item: -item[1])[:12])
    megabytes = {name: round(size / 1e6, 1) for name, size in largest.items()}
    report("install", "<= 190 MB", start, megabytes=sum(sizes.values()) / 1e6, largest=megabytes)


if __name__ == "__main__":
    main()
