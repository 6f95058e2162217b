"""The rows that can be measured, one file per kind; columns are named by their modules."""
