"""The contract's messages, made of what the engine gives, and read into what it takes."""
