"""What every piece of a config shares: strict, frozen, closed to unknown keys."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LARGEST_INT", "Count", "Finite", "Fraction", "NonNegative", "Part", "Positive", "Whole", "every_key"]

LARGEST_INT = 2**53  # beyond it a float cannot count

Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=0, le=LARGEST_INT)]
Count = Annotated[int, Field(ge=1, le=LARGEST_INT)]


class Part(BaseModel):
    """A frozen piece of a config: unknown keys are errors and `true` is not a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


def every_key(part: BaseModel) -> dict[str, Any]:
    """`part` as plain data with every key, those included that a dump leaves out while they have their default."""
    dumped = part.model_dump(mode="json")
    values = {name: getattr(part, name) for name in type(part).model_fields}
    return {
        name: every_key(value) if isinstance(value, BaseModel) else dumped.get(name, value)
        for name, value in values.items()
    }
