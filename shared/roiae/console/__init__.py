"""What a person at a terminal meets on either side: commands, findings of a doctor, log lines."""
