"""Results as files: NAME.json holds everything; NAME.md and NAME.png are made from it.

python -m profiling.results [FOLDER...]     makes tables and plots once more
"""

import datetime
import importlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence

from profiling import machine
from rl_jax import files

ROOT = pathlib.Path(__file__).parent / "results"

COLOURS = ("#0072b2", "#d55e00", "#008a64", "#b85c94", "#c98500", "#3a9fdc", "#66707b")
STYLE = {
    "figure.facecolor": "white",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3ad",
    "axes.grid": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.color": "#e6e9ec",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.color": "#59626d",
    "ytick.color": "#59626d",
}


def new(benchmark: str, **settings) -> dict:
    """An empty result: the machine, the date, the settings, no rows yet."""
    now = datetime.datetime.now(datetime.UTC)
    load, notes = machine.load(), []
    if load > 0.75 * machine.cores():
        notes.append(
            f"The machine was not quiet: load average {load:.1f} at the start. Times "
            "are upper bounds, and PyTorch's suffer most: its threads wait in turn."
        )
    return {
        "benchmark": benchmark,
        "date": now.isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "settings": settings,
        "load_average": load,
        "notes": notes,
        "rows": [],
    }


def folder(out: pathlib.Path | None) -> pathlib.Path:
    """Where results go: what was asked for, else this device's own folder."""
    return ROOT / machine.slug() if out is None else out


def save(result: dict, out: pathlib.Path) -> pathlib.Path:
    """Writes NAME.json; a reader never sees half of it."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{result['benchmark']}.json"
    files.write_text(path, json.dumps(result, indent=1) + "\n")
    return path


def finish(result: dict, out: pathlib.Path) -> None:
    """Writes all files and prints the table."""
    path = save(result, out)
    print(render(path))
    print(f"written: {path} and beside it .md, .png")


def render(path: pathlib.Path) -> str:
    """Writes the table and the plot of one JSON file; returns the table."""
    result = json.loads(path.read_text())
    module = importlib.import_module(f"profiling.{result['benchmark']}")
    text = page(result, module.TITLE, module.tables(result))
    path.with_suffix(".md").write_text(text)
    draw(result, module.plot, path.with_suffix(".png"))
    return text


def page(result: dict, title: str, tables: Iterable[str]) -> str:
    """The Markdown page: title, where and when, tables, notes."""
    head = f"# {title}\n\n{machine.sentence(result['machine'])}; {result['date'][:10]}."
    notes = "\n".join(f"- {note}" for note in result["notes"])
    made = f"Made from `{result['benchmark']}.json` by `python -m profiling.results`."
    return "\n\n".join(part for part in (head, *tables, notes, made) if part) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence], *, text: int = 1) -> str:
    """A Markdown table; the first `text` columns are left-aligned, numbers right."""
    cells = [list(header), *([str(c) for c in row] for row in rows)]
    width = [max(3, *(len(row[k]) for row in cells)) for k in range(len(header))]
    rule = ["-" * w if k < text else "-" * (w - 1) + ":" for k, w in enumerate(width)]

    def line(row):
        padded = (
            cell.ljust(w) if k < text else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, width, strict=True))
        )
        return "| " + " | ".join(padded) + " |"

    return "\n".join(line(row) for row in (cells[0], rule, *cells[1:]))


def significant(x: float | None, digits: int = 3) -> str:
    """A number with that many digits and no exponent; "–" for None."""
    if x is None:
        return "–"
    if x == 0:
        return "0"
    text = f"{x:.{digits}g}"
    return f"{float(text):,.0f}" if abs(x) >= 10**digits or "e+" in text else text


def milliseconds(seconds: float | None) -> str:
    """Seconds as ms with three digits."""
    return significant(None if seconds is None else 1e3 * seconds)


def mebibytes(size: float | None) -> str:
    """Bytes as MiB with three digits."""
    return significant(None if size is None else size / 2**20)


def size_text(size: float | None) -> str:
    """Bytes as 5.01 M, 1.03 G or 16.0 T: MiB, GiB, TiB."""
    if size is None:
        return "–"
    for power, unit in ((40, "T"), (30, "G")):
        if size >= 2**power:
            return f"{significant(size / 2**power)} {unit}"
    return f"{significant(size / 2**20)} M"


def draw(result: dict, plot: Callable, path: pathlib.Path) -> None:
    """Draws `plot(figure, result)` into a PNG; says so where there is no matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
        return
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
        plot(figure, result)
        figure.savefig(path)


def sizes_axis(axis, sizes: Iterable[int]) -> None:
    """A logarithmic axis, a tick at each size, named 2k, 64k, 1M where there is room.

    The largest has its name; others have one that lie an eighth of the range away.
    """
    sizes = sorted(set(sizes))
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    apart = (sizes[-1] / sizes[0]) ** (1 / 8)
    names, last = [], float("inf")
    for size in reversed(sizes):
        named = size * apart <= last
        names.append(size_name(size) if named else "")
        last = size if named else last
    axis.set_ticks(sizes, names[::-1])
    axis.set_ticks([], minor=True)


def decades(axis) -> None:
    """A logarithmic axis labelled at 1, 2 and 5 of each power of ten."""
    from matplotlib.ticker import LogLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:,g}")
    axis.set_ticks([], minor=True)


def size_name(n: int) -> str:
    """2048 as 2k, 1048576 as 1M; others as they are."""
    for unit, text in ((2**20, "M"), (2**10, "k")):
        if n % unit == 0:
            return f"{n // unit}{text}"
    return str(n)


def main(argv: Sequence[str] | None = None) -> None:
    """Renders every result in the folders named, or in all."""
    folders = [pathlib.Path(a) for a in (sys.argv[1:] if argv is None else argv)]
    for where in folders or sorted(ROOT.glob("*")):
        for path in sorted(where.glob("*.json")):
            render(path)
            print(path.with_suffix(".md"))


if __name__ == "__main__":
    main()
