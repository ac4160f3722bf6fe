"""Adds trials up, and says what they saw."""

from collections import Counter
from dataclasses import dataclass, field

from rag_assets_tests.fault.trials import Findings

_LOST = ("is lost", "has lost")


@dataclass(slots=True)
class Report:
    """The sum of trials."""

    trials: list[Findings] = field(default_factory=list)

    def add(self, findings: Findings) -> None:
        self.trials.append(findings)

    @property
    def faults(self) -> Counter[str]:
        return sum((findings.faults for findings in self.trials), Counter())

    @property
    def broken(self) -> Counter[str]:
        """Broken promises by number."""
        return Counter(each.promise for findings in self.trials for each in findings.broken)

    @property
    def lost(self) -> int:
        return sum(word in each for each in self._told for word in _LOST)

    @property
    def resurrected(self) -> int:
        return self.broken["I3"] + self.broken["I4"]

    @property
    def reads(self) -> int:
        return sum(findings.reads for findings in self.trials)

    @property
    def pay_factor(self) -> float:
        """Texts paid, to the distinct ones and those in flight when a worker ended."""
        owed = sum(findings.owed for findings in self.trials)
        return sum(findings.paid for findings in self.trials) / owed if owed else 0.0

    @property
    def _told(self) -> list[str]:
        return [str(each) for findings in self.trials for each in findings.broken]

    def text(self) -> str:
        faults = self.faults
        kinds = "".join(f"  {count:6}  {kind}\n" for kind, count in faults.most_common())
        clean = sum(findings.clean for findings in self.trials)
        return (
            f"faults        {faults.total()}\n{kinds}"
            f"trials        {len(self.trials)}\n"
            f"clean trials  {clean}\n"
            f"lost          {self.lost}\n"
            f"resurrected   {self.resurrected}\n"
            f"half reads    {self.broken['I2']} of {self.reads} reads\n"
            f"pay factor    {self.pay_factor:.3f}\n"
            + "".join(f"{told}\n" for told in self.failures())
        )

    def failures(self) -> list[str]:
        """How to run each trial again that was not clean, and what it found."""
        return [
            f"--seed {findings.seed}: {'; '.join(map(str, findings.broken[:3]))}"
            for findings in self.trials
            if not findings.clean
        ]
