"""What a run in LangChain's traces is told while it goes on."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseRunManager
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer


def add_metadata(run_manager: BaseRunManager, **facts: Any) -> None:
    """Add to the metadata of a run that has begun; LangChain has no call for it.

    Handlers were given the run manager's own dictionary, and ``astream_events`` shows it again when the
    run ends. Tracers may have copied it (LangSmith's does in an agent, and where there is a
    ``configurable``), so their runs are written to as well.
    """
    run_manager.metadata.update(facts)
    for handler in run_manager.handlers:
        if isinstance(handler, BaseTracer | AsyncBaseTracer):
            run = handler.run_map.get(str(run_manager.run_id))
            if run is not None:
                run.metadata.update(facts)
