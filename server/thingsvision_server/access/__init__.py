"""Who may call the server, and what each of these people may do."""
