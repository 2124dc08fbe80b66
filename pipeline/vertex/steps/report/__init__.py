"""The report on engines where no command line can write it."""
