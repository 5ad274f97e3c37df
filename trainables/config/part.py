"""What every piece of a config shares: strict, frozen, closed to unknown keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Count", "Fraction", "NonNegative", "Part", "Positive"]

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A frozen piece of a config: unknown keys are errors and `true` is not a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)
