"""What should be (Deployment), what is (Observed), and the one diff of the two (Plan)."""
