"""Operations of our own: pyinfra's compose operation reports a change on every run, so a second apply would never be quiet."""
