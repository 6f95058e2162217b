"""What requests and replies are made of: frozen values that check what they are given."""
