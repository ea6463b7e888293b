"""Writes the manual pages and the shells' completions of ``meshnet`` below a directory.

    python packaging/share.py DIRECTORY

Both are made from the command itself: by click-man, and by click. Dates are those of the sources
(SOURCE_DATE_EPOCH), so the same sources give the same files.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

from click.shell_completion import get_completion_class
from click_man.core import write_man_pages

from meshnet_control.cli.main import meshnet

NAME = "meshnet"
COMPLETIONS = {
    "bash": "bash-completion/completions/meshnet",
    "zsh": "zsh/site-functions/_meshnet",
    "fish": "fish/vendor_completions.d/meshnet.fish",
}


def main(share: Path) -> None:
    """Write all of them; what is there is written over."""
    pages = share / "man" / "man1"
    pages.mkdir(parents=True, exist_ok=True)
    when = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    write_man_pages(
        NAME, meshnet.loaded(), version=version(NAME), target_dir=str(pages),
        date=time.strftime("%Y-%m-%d", when),
    )  # fmt: skip
    for shell, path in COMPLETIONS.items():
        made = get_completion_class(shell)
        if made is None:
            raise SystemExit(f"click knows no completion for {shell}")
        (share / path).parent.mkdir(parents=True, exist_ok=True)
        complete = made(meshnet, {}, NAME, f"_{NAME.upper()}_COMPLETE")
        # Not source(): that asks which bash is here, and the script is for other hosts.
        (share / path).write_text(complete.source_template % complete.source_vars())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
