"""Memory of loss and gradient, as the compiler plans it; nothing is run.

    python -m profiling.memory [--quick] [--views N ...] [--dim D]

For N = 2B from 1k to 2M: temporary, argument and output bytes of the jitted value and
gradient by both views [B, D], dense and streaming, on one device and on each of eight.
From 4k rows of a device on a line temp = a·N·D + b is fitted to what streams, temp =
a·N² + b to what is dense.
"""

import contextlib
import os
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from profiling import arguments, contenders, results

TITLE = "Memory of loss and gradient, planned by the compiler"
DEVICES = 8
TEMPERATURE = 0.1
SIZES = tuple(2**k for k in range(10, 22))
QUICK = tuple(2**k for k in range(10, 17))
FIT_FROM = 4096

LOSSES = {
    "NT-Xent": {
        "dense": lambda: contenders.dense_nt_xent(TEMPERATURE),
        "streaming": lambda: contenders.nt_xent(TEMPERATURE),
        "half ring": lambda: contenders.nt_xent(TEMPERATURE, implementation="ring"),
    },
    "InfoNCE": {"streaming": lambda: contenders.info_nce(TEMPERATURE)},
    "CLIP": {
        "dense": lambda: contenders.dense_clip(TEMPERATURE),
        "streaming": lambda: contenders.clip(TEMPERATURE),
    },
}


def main(argv: Sequence[str] | None = None) -> None:
    """Compiles, fits, writes."""
    parser = arguments.Parser("memory", __doc__.split("\n")[0])
    parser.add_quick()
    parser.add_sizes("--views", f"N; default {SIZES[0]} to {SIZES[-1]}, doubling")
    parser.add_argument("--dim", type=arguments.positive, default=128, metavar="D")
    chosen = parser.parse_args(argv)
    views = sorted(set(chosen.views or (QUICK if chosen.quick else SIZES)))
    if any(n % (2 * DEVICES) for n in views):
        parser.error(f"--views must be multiples of {2 * DEVICES}, got {views}")
    _ask_for_devices()
    result = results.new(
        "memory", views=views, dim=chosen.dim, temperature=TEMPERATURE, dtype="float32"
    )
    measure(result, views, chosen.dim)
    result["fits"] = fits(result["rows"], chosen.dim)
    results.finish(result, results.folder(chosen.out))


def _ask_for_devices() -> None:
    """Eight virtual devices on CPU; jax reads this when it first looks for devices."""
    flag = "--xla_force_host_platform_device_count"
    given = os.environ.get("XLA_FLAGS", "")
    if flag not in given:
        os.environ["XLA_FLAGS"] = f"{given} {flag}={DEVICES}".strip()


