"""What is measured, a file for each kind of rows; they know the columns by name only."""
