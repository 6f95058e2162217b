"""Forward passes: batches, the lanes that run them, the rows that leave them."""
