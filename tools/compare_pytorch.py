#!/usr/bin/env python3
"""The same work in PyTorch and in sonograd, on one model folder, one input and one machine, side by side.

    python compare_pytorch.py PROGRAM --case small
    python compare_pytorch.py PROGRAM --case large --device cpu --threads 2
    python compare_pytorch.py PROGRAM --case whisper-small --device gpu
    python compare_pytorch.py PROGRAM --model FOLDER --audio SOUND.wav
    python compare_pytorch.py PROGRAM --model FOLDER --reference FILE.safetensors

PROGRAM is a release build of sonograd; FOLDER holds a Whisper or Speech2Text model as Hugging Face saves it, which
transformers runs here, Whisper as CTranslate2 has it, or one of FBK's conformers. What is explained about a
sound is what the model writes greedily, or --text or --tokens.

First the numbers: what float64 makes of the case (log-probabilities, every token's gradient, the KL
scores of some masks) is written into a reference file, and both have to agree with it in f32: log-probabilities
to 2e-4, gradients and scores to 1e-3 of their norm. Otherwise nothing is timed.

Then PyTorch's best way of doing each work is looked for: eager or compiled; attention written out or fused
(`sdpa`); gradients by a loop, batched (`is_grads_batched`), or with a copy of the features for each token, through
the whole model or, after a loop through the decoder, through the encoder alone; several batch sizes; on CUDA in
f32, TF32 and bf16 autocast. On a CPU threads wait passively in that search; the fastest of each way is then
tried with threads that wait as OpenMP does by default, in a spin, and the better median of the two goes into
the table. Ways whose f32 results are wrong do not count, nor those that need more memory than is free. Then both
take turns, each round a fresh process of PyTorch, which warms up, measures and ends, so that its threads are gone
when `sonograd bench` runs, and the other way round. Times are
medians over rounds of medians of a few runs. SPES is the whole work for --masks masks in sonograd, its
unmasked pass and its looks at reliability included; PyTorch, which is as fast for few masks, scores four
batches in each run.

The table's shares are of the largest product's speed that each side reached in the same rounds, with the
operations that sonograd counts.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from comparison.cases import CASES, write_case
from comparison.measure import describe
from comparison.subject import read_subject, write_expected, write_heard
from references.recogniser import family_of

TOOLS = Path(__file__).resolve().parent
WORKS = ("forward", "gradient", "spes")
BATCH_SIZES = {"cpu": [4, 8, 16, 32, 64], "cuda": [16, 32, 64, 128, 256]}
# Frames of features above which batches are a quarter of those, and runs of PyTorch are long.
LONG = 1000
PRECISIONS = {"cpu": ["f32"], "cuda": ["f32", "tf32", "bf16"]}
# What f32 may be off at most on either side: log-probabilities absolute, gradients and scores relative.
TOLERANCE = {"forward": 2e-4, "gradient": 1e-3, "spes": 1e-3}
# The fewest on which a run that stops by itself may end.
MASKS = 960


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="a release build of sonograd")
    parser.add_argument("--case", choices=CASES, help="a model with random weights [default: small]")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="instead of a case")
    parser.add_argument("--reference", type=Path, metavar="FILE",
                        help="features and tokens [default: reference.safetensors in the folder]")
    parser.add_argument("--audio", type=Path, metavar="FILE", help="a sound instead: a WAV file, 16 kHz")
    parser.add_argument("--text", help="what is explained about it [default: what the model writes greedily]")
    parser.add_argument("--tokens", metavar="ID,...", help="the same by its token ids, without prompt and end")
    parser.add_argument("--language", help="Whisper's language, such as `en` [default: detected]")
    parser.add_argument("--task", default="transcribe", help="Whisper's: transcribe or translate")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                        else os.cpu_count(), help="of each side [default: all cores]")
    parser.add_argument("--masks", type=int, default=MASKS, help="masks that sonograd scores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each work in a round")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--ways", type=Path, metavar="FILE",
                        help="do not search: take the best ways of what an earlier run wrote by --json")
    parser.add_argument("--bench-options", default="", metavar="OPTIONS", help="more options for sonograd bench")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times there too")
    arguments = parser.parse_args()
    if arguments.model and arguments.case:
        parser.error("give --case or --model")
    if (arguments.reference or arguments.audio) and not arguments.model:
        parser.error("--reference and --audio need --model")
    if arguments.reference and arguments.audio or arguments.text and arguments.tokens:
        parser.error("give --reference or --audio, --text or --tokens")
    if (arguments.text or arguments.tokens) and not arguments.audio:
        parser.error("--text and --tokens need --audio")
    if not arguments.model:
        arguments.case = arguments.case or "small"
    return arguments


def sonograd(arguments, *command):
    """Runs the program; returns its standard output."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(arguments.threads)}
    done = subprocess.run([arguments.program, *map(str, command)], env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"{arguments.program}: {done.stderr.strip()}")
    return done.stdout


