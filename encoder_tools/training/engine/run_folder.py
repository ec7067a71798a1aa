"""The folders of a run, and one slice of it: the prologue and epilogue that train and distill share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from encoder_tools.aliases import Log
from encoder_tools.io.staging import check_destination, work_folder
from encoder_tools.training.engine.curves import draw_curves
from encoder_tools.training.engine.distributed import is_lead
from encoder_tools.training.engine.loop import LOG_NAME, Loop

CURVES_NAME = "curves.png"


@dataclass(frozen=True)
class RunFolder:
    """Folders of a run.

    :ivar recipe: the recipe's file; paths in it are relative to ``root``.
    :ivar work: state, log and curves.
    :ivar out: the model folder that is written when the last step is done.
    :ivar overwrite: replace ``out`` if it exists.
    """

    recipe: Path
    work: Path
    out: Path
    overwrite: bool = False

    @classmethod
    def checked(
        cls, recipe: str | Path, work: str | Path, out: str | Path, *, overwrite: bool, dry_run: bool = False
    ) -> RunFolder:
        """Check that ``out`` may be written, and make the work folder unless nothing will be done.

        :raises InputError: if ``out`` exists, or ``work`` lies in it.
        """
        recipe, work, out = Path(recipe), Path(work), Path(out)
        check_destination(out, overwrite=overwrite)
        return cls(recipe, work if dry_run else work_folder(work, out), out, overwrite)

    @property
    def root(self) -> Path:
        """Folder that the recipe's paths are relative to."""
        return self.recipe.parent

    def advance(self, loop: Loop, minutes: float | None, log: Log) -> bool:
        """Run the loop for a slice of time and draw its curves; whether the last step is done."""
        done = loop.run(minutes, log)
        if is_lead():
            draw_curves(self.work / LOG_NAME, self.work / CURVES_NAME)
        if not done:
            log(f"time is up at step {loop.done} of {loop.pace.steps}; the same command resumes from here")
        return done
