"""Today's library, THINGSvision 2.x, under its own names: extractors, their inputs and outputs."""
