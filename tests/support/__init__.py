"""What several test files share: servers, calls, small networks, files and references."""
