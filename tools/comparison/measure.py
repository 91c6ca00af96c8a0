"""Times works in PyTorch: JSON on standard input says which, JSON on standard output what they took.

A process of its own, so that it is gone, with its threads, when it is sonograd's turn.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
import torch._functorch.config
from safetensors.torch import load_file

from .subject import read_subject
from .works import BATCHES, Works

# Sides of the square matrices that show the most the device does.
SIDES = (1024, 2048, 4096, 8192)
LONG_ENOUGH = 0.2
# Seconds after which there is no more warming up, and no more repeating in a search.
WARM = 4
# Of the memory that is free.
MOST_MEMORY = 0.85


def peak(device, precision):
    """Operations a second of the best large product."""
    dtype, best = torch.bfloat16 if precision == "bf16" else torch.float32, 0.0
    for side in SIDES:
        a, b = (torch.rand(side, side, device=device).sub(0.5).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        product = lambda: torch.mm(a, b, out=out)
        once = [timed(product, device) for _ in range(2)][1]
        count = max(1, min(200, int(LONG_ENOUGH / once)))
        repeated = lambda: [product() for _ in range(count)]
        seconds = min(timed(repeated, device) for _ in range(3)) / count
        best = max(best, 2 * side**3 / seconds)
        if seconds > LONG_ENOUGH:
            break
    return best


def timed(work, device):
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    begin = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begin


def error_of(works, candidate, expected):
    """How far a candidate is from the expected values: absolute for log-probabilities, else relative."""
    if candidate["work"] == "forward":
        log_p = expected["logits"].double().log_softmax(-1)
        log_p = log_p.gather(1, works.labels.cpu()[:, None])[:, 0]
        return (works.run(candidate).double() - log_p).abs().max().item()
    if candidate["work"] == "gradient":
        made, wanted = works.run(candidate), expected["input_gradient"]
    else:
        made = works.scores_of(expected["input_masks"], candidate["batch"], candidate["compiled"])
        wanted = expected["input_scores"]
    return ((made - wanted).double().norm() / wanted.double().norm()).item()


def measure(works, candidate, expected, job):
    works.set_precision(candidate["precision"])
    works.set_attention(candidate["attention"])
    # This compiles; what comes after it warms up.
    result = {"error": error_of(works, candidate, expected)}
    work = lambda: works.run(candidate)
    warm, seconds = [], []
    while len(warm) < job["warm_up"] and sum(warm) < WARM:
        warm.append(timed(work, works.device))
    while len(seconds) < job["repeats"] and not (job["search"] and sum(seconds) > WARM):
        seconds.append(timed(work, works.device))
    # Of one mask, for spes.
    share = 1 / (BATCHES * candidate["batch"]) if candidate["work"] == "spes" else 1
    result["seconds"] = [share * one for one in seconds]
    result["median"] = statistics.median(result["seconds"])
    return result


def limit_memory():
    """Makes an allocation fail that would have the system end this process, or others."""
    try:
        free = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
        import resource

        most = int(MOST_MEMORY * 1024 * int(free.split()[1]))
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    # Only Linux counts so.
    except (OSError, StopIteration, ImportError, ValueError):
        pass


def main():
    job = json.load(sys.stdin)
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    # Reverse passes of compiled code run more than once here.
    torch._functorch.config.donated_buffer = False
    if job["device"] == "cpu":
        limit_memory()
    works = Works(Path(job["folder"]), read_subject(job["reference"]), job["device"])
    expected = load_file(job["reference"])
    results = []
    for candidate in job["candidates"]:
        try:
            result = measure(works, candidate, expected, job)
        # Whatever PyTorch cannot compile, batch or hold is no candidate; the reader is told.
        except Exception as problem:
            result = {"failed": f"{type(problem).__name__}: {str(problem).strip().splitlines()[0][:160]}"}
            if works.device.type == "cuda":
                torch.cuda.empty_cache()
        results.append(candidate | result)
        print(f"  {describe(results[-1])}", file=sys.stderr)
    peaks = {}
    for precision in {candidate["precision"] for candidate in job["candidates"]}:
        works.set_precision(precision)
        peaks[precision] = peak(works.device, precision)
    name = torch.cuda.get_device_name() if works.device.type == "cuda" else None
    json.dump({"results": results, "peaks": peaks, "device": name, "threads": torch.get_num_threads()}, sys.stdout)


def describe(result):
    """A candidate, and what it took, in words."""
    batch = f" {result['batch']}" if result["batch"] else ""
    kind = f", {result['attention']}" if result["attention"] else ""
    kind += ", compiled" if result["compiled"] else ""
    name = f"{result['work']}: {result['way']}{batch}{kind}, {result['precision']}"
    if "failed" in result:
        return f"{name}: {result['failed']}"
    unit = "s a mask" if result["work"] == "spes" else "s"
    return f"{name}: {result['median']:.4f} {unit}, error {result['error']:.1e}"


if __name__ == "__main__":
    main()
