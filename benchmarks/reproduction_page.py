"""Write docs/reproduction.md and docs/results/ from the report that `halosign evaluate` wrote.

python -m benchmarks.reproduction_page REPORT_FOLDER

Every figure on the page is read from a CSV of the report and links to its line there. A table that the
report does not have stays as it is in docs/results/: parts of the experiments can be run apart.
"""

import csv
import io
import json
import shutil
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

from benchmarks.measure import PICTURES, command_line
from matting.learned.network import VARIANTS
from qc.evaluation.paper import TABLE_UNITS
from storage.cases.case import ALGORITHM_VERSION
from storage.results.checkpoints import network_label
from storage.results.scores import METRIC_NAMES
from tasks.experiments.feature_diagnosis import APART
from tasks.experiments.networks import TABLE_2_MASKS
from tasks.scoring.mattes import READERS_MEAN

DOCS = PICTURES.parent
RESULTS = DOCS / "results"
TABLES = (
    "left-out.csv",
    "figure-6.csv",
    "figure-6-differences.csv",
    "table-1.csv",
    "table-2-differences.csv",
)
UNTOLD = {network_label(variant, "told"): network_label(variant, "untold") for variant in VARIANTS}
"""Of each network the same whose matting head does not read the auxiliary masks."""
SECOND_TOLD, SECOND_UNTOLD = "3dmm-mg fbbe79", "3dmm-mg (untold) b6a1c5"
"""3DMM-MG trained with `training.seed` 2."""
NETWORKS = tuple(network_label(*pair) for pair in product(VARIANTS, TABLE_2_MASKS))
"""Those of Table 2; a store may have others, trained with other settings."""
DRAWN = ("left-out.png", "figure-6.png", "figure-9.png")
INTRODUCTION = """# Reproduction of the paper

The paper is Wang et al., *3D Matting* ([arXiv 2210.05104](https://arxiv.org/abs/2210.05104)). Its authors published
neither code nor data, so a value here may differ from theirs because of the nodules, the picked mattes, or the code. One
command computes everything on this page on two CPU cores, and resumes where it was interrupted:

```sh
halosign evaluate --release 0.2.0 --store ./store --out ./experiments               # readers left out, Table 1, Figure 6 by features
halosign evaluate --release 0.2.0 --store ./store --out ./experiments --train --recipe cpu    # networks of 1 mm voxels, on CPUs
halosign evaluate --release 0.2.0 --store ./store --out ./experiments --train       # the paper's setting: a GPU, days
```
"""
METHOD = """## Method

*Left-out reader.* Each of the four readers in turn is left out. Trimap and mattes are made from the other three, and compared
with the mask of the fourth over the voxels that a trimap of either form leaves unknown. Brier score: mean square of the difference,
averaged over readers, then nodules. Intervals are paired and draw patients. The parameters of the improved form were chosen with readers
left out as one of four criteria, on half of these patients; both halves apart are in [truth.md](truth.md).

*Figure 6 by features.* 27 features of size, shape, edge, histogram and texture of one input alone (`matting.diagnosis.features`), on
cubes of 48 mm at 1 mm; logistic regression and gradient boosting with fixed settings; five partitions into five folds by patient. Nodules with a mean
malignancy of 3 are left out. Differences of families are averaged over their inputs and seeds, with paired intervals by patient
(Obuchowski 1997). *+ volume*: every input is also given the nodule's volume; *+ HU*: also the features of *Union x HU*, the CT within the readers'
union. *Raters apart*: the first two of four readers outline, which trimap, mattes and all other inputs are made from, and the mean rating of
the other two is what is learned, since those who outline a nodule also rate it. The paper trains three convolutional networks instead.

*Table 1.* Partitions, fairness and units as in the paper: a nodule is excluded for the method that supplied its released matte, so rows are computed
on different nodules. What it does: a method that supplied the mattes most like its own loses just these. The released mattes are rows of the table
themselves, so it shows distances between methods, not which is right. MSE in 1e-3; the other three "scaled by 1e-2", which at these sizes
only fits sums divided by 1,000 before (our inference).
"""
OPEN = """## Cannot be tested here

- Figure 3 needs clinicians: `halosign review study` collects their verdicts. The left-out reader is a different question with
  a truth: what another radiologist marks.
- Tables 1 (3DMM), 2 and Figure 9 in the paper's setting need six networks trained for 300 epochs on crops of 96^3, on a GPU; those
  above are smaller in every respect but their layers. Parameters and multiply-adds are
  the paper's, but for 3DMM-mg's multiply-adds ([3dmm.md](3dmm.md), which also has a small training).
- Figure 6 on DenseNet-121, ResNet-34 and ResNet-50 needs the same.
- The paper's 864 nodules, and mattes that people picked.
"""


