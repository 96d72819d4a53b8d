"""PostgreSQL's protocol for people's programs, over hot and archived readings."""
