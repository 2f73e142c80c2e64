"""An evaluation as text: the table, then a paragraph for each section."""

from typing import Any

from rl_jax.run.measures import DRAWS


def table(result: dict[str, Any]) -> str:
    """The table of an evaluation as text, a line a representation."""
    if result["reason"]:
        rank = ", ".join(
            f"{name}: RankMe {g['rank_me']:.1f} of {g['dim']}, std {g['std']:.2f}"
            for name, g in result["geometry"].items()
        )
        rest = [*result.get("said", ()), *_held_out(result), *_notes(result)]
        return "\n".join([result["reason"], rank, result["verdict"], *rest])
    shares = result["labels_per_class"]
    head = ["accuracy"]
    head += [f"{kind} {share}" for kind in ("probe", "k-NN") for share in shares]
    rows = [head]
    for row in result["table"]:
        cells = [
            _cell(row[kind][share]) for kind in ("probe", "knn") for share in shares
        ]
        rows.append([f"{row['title']} [{row['dim']}]", *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    lines += ["", _caption(result), *result.get("said", ())]
    lines += [*_held_out(result), *_notes(result)]
    return "\n".join(lines)


def _held_out(result: dict[str, Any]) -> list[str]:
    found = ", ".join(f"{k} {v:.4g}" for k, v in result.get("held_out", {}).items())
    how = "with the views and batch statistics of training"
    return [f"its own task on scored examples, {how}: {found}"] if found else []


def _notes(result: dict[str, Any]) -> list[str]:
    return [f"note: {note}" for note in result.get("notes", ())]


def _cell(entry: dict[str, Any]) -> str:
    spread = "" if entry["std"] is None else f" ±{entry['std']:.3f}"
    return f"{entry['mean']:.3f}{spread}"


def _caption(result: dict[str, Any]) -> str:
    shares = ", ".join(result["labels_per_class"])
    parts = " (% of them)" if "%" in shares else ""
    with_labels = "with its labels" in result.get("evaluated", "")
    seen = ", which training has seen with their labels" if with_labels else ""
    return (
        f"probe: multinomial logistic regression; k-NN: cosine, weighted; {shares} "
        f"labels per class{parts}, mean ± std over {DRAWS} draws; "
        f"{result['train_images']} images to learn from, "
        f"{result['test_images']} to score{seen}"
    )


def sections(result: dict[str, Any]) -> str:
    """The sections of an evaluation as text, a line a number."""
    out = []
    for section in result.get("sections", {}).values():
        out += ["", section["title"], *(f"  {line}" for line in section["lines"])]
    return "\n".join(out[1:])
