"""Files that clients send: kept, told apart, and checked before anything of them is used."""
