"""Owns what the demo prints at its end: the counts, the proof or the differences, and one retry tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidemill_cli.demo.proof import Verdict
from tidemill_cli.watch import tree_text

_CARRIERS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run came to."""

    verdict: Verdict
    seconds: float
    invocations: int
    deliveries: Sequence[Mapping[str, Any]]


def show(console: Console, run: Run) -> None:
    """Print everything."""
    console.print(_counts(run))
    if tree := _tree_to_show(run.deliveries):
        console.print("\nOne batch, as the poller saw it:")
        console.print(Text(tree, no_wrap=True, overflow="ignore"), soft_wrap=True)
    console.print()
    if not run.verdict.differences:
        console.print(
            "Proven: every flight is counted once in DynamoDB or named in SQS, none is lost, the order of "
            "each tail number held, and the queue names exactly the flights without a departure time.",
            style="bold green",
        )
        return
    console.print("Not proven:", style="bold red")
    for difference in run.verdict.differences:
        console.print(f"  {difference}", soft_wrap=True, highlight=False)


def _counts(run: Run) -> Table:
    verdict = run.verdict
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", style="bold")
    table.add_column()
    worst = sorted(verdict.delays_min.items(), key=lambda item: item[1], reverse=True)[:_CARRIERS_SHOWN]
    rate = verdict.flights / run.seconds
    for number, text in (
        (f"{verdict.flights:,}", "flights produced, in 6 partitions, keyed by tail number"),
        (f"{verdict.counted:,}", "counted in DynamoDB, once each"),
        (f"{verdict.named:,}", f"cancelled, named in {verdict.messages:,} failure records in SQS"),
        (f"{verdict.flights - verdict.counted - verdict.named:,}", "lost"),
        (f"{run.invocations:,}", "invocations"),
        (f"{rate:,.0f}", f"flights/s, from the first produced to the last settled ({run.seconds:.1f} s)"),
        ("", "mean departure delay: " + ", ".join(f"{name} {minutes:.1f} min" for name, minutes in worst)),
    ):
        table.add_row(number, text)
    return table


def _tree_to_show(deliveries: Sequence[Mapping[str, Any]]) -> str | None:
    """The smallest tree that tells the whole story: a batch that was split down to its poison record."""
    stories = [delivery for delivery in deliveries if _is_whole_story(delivery)]
    if not stories:
        return None
    return tree_text(min(stories, key=lambda delivery: len(delivery["spans"]))["spans"])


def _is_whole_story(delivery: Mapping[str, Any]) -> bool:
    return not delivery["running"] and any(span["attributes"].get("esm.poison") for span in delivery["spans"])