def measure(result: dict, views: Sequence[int], dim: int) -> None:
    """Adds a row for each loss, path, number of devices and N."""
    counts = [1, DEVICES] if len(jax.devices()) >= DEVICES else [1]
    if len(counts) == 1:
        result["notes"].append(f"Fewer than {DEVICES} devices here: one device only.")
    for loss, paths in LOSSES.items():
        for path, make in paths.items():
            function = make()
            for devices in counts:
                if path == "half ring" and devices == 1:
                    continue
                for n in views:
                    found = compiled_bytes(function, n // 2, dim, devices)
                    row = {"loss": loss, "path": path, "devices": devices, "views": n}
                    result["rows"].append(row | found)
                print(f"{loss}, {path}, {devices} device(s)", file=sys.stderr)


def compiled_bytes(loss, pairs: int, dim: int, devices: int) -> dict:
    """What the compiled gradient needs on each device, and the time to compile it."""
    context, sharding = contextlib.nullcontext(), None
    if devices > 1:
        mesh = jax.make_mesh(
            (devices,),
            ("data",),
            devices=jax.devices()[:devices],
            axis_types=(AxisType.Auto,),
        )
        context = jax.set_mesh(mesh)
        sharding = NamedSharding(mesh, PartitionSpec("data"))
    view = jax.ShapeDtypeStruct((pairs, dim), jnp.float32, sharding=sharding)
    start = time.perf_counter()
    with context:
        compiled = contenders.value_and_grad(loss).lower(view, view).compile()
    sizes = compiled.memory_analysis()
    return {
        "temp_bytes": sizes.temp_size_in_bytes,
        "argument_bytes": sizes.argument_size_in_bytes,
        "output_bytes": sizes.output_size_in_bytes,
        "compile_seconds": round(time.perf_counter() - start, 3),
    }


def fits(rows: Sequence[dict], dim: int) -> list[dict]:
    """The line through each path's temporary bytes.

    From 4k rows of a device on: with fewer, what streams cuts a smaller tile.
    """
    out = []
    for key, group in _groups(rows).items():
        points = [r for r in group if r["views"] >= FIT_FROM * r["devices"]]
        if len(points) < 3:
            continue
        dense = key[1] == "dense"
        x = [r["views"] ** 2 if dense else r["views"] * dim for r in points]
        a, b, deviation = fit(x, [r["temp_bytes"] for r in points])
        out.append({
            "loss": key[0], "path": key[1], "devices": key[2],
            "per": "N²" if dense else "N·D", "a": a, "b": b, "deviation": deviation,
            "from": points[0]["views"], "to": points[-1]["views"],
        })  # fmt: skip
    return out


def fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Least squares of relative errors of y = a·x + b: (a, b, largest such error)."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    design = np.stack([x / y, 1 / y], axis=1)
    (a, b), *_ = np.linalg.lstsq(design, np.ones_like(y))
    deviation = np.abs((a * x + b) / y - 1).max()
    return float(a), float(b), float(deviation)


def tables(result: dict) -> list[str]:
    """Temporary MiB by N, and the fits."""
    groups = _groups(result["rows"])
    views = result["settings"]["views"]
    header = [
        "temporary MiB, GiB, TiB per device at N = 2B of",
        *map(results.size_name, views),
    ]
    rows = []
    for key, group in groups.items():
        by_views = {r["views"]: results.size_text(r["temp_bytes"]) for r in group}
        rows.append([_name(key), *(by_views[n] for n in views)])
    inputs = {r["views"]: r for r in next(iter(groups.values()))}
    for what in ("argument", "output"):
        sizes = [results.size_text(inputs[n][f"{what}_bytes"]) for n in views]
        rows.append([f"({what}s, 1 device)", *sizes])
    out = [results.table(header, rows)]
    if result["fits"]:
        out.append(
            "Fit of temp = a·(N·D) + b bytes, for dense paths a·N² + b, by least "
            "squares of relative errors:"
        )
        header = ["", "a (bytes)", "b (MiB)", "largest deviation", "N"]
        rows = [
            [
                _name((f["loss"], f["path"], f["devices"])),
                f"{f['a']:.3f} per {f['per']}",
                results.mebibytes(f["b"]),
                f"{100 * f['deviation']:.2f} %",
                f"{results.size_name(f['from'])}–{results.size_name(f['to'])}",
            ]
            for f in result["fits"]
        ]
        out.append(results.table(header, rows))
    return out


def plot(figure, result: dict) -> None:
    """Temporary bytes against N, one panel a loss."""
    groups = _groups(result["rows"])
    losses = list(dict.fromkeys(key[0] for key in groups))
    colour = dict(
        zip(("streaming", "dense", "half ring"), results.COLOURS, strict=False)
    )
    axes = figure.subplots(1, len(losses), sharey=True, squeeze=False)[0]
    for ax, loss in zip(axes, losses, strict=True):
        for key, group in groups.items():
            if key[0] != loss:
                continue
            ax.plot(
                [r["views"] for r in group],
                [r["temp_bytes"] / 2**20 for r in group],
                marker="o",
                color=colour[key[1]],
                linestyle="-" if key[2] == 1 else "--",
                label=_name(key[1:]),
            )
        ax.set(title=loss, xlabel="N = 2B", yscale="log")
        results.sizes_axis(ax.xaxis, result["settings"]["views"])
        ax.legend()
    dim = result["settings"]["dim"]
    axes[0].set_ylabel(f"temporary MiB per device, D = {dim}")


def _groups(rows: Sequence[dict]) -> dict[tuple, list[dict]]:
    out: dict[tuple, list[dict]] = {}
    for row in rows:
        out.setdefault((row["loss"], row["path"], row["devices"]), []).append(row)
    return out


def _name(key: tuple) -> str:
    *words, devices = key
    return f"{' '.join(words)}, {devices} device{'s' * (devices > 1)}"


if __name__ == "__main__":
    main()
