"""Forward passes: batches, the lanes that run them, and the rows that they yield."""
