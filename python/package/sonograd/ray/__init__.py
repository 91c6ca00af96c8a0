"""Studies over a Ray cluster: ``study``, and ``python -m sonograd.ray study ARGS``.

Ray places workers, makes those anew that die, and asks them again what they had
not answered. Here it is only said which utterance comes next.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from itertools import count
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, Tuple, Union

from .. import _native
from .._errors import InputError, MissingPackageError, SonogradError
from .._listener import Path_, _count, _paths, _warn
from .._progress import Progress, Telling
from .._results import Study

_TRIES = 3
_SECONDS = 2.0
"""After which it is looked whether the cluster has grown."""

_Tell = Callable[[str, str, Optional[str], int, int, float], object]
"""Is told of model, utterance, why it failed, how many of how many, seconds left."""


def study(
    manifests: Union[Path_, Sequence[Path_]],
    out: Path_,
    *,
    model: Union[Path_, Sequence[Path_]] = (),
    actors: Optional[int] = None,
    threads: int = 1,
    gpus: Optional[float] = None,
    address: Optional[str] = None,
    progress: Progress = None,
    **options: Any,
) -> Study:
    """What ``sonograd study`` does, over a Ray cluster.

    ``options`` are the command's: ``masks=960``, ``method=["spes", "gradient"]``,
    ``faithfulness=True``. Without ``actors`` there are as many as the cluster has
    room for, also when it grows; of more than that the others wait for room. Each
    takes ``threads`` processors, and ``gpus`` GPUs: one where the cluster has any
    and ``device`` is not ``cpu``. ``address`` is Ray's; a Ray that is connected
    already is taken, and left so. Ctrl-C ends it, and the tables are of what is done.

    Raises InputError, ModelError, DeviceError, MemoryError, MissingPackageError.
    """
    lists = [os.fspath(path) for path in _paths(manifests)]
    words = ["study", *lists, f"--out={os.fspath(out)}"]
    for name, given in {"model": _paths(model), **options}.items():
        option = "--" + name.replace("_", "-")
        if given is True:
            words.append(option)
        elif name == "method" and not isinstance(given, str):
            words.append(f"{option}={','.join(given)}")
        elif isinstance(given, (list, tuple)):
            words += [option, *map(os.fspath, given)] if given else []
        elif given is not None and given is not False:
            words.append(f"{option}={given}")
    found: List[str] = []
    with Telling(progress) as tell:

        def told(_: str, what: str, error: Optional[str], done: int, most: int, left: float) -> None:
            if error:
                found.append(f"{what}: {error}")
            if tell:
                tell("utterances", done, most)

        work = Work(words, actors, threads, gpus, address)
        finished = work.run(told, found.append)
    _warn(found)
    return Study(Path(out), *work.study.tables(), finished, found)


class Worker:
    """Owns a model, a device and a log. Where it died Ray makes it anew, and asks
    again: it goes on with its log, which no other has, so that an utterance whose
    line was written before the answer was lost is not done twice."""

    def __init__(self, folder: str, threads: int, gpu: bool, *asked: Any) -> None:
        os.chdir(folder)
        # Read when work is first spread over threads.
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        self._asked = (*asked, _gpu() if gpu else None)
        self._native: Optional[_native.StudyWorker] = None

    def _opened(self) -> _native.StudyWorker:
        if self._native is None:
            self._native = _native.StudyWorker(*self._asked)
        return self._native

    def todo(self) -> Tuple[List[int], Optional[str]]:
        return self._opened().todo()

    def take(self, place: int) -> Optional[str]:
        return self._opened().take(place)

    def close(self) -> None:
        self._native = None


def _gpu() -> str:
    """The PCI place of the GPU that Ray gave, or nothing: Vulkan, unlike CUDA, does
    not look at CUDA_VISIBLE_DEVICES."""
    import ray

    line = ["nvidia-smi", "--query-gpu=pci.bus_id", "--format=csv,noheader", "--id"]
    try:
        line.append(ray.get_runtime_context().get_accelerator_ids()["GPU"][0])
        said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    except (LookupError, OSError, subprocess.SubprocessError):
        return ""
    # It writes eight digits of the domain, Vulkan's drivers four.
    return said.strip().lower()[-12:]


class Work:
    def __init__(
        self,
        words: List[str],
        actors: Optional[int],
        threads: int,
        gpus: Optional[float],
        address: Optional[str],
    ) -> None:
        try:
            import ray
        except ImportError as problem:
            line = "studies over a cluster need Ray: pip install 'sonograd[ray]'"
            raise MissingPackageError(line) from problem
        if _count("threads", threads) == 0 or _count("actors", actors) == 0 or (gpus or 0) < 0:
            raise InputError(f"no work is done by {actors} actors of {threads} threads, {gpus} GPUs")
        # What is refused is refused before anything begins.
        self.study = _native.StudyShared(words)
        self.ray, self.words, self.actors, self.threads = ray, words, actors, threads
        self.begun = not ray.is_initialized()
        if self.begun:
            try:
                ray.init(address, include_dashboard=False, logging_level="WARNING")
            except (ConnectionError, RuntimeError, ValueError) as problem:
                raise SonogradError(f"Ray: {_line(problem)}") from problem
        if gpus is None:
            has = self.study.device != "cpu" and ray.cluster_resources().get("GPU")
            gpus = 1 if has else 0
        self.gpus = gpus
        self.actor = ray.remote(Worker).options(
            num_cpus=threads, num_gpus=gpus, max_restarts=-1, max_task_retries=_TRIES - 1
        )

    def run(self, tell: _Tell, warn: Callable[[str], object]) -> bool:
        """Returns whether it came to its end, with all that was handed out."""
        try:
            return all([self._model(k, tell, warn) for k in range(len(self.study.names))])
        except KeyboardInterrupt:
            warn("stopped; the same command goes on")
            return False
        finally:
            if self.begun:
                self.ray.shutdown()

    def _room(self) -> int:
        if self.actors is not None:
            return self.actors
        has = self.ray.cluster_resources()
        room = has.get("CPU", 0) // self.threads
        return max(1, int(min(room, has.get("GPU", 0) // self.gpus) if self.gpus else room))

    def _model(self, model: int, tell: _Tell, warn: Callable[[str], object]) -> bool:
        ray, name, all_items = self.ray, self.study.names[model], self.study.utterances
        numbers, whole, done, most, begin = count(1), True, 0, 0, 0.0
        left: Optional[Deque[int]] = None
        # By what is waited for: who does it, and the place of the utterance. One that
        # waits for room, or is made anew, has one too.
        busy: Dict[Any, Tuple[Any, Optional[int]]] = {}
        try:
            while left is None or done < most:
                while left != deque() and len(busy) < self._room():
                    asked = (self.words, model, next(numbers))
                    actor = self.actor.remote(os.getcwd(), self.threads, self.gpus > 0, *asked)
                    busy[actor.todo.remote()] = (actor, None)
                for ref in ray.wait(list(busy), timeout=_SECONDS)[0]:
                    actor, place = busy.pop(ref)
                    died = False
                    try:
                        answer = ray.get(ref)
                    except ray.exceptions.RayTaskError as problem:
                        cause = problem.cause
                        own = isinstance(cause, SonogradError)
                        raise (cause if own else SonogradError(_line(problem))) from None
                    except ray.exceptions.RayError as problem:
                        if place is None:
                            raise SonogradError(f"Ray: no worker: {_line(problem)}") from None
                        died, whole = True, False
                        answer = f"its worker died {_TRIES} times; it is left for the next run"
                    if place is not None:
                        done += 1
                        seconds = (most - done) * (time.monotonic() - begin) / done
                        what = "{} {}".format(*all_items[place])
                        tell(name, what, answer, done, most, seconds)
                    elif left is None:
                        left, most, begin = deque(answer[0]), len(answer[0]), time.monotonic()
                        if answer[1]:
                            warn(answer[1])
                    if left and not died:
                        place = left.popleft()
                        busy[actor.take.remote(place)] = (actor, place)
                    else:
                        # One that is made anew may wait for its room.
                        ray.wait([actor.close.remote()], timeout=_SECONDS)
                        ray.kill(actor)
            return whole
        finally:
            for actor, _ in busy.values():
                ray.kill(actor)


def _line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[-1] if lines else type(problem).__name__
