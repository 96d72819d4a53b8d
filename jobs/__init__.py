"""Work that somebody must start: each job is one async function that can be killed and run again."""
