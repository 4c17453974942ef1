"""Families of models: what their processors do with a video, and what their makers advise.

table      one row per family, with its sources
family     what a row has
counting   the tokens of a video
"""

from clipdex.families.family import Family, Times
from clipdex.families.table import DEFAULT, FAMILIES, by_name, by_type

__all__ = ["DEFAULT", "FAMILIES", "Family", "Times", "by_name", "by_type"]
