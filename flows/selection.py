"""Which stages and shards a run is about."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from simsong.parts.compute import Done


class Selection(BaseModel):
    """None: all."""

    model_config = ConfigDict(frozen=True)

    stages: frozenset[str] | None = None
    shards: frozenset[int] | None = None

    def __contains__(self, stage: str) -> bool:
        return self.stages is None or stage in self.stages

    def of(self, done: Done) -> Done:
        """With the shards that are chosen."""
        if self.shards is None:
            return done
        return done.model_copy(update={"shards": tuple(s for s in done.shards if s in self.shards)})
