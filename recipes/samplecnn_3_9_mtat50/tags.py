"""The fifty tags, in the order of the teacher's outputs and the student's."""

from samptag.data.formats.mtat import TAGS as PUBLISHED

__all__ = ["TAGS"]

# musicnn 0.1.0, configuration.py: MTT_LABELS, the order of its networks' outputs, has two tags of the published list in
# each other's place.
_SWAPPED = {"metal": "female voice", "female voice": "metal"}
TAGS = tuple(_SWAPPED.get(tag, tag) for tag in PUBLISHED)
