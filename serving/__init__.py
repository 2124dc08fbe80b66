"""What follows the push: a server, its clients, and files for production."""
