"""Report of a clinicians' study (paper, Fig. 3): preferences, intervals and rater agreement.

Shares have Wilson intervals, kappas bootstrap intervals over patients (`qc.studies.agreement`). The
order of the readers' masks has no meaning from nodule to nodule, so agreement is reported twice:
over all options, and over matte versus any mask. By chance the matte would be chosen in one of n
nodules, n being the number of options.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

from matplotlib.figure import Figure

from qc.studies.agreement import Estimate, joint_kappa, pairwise_kappas, wilson
from storage.cases.case import read_case
from storage.csv_cells import neutralize
from storage.output import write_output
from storage.records import Study, Verdict
from storage.reviews.studies import MATTE, raters_of, read_study
from storage.reviews.verdicts import effective_verdicts, read_verdicts
from storage.store import Store

PALETTE = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#0072B2")
"""From the palette of Okabe and Ito, one per rater."""
_MASK = "a reader's mask"


@dataclass(frozen=True, slots=True)
class Rater:
    """One rater's choices."""

    name: str
    answers: Mapping[str, Verdict]
    """By nodule."""

    def share(self, option: str) -> Estimate:
        """Return the share of nodules for which an option was chosen."""
        return wilson(
            sum(given.method == option for given in self.answers.values()), len(self.answers)
        )

    @property
    def median_seconds(self) -> float | None:
        """Median time per nodule, in seconds."""
        taken = sorted(
            given.seconds for given in self.answers.values() if given.seconds is not None
        )
        return taken[len(taken) // 2] if taken else None


@dataclass(frozen=True, slots=True)
class StudyResult:
    """The results of a study."""

    study: Study
    options: tuple[str, ...]
    raters: tuple[Rater, ...]
    pairs: Mapping[tuple[str, str], Estimate]
    """Cohen's kappa over all options."""
    matte_pairs: Mapping[tuple[str, str], Estimate]
    """Cohen's kappa of matte against any mask."""
    joint: Estimate | None
    """Fleiss' kappa over all options, for three raters and more."""

    @property
    def synthetic_count(self) -> int:
        """Number of nodules whose CT is synthetic."""
        return sum(item.synthetic for item in self.study.items)


def read_study_result(store: Store, name: str) -> StudyResult:
    """Read a study's verdicts and summarise them; raise InputError if there is no such study."""
    study = read_study(store, name)
    said = {
        item.nodule_id: effective_verdicts(read_verdicts(store, item.nodule_id, name))
        for item in study.items
    }
    as_given = sorted((d for given in said.values() for d in given), key=lambda d: d.order)
    raters = tuple(
        _rater(rater, said) for rater in raters_of([d.reviewer for d in as_given], study.raters)
    )
    patients = {
        item.nodule_id: read_case(store, item.nodule_id, item.digest).facts.patient
        for item in study.items
    }
    answers = {rater.name: {n: str(d.method) for n, d in rater.answers.items()} for rater in raters}
    by_kind = {
        rater: {n: MATTE if answer == MATTE else _MASK for n, answer in given.items()}
        for rater, given in answers.items()
    }
    return StudyResult(
        study=study,
        options=tuple(dict.fromkeys(option for item in study.items for option in item.options)),
        raters=raters,
        pairs=pairwise_kappas(answers, patients, seed=study.seed),
        matte_pairs=pairwise_kappas(by_kind, patients, seed=study.seed),
        joint=joint_kappa(answers, patients, seed=study.seed) if len(raters) > 2 else None,
    )


def write_study_report(store: Store, name: str, folder: Path) -> str:
    """Write report.md, shares.csv, answers.csv and figure.png; return the report's text."""
    result = read_study_result(store, name)
    text = report_text(result)
    figure = BytesIO()
    draw_shares(result).savefig(figure, metadata={"Software": None})
    write_output(folder / "report.md", text.encode())
    write_output(folder / "shares.csv", shares_csv(result))
    write_output(folder / "answers.csv", _csv(_answer_rows(result)))
    write_output(folder / "figure.png", figure.getvalue())
    return text


def report_text(result: StudyResult) -> str:
    """Return the report as Markdown."""
    study = result.study
    lines = [f"# Study {study.name}", ""]
    if result.synthetic_count:
        count = f"{result.synthetic_count} of {len(study.items)}"
        lines += [f"**Synthetic data.** {count} scans are synthetic.", ""]
    lines += [
        f"{len(study.items)} nodules, {len(result.raters)} of {study.raters} raters,"
        f" {len(result.options)} options per nodule, blinded and shuffled (seed {study.seed}). By"
        " chance the matte would be chosen in"
        f" {100 / len(result.options):.0f} % of the nodules.",
        "",
        "| rater | decided | " + " | ".join(result.options) + " | median s |",
        "| --- " * (len(result.options) + 3) + "|",
    ]
    for rater in result.raters:
        shares = " | ".join(_percent(rater.share(option)) for option in result.options)
        seconds = "—" if rater.median_seconds is None else f"{rater.median_seconds:.0f}"
        lines.append(
            f"| {rater.name} | {len(rater.answers)} of {len(study.items)} | {shares} | {seconds} |"
        )
    lines += [
        "",
        "Shares with 95 % Wilson intervals.",
        "",
        "| agreement | nodules | kappa |",
        "| --- | --- | --- |",
    ]
    for (first, second), kappa in result.pairs.items():
        lines.append(f"| {first} and {second}, all options | {kappa.nodules} | {_kappa(kappa)} |")
    for (first, second), kappa in result.matte_pairs.items():
        lines.append(f"| {first} and {second}, matte or mask | {kappa.nodules} | {_kappa(kappa)} |")
    if result.joint:
        joint = result.joint
        lines.append(f"| all raters, all options (Fleiss) | {joint.nodules} | {_kappa(joint)} |")
    lines += [
        "",
        "Kappa with 95 % confidence interval (bootstrap over patients); 0 is chance agreement.",
        "",
    ]
    return "\n".join(lines)


def shares_csv(result: StudyResult) -> bytes:
    """Return as CSV how often each rater chose each option, with intervals."""
    return _csv(_share_rows(result))


def draw_shares(result: StudyResult) -> Figure:
    """Draw how often each rater chose each option, with intervals (paper, Fig. 3)."""
    figure = Figure((7.2, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / max(len(result.raters), 1)
    for place, rater in enumerate(result.raters):
        shares = [rater.share(option) for option in result.options]
        known = [(x, share) for x, share in enumerate(shares) if share.value is not None]
        left = (place - (len(result.raters) - 1) / 2) * width
        heights = [100 * (share.value or 0) for _, share in known]
        low = [
            height - 100 * (share.low or 0)
            for height, (_, share) in zip(heights, known, strict=True)
        ]
        high = [
            100 * (share.high or 0) - height
            for height, (_, share) in zip(heights, known, strict=True)
        ]
        axes.bar(
            [x + left for x, _ in known],
            heights,
            width * 0.92,
            yerr=(low, high),
            color=PALETTE[place % len(PALETTE)],
            error_kw={"linewidth": 1, "capsize": 2},
            label=f"{rater.name} ({len(rater.answers)})",
        )
    axes.axhline(
        100 / len(result.options), color="#666666", linewidth=1, linestyle="--", label="chance"
    )
    axes.set_xticks(
        range(len(result.options)), [option.replace("-", " ") for option in result.options]
    )
    axes.set(ylabel="chosen as best, % of nodules", ylim=(0, 100))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    if result.synthetic_count:
        axes.set_title("SYNTHETIC CT", loc="left", fontsize=9, color="#9a6b00", fontweight="bold")
    return figure


def _rater(name: str, said: Mapping[str, Sequence[Verdict]]) -> Rater:
    latest = {
        nodule_id: [d for d in given if d.reviewer == name and d.verdict == "choose"]
        for nodule_id, given in said.items()
    }
    return Rater(name, {nodule_id: given[-1] for nodule_id, given in latest.items() if given})


def _share_rows(result: StudyResult) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for rater in result.raters:
        counts = Counter(str(given.method) for given in rater.answers.values())
        for option in result.options:
            share = rater.share(option)
            facts = {
                "rater": rater.name,
                "option": option,
                "chosen": counts[option],
                "answered": len(rater.answers),
            }
            rows.append({**facts, "share": share.value, "low": share.low, "high": share.high})
    return rows


def _answer_rows(result: StudyResult) -> list[dict[str, object]]:
    return [
        {
            "nodule": item.nodule_id,
            "digest": item.digest,
            "matte": item.method,
            "rater": rater.name,
            "answer": given.method,
            "place": given.place,
            "seconds": given.seconds,
            "decided_at": given.decided_at,
            "note": given.note,
        }
        for rater in result.raters
        for item in result.study.items
        if (given := rater.answers.get(item.nodule_id)) is not None
    ]


def _csv(rows: Sequence[Mapping[str, object]]) -> bytes:
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["rater"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: neutralize(cell) for name, cell in row.items()} for row in rows)
    return text.getvalue().encode()


def _percent(share: Estimate) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "—"
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _kappa(kappa: Estimate) -> str:
    if kappa.value is None:
        return "not defined"
    interval = (
        "" if kappa.low is None or kappa.high is None else f" ({kappa.low:.2f} to {kappa.high:.2f})"
    )
    return f"{kappa.value:.2f}{interval}"
