"""History from files straight into the database, without HTTP."""
