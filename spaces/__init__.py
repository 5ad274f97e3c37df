"""What may be searched: spaces as data, and the studies that ship. Imports nothing heavy."""

from spaces.domains import Choice, Domain, Entry, Fixed, Float, Int, Parameter, Scalar, Space
from spaces.grammar import parse_space, read_space, space_tree
from spaces.narrow import at_most, fix, given, rewrite
from spaces.space import Point, check, conditions_of, locate, path_of, space_rows, walk
from spaces.studies import read_study, study_names

__all__ = [
    "Choice", "Domain", "Entry", "Fixed", "Float", "Int", "Parameter", "Point", "Scalar", "Space",
    "at_most", "check", "conditions_of", "fix", "given", "locate", "parse_space", "path_of", "read_space", "read_study",
    "rewrite", "space_rows", "space_tree", "study_names", "walk",
]  # fmt: skip
