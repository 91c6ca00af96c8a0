"""All tables in Markdown, for ../docs/real-whisper.md, from what the other modules have measured."""

import subprocess
import sys

from study_tables import Tables

from . import clocks, head_tables, records, rho_tables
from .markdown import table


BEGIN = "\n## Tables\n"


def write(place, program, material, page=None):
    """Tables of whatever there is, as `tables.md`, and behind its heading in a page; the studies' tables and pages."""
    sections = list(words(place))
    for study, makers in (("spes", (rho_tables.by_spes, rho_tables.mean_onset_error)),
                          ("gradient", (rho_tables.by_gradient, rho_tables.onsets)),
                          ("faithfulness", (rho_tables.faithfulness,))):
        # A run that was stopped early leaves a lock alone.
        if not any(log.stat().st_size for form in ("*.jsonl", "*.jsonl.gz") for log in (place / study).glob(form)):
            continue
        tables = made(program, place / study)
        sections += [(f"{title} (study: {study})", body) for maker in makers for title, body in maker(tables)]
        if study == "gradient":
            sections += head_tables.errors(tables, material)
    sections += head_tables.rankings(place, material)
    text = "\n".join(f"### {title}\n\n{body}" for title, body in sections if body)
    (place / "tables.md").write_text(text)
    if page:
        prose, found, _ = page.read_text().partition(BEGIN)
        if not found:
            sys.exit(f"{page}: no line {BEGIN.strip()}")
        page.write_text(f"{prose}{BEGIN}\n{text}")


def made(program, folder):
    """The tables of a study's logs; also writes its page."""
    done = subprocess.run([program, "study", "--tables", folder], stdout=subprocess.DEVNULL)
    if done.returncode not in (0, 1):
        sys.exit(done.returncode)
    return Tables(folder / "tables.csv")


def words(place):
    """Onset errors by set and source, what is called reliable, and how long it took."""
    errors, trusted = [], []
    measured = records.read(place, "words")
    order = [*clocks.SOURCES, clocks.OTHER]
    for record in sorted(measured, key=lambda one: (clocks.SETS.index(one["set"]), order.index(one["source"]))):
        own = clocks.scores(record)
        errors.append([
            record["set"], record["source"], f"{own['words']} of {own['said']}", f"{own['mean']:.3f}",
            f"{own['median']:+.3f}", f"{own['near']:.0%}", f"{own['first']:.3f}", f"{own['latest']:.3f}",
            f"{own['seconds']:.0f}", f"{own['processor']:.0f}",
        ])
        if "reliable" in own:
            near = own["near of reliable"]
            trusted.append([record["set"], record["source"], f"{own['reliable']:.0%}",
                            "-" if near is None else f"{near:.0%}"])
    yield "Word times, seconds", table(
        ["set", "by", "words", "mean error", "signed median", "within 0.2 s", "first words", "their largest",
         "took", "of processors"], errors)
    yield "Words called reliable", table(["set", "by", "reliable", "of these within 0.2 s"], trusted)
