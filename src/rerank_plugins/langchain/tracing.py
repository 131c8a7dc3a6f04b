"""Metadata of LangChain runs."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseRunManager
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer


def add_metadata(run_manager: BaseRunManager, **values: Any) -> None:
    """Add to the metadata of a run that has begun, for which LangChain has no method.

    Handlers hold the run manager's own dictionary, and ``astream_events`` shows it again at the end of the run. Tracers
    may hold a copy (LangSmith's does in an agent, and where there is a ``configurable``): their runs are updated too.
    """
    run_manager.metadata.update(values)
    for handler in run_manager.handlers:
        if isinstance(handler, BaseTracer | AsyncBaseTracer):
            run = handler.run_map.get(str(run_manager.run_id))
            if run is not None:
                run.metadata.update(values)