class Table:
    """A CSV of the report."""

    def __init__(self, folder: Path, name: str) -> None:
        """Read it; lines that begin with # are no rows."""
        text = (folder / name).read_text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        self.name = name
        self.rows = list(csv.DictReader(io.StringIO("\n".join(lines))))

    def link(self, text: str, **wanted: str) -> str:
        """Return a text that links to the line with these values."""
        number, _ = self._find(wanted)
        return f"[{text}](results/{self.name}#L{number})"

    def row(self, **wanted: str) -> dict[str, str]:
        """Return the row with these values."""
        return self._find(wanted)[1]

    def _find(self, wanted: dict[str, str]) -> tuple[int, dict[str, str]]:
        for number, row in enumerate(self.rows, start=2):
            if wanted.items() <= row.items():
                return number, row
        raise LookupError(f"{self.name} has no row with {wanted}")


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("report", type=Path, help="folder with report.html and its CSVs")
    report: Path = parser.parse_args().report
    RESULTS.mkdir(exist_ok=True)
    for name in TABLES:
        if (report / name).exists():
            shutil.copyfile(report / name, RESULTS / name)
    for name in DRAWN:
        if (report / "pictures" / name).exists():
            shutil.copyfile(report / "pictures" / name, PICTURES / f"reproduction-{name}")
    facts = json.loads((report / "facts.json").read_text())
    left_out, areas, differences, distances, networks = (Table(RESULTS, name) for name in TABLES)
    page = "\n".join(
        [
            INTRODUCTION,
            data(facts, areas, left_out),
            claims(left_out, areas, differences, networks),
            METHOD,
            left_out_tables(left_out),
            area_table(areas),
            difference_table(differences),
            difference_table(differences, raters_apart=True),
            distance_table(distances),
            network_table(networks),
            OPEN,
        ]
    )
    (DOCS / "reproduction.md").write_text(page)


def data(facts: dict[str, Any], areas: Table, left_out: Table) -> str:
    rated = areas.row(backbone="none")
    measured = left_out.rows[0]["nodules"]
    return f"""## Data

Measured with algorithm version {ALGORITHM_VERSION} on release {facts["release"]} of {facts["nodules"]} nodules of {facts["patients"]} patients of
LIDC-IDRI (real CT; crops around nodules, not the archive; the paper has 864 of 542), recipe `{facts["release_recipe"]}`, question *density*: the released mattes are
automatic picks among the four optimised forms. {rated["nodules"]} nodules are rated benign or malignant, {rated["malignant"]} of them malignant.
Readers were left out of {measured} nodules; of any other a method did not converge, whichever reader was left out.
"""


