"""The data doctor: what is wrong with images and their labels, before anything is trained on them."""

from __future__ import annotations

from trainables.inspection.doctor import Inspection, inspect_images

__all__ = ["Inspection", "inspect_images"]
