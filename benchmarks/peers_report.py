"""The table and the plot of `peers.py`."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any


def print_tables(results: dict[str, Any]) -> None:
    """Markdown: one table of peers and one of OpenVINO alone, for every shape."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    print(f"{machine['processor']}, {machine['cores']} cores; {versions}\n")
    for shape, found in results["shapes"].items():
        base, orders = _reference(found["peers"])
        print(f"| {shape} | seconds | fastest to slowest | speed | order as the first's (Kendall's tau) |")
        print("|---|---|---|---|---|")
        for name, peer in found["peers"].items():
            if "error" in peer:
                print(f"| {name} | | | | {peer['error'].replace('|', '/')} |")
                continue
            median, low, high = statistics.median(peer["seconds"]), min(peer["seconds"]), max(peer["seconds"])
            same = statistics.fmean(_tau(mine, theirs) for mine, theirs in zip(peer["orders"], orders, strict=False))
            print(f"| {name} | {median:.3g} | {low:.3g}-{high:.3g} | {base / median:.2f}x | {same:.3f} |")
        if found["bare"]:
            print(f"\n| {shape} | ours / OpenVINO alone | G operations a second | of the machine's peak | padding |")
            print("|---|---|---|---|---|")
        for precision, bare in found["bare"].items():
            if "error" in bare:
                print(f"| {precision} | {bare['error']} | | | |")
                continue
            ratio = statistics.median(a / b for a, b in zip(bare["ours"], bare["bare"], strict=True))
            speed, share = bare["operations_a_second"] / 1e9, bare["operations_a_second"] / bare["peak"]
            padding = 1 - bare["tokens"] / bare["padded_tokens"]
            print(
                f"| {precision} | {ratio:.3f} | {speed:.0f} | {share:.0%} of {bare['peak'] / 1e9:.0f} | {padding:.1%} |"
            )
        print()


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of speed against the first peer, a panel a shape."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shapes = results["shapes"]
    rows = max(len(found["peers"]) for found in shapes.values())
    figure, panels = plt.subplots(1, len(shapes), figsize=(5.5 + 3 * len(shapes), 1 + 0.33 * rows), sharey=True)
    for panel, (shape, found) in zip(panels if len(shapes) > 1 else [panels], shapes.items(), strict=True):
        base, _ = _reference(found["peers"])
        names = list(found["peers"])
        for place, peer in enumerate(found["peers"].values()):
            if "error" in peer:
                panel.text(0.1, place, "cannot run here", va="center", fontsize=8, color="gray")
                continue
            factors = [base / seconds for seconds in peer["seconds"]]
            factor = base / statistics.median(peer["seconds"])
            panel.barh(place, factor, color="tab:blue" if names[place].startswith("ours") else "tab:gray")
            panel.plot([min(factors), max(factors)], [place, place], color="black", linewidth=1)
            panel.text(max(factors), place, f"  {factor:.1f}x", va="center", fontsize=8)
        panel.set_yticks(range(len(names)), names, fontsize=8)
        panel.set_title(shape, fontsize=10)
        panel.margins(x=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    (panels[0] if len(shapes) > 1 else panels).invert_yaxis()
    machine = results["machine"]
    figure.suptitle(
        f"Speed against sentence-transformers fp32, 50 passages\n{machine['processor']}, {machine['cores']} cores; "
        f"lines from slowest to fastest round",
        fontsize=9,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def _reference(peers: dict[str, Any]) -> tuple[float, list[list[int]]]:
    # The first that ran: sentence-transformers, unless that failed.
    first = next(peer for peer in peers.values() if "error" not in peer)
    return statistics.median(first["seconds"]), first["orders"]


def _tau(first: list[int], second: list[int]) -> float:
    from scipy.stats import kendalltau

    places = [{at: place for place, at in enumerate(order)} for order in (first, second)]
    return float(kendalltau([places[0][at] for at in first], [places[1][at] for at in first]).statistic)
