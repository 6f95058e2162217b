"""Long extractions on disk: written in chunks, resumed by the same call, checked afterwards."""

from .bad_images import of_present
from .feature_file import extract_to_file, read_skipped
from .feature_folder import OUTPUT_FORMATS, FolderOptions, extract_to_folder
from .task import Task

__all__ = [
    "OUTPUT_FORMATS",
    "FolderOptions",
    "Task",
    "extract_to_file",
    "extract_to_folder",
    "of_present",
    "read_skipped",
]
