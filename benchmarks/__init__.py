"""What is measured, and with what; README.md says how to run it."""
