"""Many recordings: in this process, in several, on a cluster; resumable; a broken one is reported and passed over."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .. import __version__
from ..config import EvaluateConfig, FlightConfig
from ..errors import MissingDependency, UavPerceptionError
from .evaluate import Options, evaluate_recording
from .exports import code_commit, write_json

log = logging.getLogger(__name__)
Progress = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """One recording, self-contained, so that it can travel to another process or machine."""

    name: str
    path: str
    out: str
    config: FlightConfig
    settings: EvaluateConfig
    options: Options

    def key(self) -> str:
        """Fingerprint of everything the result depends on that can be seen without reading the recording."""
        path = Path(self.path)
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        files += [p for p in map(Path, (self.options.truth_file, self.config.detector.model)) if p.is_file()]
        seen = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
        what = [__version__, code_commit(), repr(self.config), repr(self.settings), repr(self.options), seen]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def make_jobs(paths: list[Path], out: Path, config: FlightConfig, settings: EvaluateConfig,
              options: Options) -> list[Job]:
    """One job a recording, each with a folder of its own under ``out``."""
    jobs: list[Job] = []
    for path in paths:
        base = re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem if path.is_file() else path.name) or "recording"
        same = sum(re.fullmatch(rf"{re.escape(base)}(_\d+)?", j.name) is not None for j in jobs)
        name = f"{base}_{same + 1}" if same else base
        jobs.append(Job(name, str(path), str(out / name), config, settings, options))
    return jobs


def run_job(job: Job, alone: bool = False) -> dict[str, Any]:
    """Evaluate one recording, or take its finished result; what is wrong with it becomes a result with ``error``.

    ``alone``: no other job runs on this machine meanwhile.
    """
    out = Path(job.out)
    try:
        key = job.key()
        done = _finished(out, key)
        if done is not None:
            return done
        result = evaluate_recording(Path(job.path), out, job.config, job.settings, job.options, alone)
    except UavPerceptionError as e:
        return {"name": job.name, "path": job.path, "error": f"{type(e).__name__}: {e}"}
    except OSError as e:
        return {"name": job.name, "path": job.path, "error": f"SourceError: {job.path}: {e.strerror or e}"}
    except Exception as e:  # a defect that one recording brings to light must not cost the results of the others
        log.exception("evaluation of %s failed", job.path)
        said = " ".join(f"WorkFailed: {type(e).__name__}: {e}".split())
        return {"name": job.name, "path": job.path, "error": said}
    result = {"name": job.name, "path": job.path, **result}
    write_json(out / "result.json", result)
    write_json(out / "done.json", {"key": key})
    return result


def _finished(out: Path, key: str) -> dict[str, Any] | None:
    try:
        if json.loads((out / "done.json").read_text())["key"] == key:
            result: dict[str, Any] = json.loads((out / "result.json").read_text())
            return result
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def run_jobs(jobs: list[Job], workers: int = 1, cluster: str = "",
             progress: Progress = lambda name, result: None) -> list[dict[str, Any]]:
    """Results in the order of the jobs, whatever ran where: the numbers are the same.

    Args:
        jobs: what to do.
        workers: processes on this machine.
        cluster: address of a dask.distributed scheduler; its workers must see the same paths.
        progress: called with each name and result as it comes.
    """
    results: dict[str, dict[str, Any]] = {}
    finished = _on_cluster(jobs, cluster) if cluster else _here(jobs, workers)
    for name, result in finished:
        results[name] = result
        progress(name, result)
    return [results[job.name] for job in jobs]


def _here(jobs: list[Job], workers: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job.name, run_job(job, alone=True)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run_job, job): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            try:
                yield job.name, future.result()
            except Exception as e:  # a worker that died (out of memory, a crash in a library) takes no other job along
                yield job.name, {"name": job.name, "path": job.path,
                                 "error": f"WorkFailed: the process evaluating it ended ({type(e).__name__}: {e})"}


def _on_cluster(jobs: list[Job], address: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from distributed import Client
        from distributed import as_completed as as_completed_there
    except ImportError as e:
        raise MissingDependency(f"--cluster {address} ({e})", "the `cluster` extra",
                                "pip install 'uav-perception[cluster]'") from e
    try:
        client = Client(address, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as e:
        raise MissingDependency(f"cluster {address} ({str(e).splitlines()[0]})", "a running dask scheduler",
                                "start `dask scheduler` and `dask worker ADDRESS --nthreads 1`") from e
    with client:
        absolute = [dataclasses.replace(j, path=str(Path(j.path).resolve()), out=str(Path(j.out).resolve()))
                    for j in jobs]
        futures = {client.submit(run_job, there, key=f"{here.name}-{there.key()}", pure=False): here
                   for here, there in zip(jobs, absolute, strict=True)}
        for future in as_completed_there(futures):  # type: ignore[no-untyped-call]
            job = futures[future]
            if future.status == "finished":
                yield job.name, {**future.result(), "path": job.path}
            else:
                yield job.name, {"name": job.name, "path": job.path,
                                 "error": f"WorkFailed: the worker evaluating it failed ({future.exception()})"}