def agree(arguments, folder, reference):
    """Whether sonograd computes what float64 does, as nearly as PyTorch has to; prints how far it is off."""
    options = ["--model", folder, "--reference", reference, "--device", arguments.device, "--json"]
    checks = {check["name"]: check for check in json.loads(sonograd(arguments, "validate", *options))["checks"]}
    for name, check in checks.items():
        above = "" if check["pass"] else f", above validate's {check['tolerance']:.0e}"
        print(f"  {name}: largest error {check['max_abs_error']:.1e}, relative {check['relative_l2_error']:.1e}{above}",
              file=sys.stderr)
    # A log-probability is off by at most twice what its logits are.
    off = {
        "logits": ("forward", lambda check: 2 * check["max_abs_error"]),
        "input_gradient": ("gradient", lambda check: check["relative_l2_error"]),
        "input_scores": ("spes", lambda check: check["relative_l2_error"]),
    }
    missing = off.keys() - checks.keys()
    # Written so that what is not finite, null there, fails.
    wrong = [name for name, (work, error) in off.items() if name in checks and not (
        checks[name]["relative_l2_error"] is not None and error(checks[name]) <= TOLERANCE[work])]
    if wrong or missing:
        print(f"sonograd and PyTorch do not agree: wrong {wrong}, missing {sorted(missing)}; nothing is timed",
              file=sys.stderr)
    return not wrong and not missing


