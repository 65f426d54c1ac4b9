"""Check the rows of datasets without a task: downloads them and runs the checking program as a child process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from contracts.checks import CheckReport, CheckRequest
from contracts.errors import FieldError, InvalidInput
from contracts.tasks import ModelSource
from control.apply.models import resolve_model
from control.gateway.errors import RequestRejected
from control.gateway.limits import Slots
from control.store.port import Store
from control.store.values import Dataset
from infra.artifacts import download, read_manifest
from infra.models.model_inputs import ModelLocation, model_inputs, with_hub_code
from infra.objects import ObjectStore
from infra.row_check import CheckSpec, run_check
from infra.settings import Settings

MAX_BYTES = 256 * 2**20
"""Largest size of the datasets of one check, together."""
TIMEOUT = 600.0
"""Seconds for one check."""
WAITING_TIMEOUT = 30
"""Seconds for which a check may wait for the one that runs; also the seconds after which a client may retry."""
MAX_WAITING = 4
"""Checks that may wait at a time."""
WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
"""Endings of files that a check does not download from a model's artifact."""


class RowChecks:
    """Checks one dataset at a time, because a check takes a whole processor core."""

    def __init__(self, store: Store, objects: ObjectStore, settings: Settings, program: str | None) -> None:
        self._store = store
        self._objects = objects
        self._settings = settings
        self._program = program
        self._one_at_a_time = asyncio.Semaphore(1)
        self._waiting = Slots("checks of rows", MAX_WAITING)

    async def check(self, datasets: Mapping[str, Dataset], request: CheckRequest) -> CheckReport:
        """Check the datasets; `datasets` has `train` and, if given, `dev` and `test`.

        Raises RequestRejected if they are too large, if this process cannot run the program, or if another check takes
        long, and InvalidInput if the model's name has no meaning.
        """
        _require_small(datasets)
        program = self._require_program()
        model = await self._model(request.model_name) if request.model_name else None
        async with self._slot():
            with TemporaryDirectory(prefix="treadle-check-") as folder:
                try:
                    async with asyncio.timeout(TIMEOUT):
                        return await self._run(program, Path(folder), datasets, request, model)
                except TimeoutError as error:
                    message = f"the check took more than {TIMEOUT:.0f} s; run `treadle check FILE` instead"
                    raise RequestRejected(HTTPStatus.GATEWAY_TIMEOUT, "datasetId", message) from error

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Hold the only slot. Raises RequestRejected if it does not become free in time, or if many others wait."""
        try:
            with self._waiting.take():
                async with asyncio.timeout(WAITING_TIMEOUT):
                    await self._one_at_a_time.acquire()
        except TimeoutError as error:
            message = (
                "this server checks one dataset at a time, and another check is running; "
                f"retry in {WAITING_TIMEOUT} s, or run `treadle check FILE` instead"
            )
            raise RequestRejected(
                HTTPStatus.SERVICE_UNAVAILABLE, "datasetId", message, retry_after=WAITING_TIMEOUT
            ) from error
        try:
            yield
        finally:
            self._one_at_a_time.release()

    async def _run(
        self,
        program: str,
        folder: Path,
        datasets: Mapping[str, Dataset],
        request: CheckRequest,
        model: ModelSource | None,
    ) -> CheckReport:
        for name, dataset in datasets.items():
            await download(self._objects, dataset.storage_path, folder / "input" / name)
        spec = CheckSpec(
            datasets={name: dataset.dataset_id for name, dataset in datasets.items()},
            options=request.optimization,
            seed=request.seed,
            model=await self._download_model(model, folder) if model else None,
            max_length=request.max_length,
        )
        if self._settings.allow_remote_code:
            spec = with_hub_code(spec)
        return await run_check(program, folder, spec, lambda _: None)

    async def _download_model(self, model: ModelSource, folder: Path) -> ModelLocation:
        """Download the files that are no weights; return the location for the program."""
        inputs, location = model_inputs(model)
        for name, prefix in inputs.items():
            manifest = await read_manifest(self._objects, prefix)
            for file in manifest.files if manifest else ():
                if not file.name.endswith(WEIGHTS):
                    await download(self._objects, f"{prefix}#{file.name}", folder / "input" / name)
        return location

    async def _model(self, name: str) -> ModelSource:
        model = await resolve_model(name, self._store, self._settings)
        if isinstance(model, FieldError):
            raise InvalidInput((model,))
        return model

    def _require_program(self) -> str:
        if self._program is None or find_spec("sklearn") is None:
            message = "this server has no libraries to check rows; run `treadle check FILE` on a machine that trains"
            raise RequestRejected(HTTPStatus.NOT_IMPLEMENTED, "datasetId", message)
        return self._program


def _require_small(datasets: Mapping[str, Dataset]) -> None:
    size = sum(dataset.file_size for dataset in datasets.values())
    if size > MAX_BYTES:
        message = f"expected at most {MAX_BYTES:,} bytes, got {size:,}; run `treadle check FILE` instead"
        raise RequestRejected(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "datasetId", message)
