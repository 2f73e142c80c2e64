"""The persistent compilation cache: on by default for every command."""

import os
import pathlib

import jax


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder.

    `JAX_COMPILATION_CACHE_DIR` names another folder; set empty, it turns the cache off.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(home / "rl_jax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