def pytorch(arguments, folder, reference, candidates, policy, *, search=False):
    """Times candidates in a process of their own, briefly in a search; returns what it reports."""
    job = {
        "folder": str(folder), "reference": str(reference), "candidates": candidates,
        "device": "cuda" if arguments.device == "gpu" else "cpu", "threads": arguments.threads,
        "warm_up": 1 if search else 2, "repeats": 2 if search else arguments.repeats, "search": search,
    }
    environment = dict(os.environ)
    if policy == "passive":
        environment |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    done = subprocess.run([sys.executable, "-m", "comparison.measure"], input=json.dumps(job), cwd=TOOLS,
                          env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("PyTorch's process failed")
    return json.loads(done.stdout.splitlines()[-1])


FIELDS = ("work", "way", "precision", "attention", "batch", "compiled")


def candidate(work, way, precision, attention, batch=None):
    return dict(zip(FIELDS, (work, way, precision, attention, batch, False)))


def candidates(arguments, folder, subject, precision):
    """Every way of doing each work without compiling."""
    tokens, long = len(subject.labels), len(subject.features) > LONG
    for attention in family_of(folder).ATTENTIONS:
        yield candidate("forward", "forward", precision, attention)
        for way in ("loop", "batched"):
            yield candidate("gradient", way, precision, attention)
        for way in ("copies", "encoder batched", "encoder copies"):
            for batch in sorted({min(4 if long else 8, tokens), tokens}):
                yield candidate("gradient", way, precision, attention, batch)
        for batch in BATCH_SIZES["cuda" if arguments.device == "gpu" else "cpu"]:
            yield candidate("spes", "masks", precision, attention, batch // 4 if long else batch)


def counts(result):
    """Whether it was done, and in f32 was right."""
    if "failed" in result:
        return False
    return result["precision"] != "f32" or result["error"] <= TOLERANCE[result["work"]]


def fastest(results):
    """The best batch and attention of each way, as candidates again."""
    best = {}
    for result in sorted(filter(counts, results), key=lambda one: -one["median"]):
        best[result["way"], result["compiled"]] = result
    return [{field: one[field] for field in FIELDS} for one in best.values()]


def to_compile(results):
    """The fastest of each way, compiled. PyTorch cannot batch the reverse of compiled code."""
    return [one | {"compiled": True} for one in fastest(results) if not one["way"].endswith("batched")]


def key(result):
    return result["work"], result["precision"], result["policy"]


def search(arguments, folder, reference, subject):
    """The ways of doing each work, by precision and how threads wait, and what they took."""
    cuda = arguments.device == "gpu"
    tried = []

    def measure(ways, policy):
        print(f"PyTorch, {precision}, waiting of threads: {policy}", file=sys.stderr)
        results = pytorch(arguments, folder, reference, ways, policy, search=True)["results"]
        tried.extend(result | {"policy": policy, "counts": counts(result)} for result in results)
        return results

    for precision in PRECISIONS["cuda" if cuda else "cpu"]:
        # On a CPU, threads that wait in a spin are slow beside whatever else runs: few ways are tried so.
        first = "default" if cuda else "passive"
        results = measure(list(candidates(arguments, folder, subject, precision)), first)
        if arguments.compile:
            results += measure(to_compile(results), first)
        if not cuda:
            measure(fastest(results), "default")
    return tried


def best_of(tried):
    """The fastest way by work, precision and how threads wait."""
    best = {}
    for result in tried:
        known = best.get(key(result))
        if result["counts"] and (known is None or result["median"] < known["median"]):
            best[key(result)] = result
    for work in WORKS:
        if not any(own[:2] == (work, "f32") for own in best):
            sys.exit(f"PyTorch has no right way of doing {work}")
    return best


def rounds(arguments, folder, reference, best):
    """Both in turns: PyTorch's medians by the best ways' keys, sonograd's rows by work, of every round."""
    bench = ["bench", "--model", folder, "--reference", reference, "--device", arguments.device, "--json",
             *shlex.split(arguments.bench_options)]
    benches = [[*bench, "--work", "forward,gradient", "--repeats", arguments.repeats],
               [*bench, "--work", "spes", "--masks", arguments.masks, "--repeats", 1]]
    theirs, peaks, ours = {name: [] for name in best}, {}, {work: [] for work in WORKS}
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        for policy in sorted({way["policy"] for way in best.values()}):
            ways = [{field: way[field] for field in FIELDS} for way in best.values() if way["policy"] == policy]
            report = pytorch(arguments, folder, reference, ways, policy)
            for result in report["results"]:
                if "failed" in result:
                    sys.exit(describe(result))
                theirs[key(result | {"policy": policy})].append(result["median"])
            for precision, peak in report["peaks"].items():
                peaks[precision] = max(peak, peaks.get(precision, 0))
        for bench in benches:
            for line in sonograd(arguments, *bench).splitlines():
                row = json.loads(line)
                ours[row["work"]].append(row)
    shown = {folder: "FOLDER", reference: "FILE"}
    commands = [" ".join(["sonograd", *(str(shown.get(word, word)) for word in bench)]) for bench in benches]
    return theirs, peaks, ours, report, commands


def processor():
    try:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        return names[0].split(":", 1)[1].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def driver():
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def ways_in_words(way):
    parts = [] if way["way"] in ("forward", "masks") else [way["way"]]
    if way["batch"]:
        parts.append(f"batch {way['batch']}")
    if way["attention"]:
        parts.append(way["attention"])
    if way["compiled"]:
        parts.append("compiled")
    return (", ".join(parts) or "eager") + (", waiting passively" if way["policy"] == "passive" else "")


def markdown(arguments, subject, best, measured):
    """What one would paste into BENCHMARKS.md."""
    theirs, peaks, ours, report, commands = measured
    first, text = ours["forward"][0], []
    name = f"case `{arguments.case}`" if arguments.case else f"model `{arguments.model.name}`"
    frames, sound = len(subject.features), subject.sound
    frames = f"T {frames}" if sound == frames else f"T {frames}, {sound} of them sound"
    text.append(f"{name}: {frames}, {len(subject.labels)} tokens, {arguments.masks} masks, "
                f"{first['parameters'] / 1e6:.1f}M parameters.")
    if report["device"]:
        text.append(f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) on {report['device']}, driver {driver()}.")
    else:
        text.append(f"PyTorch {torch.__version__} on {processor()}, {report['threads']} threads.")
    text.append(f"sonograd {first['sonograd']}, {first['precision']}, on {first['device']}; {platform.platform()}.")
    our_peak = max(row["peak_gflops"] for rows in ours.values() for row in rows)
    shown = ", ".join(f"{name} {peak / 1e9:.0f}" for name, peak in peaks.items())
    text.append(f"Largest product, GFLOP/s: PyTorch {shown}; sonograd {our_peak:.0f}.")
    text.append(f"Medians of {arguments.rounds} rounds in turns, {arguments.repeats} runs each.")
    # Where files lie says nothing to others.
    own = " ".join("PROGRAM" if word == arguments.program else word.rsplit("/", 1)[-1] for word in sys.argv[1:])
    own = f"python compare_pytorch.py {own}"
    text += ["", *(f"    {command}" for command in [own, *commands]), "",
             "| work | PyTorch | its best way | time | of its peak | sonograd | of its peak | ratio |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for work in WORKS:
        row = ours[work][0]
        # Of a mask for spes, else of the whole work. sonograd's is all it does, shared out.
        times_of = 1 / arguments.masks if work == "spes" else 1
        our_time = times_of * statistics.median(row["seconds_median"] for row in ours[work])
        flops = times_of * row["flops"]
        for precision in dict.fromkeys(own[1] for own in theirs if own[0] == work):
            # However threads wait, the better of both.
            same = [own for own in theirs if own[:2] == (work, precision)]
            time, own = min((statistics.median(theirs[own]), own) for own in same)
            # PyTorch needs no more than one pass for each mask.
            needed = ours["forward"][0]["flops"] if work == "spes" else flops
            shown = [f"{1 / t:.1f} masks/s" if work == "spes" else f"{1e3 * t:.1f} ms" for t in (time, our_time)]
            text.append(
                f"| {work} | {precision} | {ways_in_words(best[own])} | {shown[0]} | "
                f"{needed / time / peaks[precision]:.0%} | {shown[1]} | "
                f"{flops / our_time / our_peak / 1e9:.0%} | {time / our_time:.2f} |")
    text += ["", "GFLOP: " + ", ".join(
        f"{name} {flops / 1e9:.2f}" for name, flops in [
            ("forward", ours["forward"][0]["flops"]), ("gradient", ours["gradient"][0]["flops"]),
            ("sonograd's spes for each mask", ours["spes"][0]["flops"] / arguments.masks)]) + "."]
    return "\n".join(text)


def main():
    arguments = parse()
    if arguments.device == "gpu" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device")
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        reference = place / "expected.safetensors"
        folder = arguments.model.resolve() if arguments.model else place / arguments.case
        if arguments.audio:
            tokens = arguments.tokens and [int(number) for number in arguments.tokens.split(",")]
            write_heard(folder, reference, arguments.audio, text=arguments.text, tokens=tokens,
                        language=arguments.language, task=arguments.task)
        elif arguments.model:
            write_expected(folder, reference, read_subject(arguments.reference or folder / "reference.safetensors"))
        else:
            write_expected(folder, reference, write_case(arguments.case, folder))
        subject = read_subject(reference)
        if not agree(arguments, folder, reference):
            return 1
        if arguments.ways:
            tried = json.loads(arguments.ways.read_text())["tried"]
        else:
            tried = search(arguments, folder, reference, subject)
        best = best_of(tried)
        measured = rounds(arguments, folder, reference, best)
    print(markdown(arguments, subject, best, measured))
    print("\nTried, seconds:\n")
    for result in tried:
        suffix = "" if result["counts"] or "failed" in result else f"; wrong by {result['error']:.1e}"
        print(f"- {describe(result)} ({result['policy']} waiting){suffix}")
    if arguments.json:
        theirs, peaks, ours, report, commands = measured
        everything = {
            "commands": commands, "tried": tried, "peaks": peaks, "sonograd": ours,
            "pytorch": [{"work": work, "precision": precision, "policy": policy, "seconds": times}
                        for (work, precision, policy), times in theirs.items()],
        }
        arguments.json.write_text(json.dumps(everything, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as problem:
        sys.exit(f"compare_pytorch: {problem}")
