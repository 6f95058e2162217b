"""What the operator sees of the server: metrics, their page, spans, and what each person uses."""