def claims(left_out: Table, areas: Table, differences: Table, networks: Table) -> str:
    def brier(matte: str) -> str:
        row = left_out.row(group="all", matte=matte)
        text = f"{percent(row['difference'])} [{percent(row['low'])}, {percent(row['high'])}]"
        return left_out.link(text, group="all", matte=matte)

    def area(name: str) -> str:
        found = []
        for kind in ("logistic", "boosting"):
            row = areas.row(backbone=kind, input=name, seed="")
            found.append(
                areas.link(f"{float(row['auroc']):.3f}", backbone=kind, input=name, seed="")
            )
        return " / ".join(found)

    def gap(first: str, second: str, extra: str = "", *, apart: bool = False) -> str:
        found = []
        for kind in ("logistic", "boosting"):
            backbone = f"{kind}{extra}{APART if apart else ''}"
            key = {"backbone": backbone, "first": first, "second": second}
            row = differences.row(**key)
            found.append(differences.link(signed(row), **key))
        return " / ".join(found)

    volume = areas.row(backbone="none")
    rows = [
        (
            "A matte describes a lesion better than binary masks (abstract, 3.3, 8)",
            "**not reproduced** in the paper form, by what another reader marks; holds for the "
            "improved form",
            f"Brier score against the blurred mean of three masks: paper CF {brier('paper cf')}, "
            f"improved CF {brier('improved cf')}; the mean of three masks as it is: "
            + brier("readers' mean"),
        ),
        (
            "Mattes have more diagnostic information than masks (1, 6.1, Figure 6)",
            "**reproduced** for optimised mattes",
            f"AUROC, logistic / boosting: optimised - masks {gap('optimised', 'masks')}, "
            f"plain - masks {gap('plain', 'masks')}. Where two readers outline and the other two rate: "
            f"optimised - masks {gap('optimised', 'masks', apart=True)}, "
            f"plain - masks {gap('plain', 'masks', apart=True)}",
        ),
        (
            "... since they depict the border better (6.1)",
            "**not reproduced**: the gain is density, not the soft edge",
            "The CT within the readers' masks does as well without a matte: optimised - masks x HU "
            f"{gap('optimised', 'masks x HU')}. With the features of HU given to all inputs: "
            f"optimised - masks {gap('optimised', 'masks', ' + HU')}",
        ),
        (
            "Optimised methods are better than plain ones (Figure 6)",
            "**reproduced**",
            f"optimised - plain {gap('optimised', 'plain')}",
        ),
        (
            "The released matte is the best input (Figure 6)",
            "**not reproduced**",
            f"released {area('GT')}, KNN+ {area('KNN+')}, Mean x HU {area('Mean x HU')}; "
            f"volume alone {areas.link(format(float(volume['auroc']), '.3f'), backbone='none')}",
        ),
        (
            "Masks are better than the image (Figure 6)",
            "**reproduced**; it is size",
            f"masks - image {gap('masks', 'image')}; with volume given to all "
            f"{gap('masks', 'image', ' + volume')}",
        ),
        (
            "3DMM mattes nodules without a trimap (5, 6.2)",
            "**reproduced** for small networks, against the readers' mean",
            "SAD against that of the readers' mean mask, held-out patients, near the lesion / "
            "unknown voxels: "
            + "; ".join(
                f"{name} {change(networks, READERS_MEAN, 'near', first=name)} / "
                f"{change(networks, READERS_MEAN, 'unknown', first=name)}"
                for name in UNTOLD
            ),
        ),
        (
            "The light variants trade well (6.3, Table 2, Figure 9)",
            "**reproduced** for small networks, one training each: 3DMM-M is as good as 3DMM, "
            "3DMM-MG worse at a sixtieth of the multiply-adds",
            "Near the lesion, SAD / MSE: "
            + "; ".join(
                f"{first} against {second} {change(networks, second, 'near', first=first)} / "
                f"{change(networks, second, 'near', 'mse', first=first)}"
                for names in (list(UNTOLD), list(UNTOLD.values()))
                for first, second in pairwise(names)
            ),
        ),
        (
            "Auxiliary masks help the matting head (6.3, Table 2)",
            "**not reproduced** for small networks: in none of three pairs do they lower the SAD; in a "
            "second pair of 3DMM-MG, of another seed, they do",
            "SAD against the same network not told of the masks, near the lesion / unknown voxels: "
            + "; ".join(
                f"{told} {change(networks, untold, 'near', first=told)} / "
                f"{change(networks, untold, 'unknown', first=told)}"
                for told, untold in UNTOLD.items()
            )
            + "; of another seed, untold against told "
            + " / ".join(
                change(networks, SECOND_TOLD, region, first=SECOND_UNTOLD)
                for region in ("near", "unknown")
            ),
        ),
        (
            "Clinicians prefer the matte (3.3, Figure 3); 3DMM is comparable to the optimised "
            "methods (6.2)",
            "**cannot be tested here**",
            "see the end of this page",
        ),
    ]
    lines = ["## Claim by claim", "", "| claim | here | figures, 95 % intervals |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, ""])


def left_out_tables(table: Table) -> str:
    lines = [
        "## Masks or mattes",
        "",
        "![Differences of Brier scores](pictures/reproduction-left-out.png)",
    ]
    for group in dict.fromkeys(row["group"] for row in table.rows):
        rows = [row for row in table.rows if row["group"] == group]
        first = rows[0]
        lines += [
            "",
            f"{group}: {first['nodules']} nodules of {first['patients']} patients",
            "",
            "| matte | Brier | against the blurred mean | log loss | calibration error |",
            "|---|---:|---:|---:|---:|",
        ]
        for row in rows:
            key = {"group": group, "matte": row["matte"]}
            change = f"{percent(row['difference'])} [{percent(row['low'])}, {percent(row['high'])}]"
            lines.append(
                f"| {table.link(row['matte'], **key)} | {float(row['brier']):.4f} | {change} "
                f"| {float(row['log_loss']):.3f} | {float(row['calibration_error']):.3f} |"
            )
    return "\n".join([*lines, ""])


def area_table(table: Table) -> str:
    lines = [
        "## Figure 6 by features",
        "",
        "![Areas under the ROC curve](pictures/reproduction-figure-6.png)",
        "",
        "| input | logistic regression | gradient boosting |",
        "|---|---:|---:|",
    ]
    names = [
        row["input"] for row in table.rows if (row["backbone"], row["seed"]) == ("logistic", "")
    ]
    for name in names:
        cells = []
        for kind in ("logistic", "boosting"):
            row = table.row(backbone=kind, input=name, seed="")
            low, high = (float(row[end]) for end in ("low", "high"))
            text = f"{float(row['auroc']):.3f} [{low:.3f}, {high:.3f}]"
            cells.append(table.link(text, backbone=kind, input=name, seed=""))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def difference_table(table: Table, *, raters_apart: bool = False) -> str:
    pairs = list(dict.fromkeys((row["first"], row["second"]) for row in table.rows))
    all_kinds = dict.fromkeys(row["backbone"] for row in table.rows)
    kinds = [kind for kind in all_kinds if kind.endswith(APART) == raters_apart]
    lines = [
        f"| first - second | {' | '.join(kinds)} |",
        f"|---|{'---:|' * len(kinds)}",
    ]
    for first, second in pairs:
        cells = []
        for kind in kinds:
            key = {"backbone": kind, "first": first, "second": second}
            cells.append(table.link(signed(table.row(**key)), **key))
        lines.append(f"| {first} - {second} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def distance_table(table: Table) -> str:
    lines = [
        "## Table 1: distances from the released mattes",
        "",
        "Over the whole patch, mean and standard deviation over four partitions; of a network, over those on which it was trained.",
        "",
        "| | nodules | SAD | MSE | Grad | Conn |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in table.rows:
        if (row["truth"], row["region"]) != ("released", "whole") or not is_shown(row["matte"]):
            continue
        cells = []
        for name, unit in TABLE_UNITS.items():
            deviation = row[f"{name}_deviation"]  # empty over one partition
            spread = f" ± {float(deviation) / unit:.2f}" if deviation else ""
            cells.append(f"{float(row[name]) / unit:.2f}{spread}")
        key = {"matte": row["matte"], "truth": "released", "region": "whole"}
        lines.append(
            f"| {table.link(row['matte'], **key)} | {row['nodules']} | {' | '.join(cells)} |"
        )
    return "\n".join([*lines, ""])


def change(table: Table, second: str, region: str, metric: str = "sad", *, first: str) -> str:
    """Return the change of a network's error against another matte's, with its interval."""
    key = {"first": first, "second": second, "truth": "released"}
    key |= {"region": region, "metric": metric}
    row = table.row(**key)
    mean, low, high = (percent(row[name]) for name in ("difference", "low", "high"))
    return table.link(f"{mean} [{low}, {high}]", **key)


def network_table(table: Table) -> str:
    """Return the networks against one another, each against itself untold, and the readers' mean."""
    first = table.rows[0]
    partitions = ", ".join(first["partitions"].split())
    pairs = [
        *combinations(UNTOLD, 2),
        *combinations(UNTOLD.values(), 2),
        *UNTOLD.items(),
        *((name, READERS_MEAN) for name in NETWORKS),
    ]
    lines = [
        "## Table 2: small networks on a CPU",
        "",
        f"{', '.join(NETWORKS)}, of 1 mm voxels, each trained once with recipe `cpu` on partition {partitions} and scored on the "
        f"{first['nodules']} held-out nodules of {first['patients']} patients against the released mattes. Change of the "
        "mean error of the first against that of the second, with paired intervals by patient; below 0 the first is better. *Untold*: the "
        "matting head does not read the auxiliary masks. All other pairs, and the trivial mattes: "
        f"[{table.name}](results/{table.name}).",
        "",
        "![Errors and multiply-adds](pictures/reproduction-figure-9.png)",
        "",
        "| first | second | region | SAD | MSE | Grad | Conn |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for one, other in pairs:
        for region in ("near", "unknown"):
            cells = [change(table, other, region, metric, first=one) for metric in METRIC_NAMES]
            lines.append(f"| {one} | {other} | {region} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def is_shown(matte: str) -> bool:
    """Return whether a matte is none of a network that was trained with other settings."""
    return matte in NETWORKS or not matte.startswith(VARIANTS)


def percent(share: str) -> str:
    return f"{100 * float(share):+.1f} %"


def signed(row: dict[str, str]) -> str:
    low, high = float(row["low"]), float(row["high"])
    return f"{float(row['difference']):+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
