"""Shows objects and progress to people, in scripts, notebooks and terminals."""
