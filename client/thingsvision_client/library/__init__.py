"""Today's library, THINGSvision 2.x, by its own names: extractors and what they take and give."""
