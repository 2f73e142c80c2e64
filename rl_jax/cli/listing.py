"""`rl-jax runs`: which runs there are, how far they are, and how good."""

import json as jsons
import pathlib
from collections.abc import Sequence
from typing import Annotated

import tyro

from rl_jax.cli import options
from rl_jax.errors import UsageError


def runs(argv: Sequence[str]) -> None:
    """Lists the runs of a folder."""

    def command(
        folder: Annotated[pathlib.Path, tyro.conf.Positional] = pathlib.Path("runs"),
        json: bool = False,
    ) -> None:
        """Prints a table of the runs in a folder, the newest last.

        Status: running (of other hosts where the file system tells); done; stopped,
        which `resume` continues; not finite, ended by a NaN; nothing saved; unreadable,
        with the reason. Accuracies are those of h with all labels, where a run was
        evaluated.

        Args:
          folder: of the runs, or of one; those two folders deeper are listed, too.
          json: print the rows as JSON, with all that is known of them.
        """
        from rl_jax.report import listing, listing_text

        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise UsageError(
                f"runs: {folder} {what}; expected a folder with runs, as `rl-jax "
                "pretrain` makes them in runs/"
            )
        found = listing.runs(folder)
        if json:
            print(jsons.dumps(listing_text.content(found), indent=1))
        elif found:
            print(listing_text.table(found))
        else:
            print(f"no run in {folder}; rl-jax pretrain makes one")

    options.parse(command, prog="rl-jax runs", argv=argv)
